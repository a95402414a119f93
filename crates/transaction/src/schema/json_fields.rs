//! A JSON object as the fields of a row: each value as the text it is written as.
//!
//! A string is its characters, a number its digits as written (nothing passes through a float), `true` and `false` are
//! words, `null` is an empty field, and an array or object is its own JSON. Keys without a column are kept separately.
//!
//! A header name with dots that a mapping names is a path through objects, unless the row has a key that equals the
//! whole name: `payload.after.amount`. Array elements have no paths.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::schema::names::name_key;
use crate::{FieldAccess, Mapping, ReadingRules, RejectReason, RunSettings};

/// Separates the names of a path.
const STEP: char = '.';

/// The position of each header name; names are compared as in all headers.
#[derive(Debug, Clone)]
pub struct JsonNames {
    places: PathLevel,
    count: usize,
}

#[derive(Debug, Clone, Default)]
struct PathLevel {
    /// Positions of fields, by header name and by comparison key.
    places: HashMap<String, usize>,
    /// Objects on a path.
    objects: HashMap<String, PathLevel>,
}

impl PathLevel {
    fn insert(&mut self, name: &str, place: usize) {
        self.places.insert(name_key(name), place);
        self.places.insert(name.to_owned(), place);
    }

    fn insert_path(&mut self, path: &str, place: usize) {
        if let Some((object, inner)) = path.split_once(STEP) {
            let object = self.objects.entry(name_key(object)).or_default();
            object.insert(inner, place);
            object.insert_path(inner, place);
        }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).or_else(|| self.places.get(&name_key(name))).copied()
    }

    /// The level below and its members, if a path goes through a member of that name and the member is an object or null.
    fn enter<'a>(&self, name: &str, value: &'a RawValue) -> Result<Option<(&Self, JsonMembers<'a>)>, RejectReason> {
        if self.objects.is_empty() || !value.get().starts_with(['{', 'n']) {
            return Ok(None);
        }
        let Some(level) = self.objects.get(&name_key(name)) else { return Ok(None) };
        if value.get().starts_with('n') {
            return Ok(Some((level, JsonMembers::new())));
        }
        let members = json_members(value.get().as_bytes()).map_err(|_| RejectReason::JsonFormat)?;
        Ok(Some((level, members)))
    }
}

/// The values of an object while they are collected, each with its depth: the outermost counts.
type CollectedValues<'a> = Vec<Option<(usize, FieldValue<'a>)>>;

/// The values of an object in header order.
#[derive(Debug)]
pub struct JsonFields<'a> {
    values: Vec<Option<FieldValue<'a>>>,
    extras: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// A value as the text of a field, and its JSON kind.
#[derive(Debug, Clone)]
struct FieldValue<'a> {
    text: Cow<'a, str>,
    kind: JsonKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonKind {
    /// A string, or `null`, which is an empty field.
    Text,
    Number,
    /// `true`, `false`, an array or an object.
    Other,
}

impl JsonNames {
    /// For a header without paths.
    pub fn new(header: &[String]) -> Self {
        let mut places = PathLevel::default();
        for (place, name) in header.iter().enumerate() {
            places.insert(name, place);
        }
        Self { places, count: header.len() }
    }

    /// For a header whose mapping may name paths.
    pub fn mapped(header: &[String], mapping: Option<&Mapping>) -> Self {
        let mut names = Self::new(header);
        let paths: BTreeSet<String> =
            mapping.map(|mapping| mapping.paths().into_iter().map(name_key).collect()).unwrap_or_default();
        for (place, name) in header.iter().enumerate().filter(|(_, name)| paths.contains(&name_key(name))) {
            names.places.insert_path(name, place);
        }
        names
    }

    /// For a run. Under the first rules no name was a path.
    pub fn of_run(settings: &RunSettings) -> Self {
        let mapping = settings.mapping.as_deref().filter(|_| settings.reading != ReadingRules::First);
        Self::mapped(&settings.header, mapping)
    }

    /// Puts the values of an object into header order. Fails if it is not an object, or repeats a name.
    pub fn fields<'a>(&self, object: &'a [u8]) -> Result<JsonFields<'a>, RejectReason> {
        let members = json_members(object).map_err(|_| match std::str::from_utf8(object) {
            Ok(_) => RejectReason::JsonFormat,
            Err(_) => RejectReason::Encoding,
        })?;
        let mut values: CollectedValues<'_> = vec![None; self.count];
        let mut extras: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        let mut opened: Vec<Cow<'_, str>> = Vec::new();
        for (name, value) in members {
            if let Some((level, members)) = self.places.enter(&name, value)? {
                collect_paths(level, members, 1, &mut values)?;
                if self.places.place(&name).is_none() {
                    if opened.contains(&name) {
                        return Err(RejectReason::JsonFormat);
                    }
                    opened.push(name);
                    continue;
                }
            }
            let value = FieldValue::of(value)?;
            match self.places.place(&name) {
                Some(place) => insert_value(&mut values[place], 0, value)?,
                None if !extras.iter().any(|(other, _)| *other == name) => extras.push((name, value.text)),
                None => return Err(RejectReason::JsonFormat),
            }
        }
        let values = values.into_iter().map(|value| value.map(|(_, value)| value)).collect();
        Ok(JsonFields { values, extras })
    }
}

fn collect_paths<'a>(
    level: &PathLevel,
    members: JsonMembers<'a>,
    depth: usize,
    values: &mut CollectedValues<'a>,
) -> Result<(), RejectReason> {
    for (name, value) in members {
        if let Some((level, members)) = level.enter(&name, value)? {
            collect_paths(level, members, depth + 1, values)?;
        }
        if let Some(place) = level.place(&name) {
            insert_value(&mut values[place], depth, FieldValue::of(value)?)?;
        }
    }
    Ok(())
}

/// Stores a value unless one from further outside is there; two at the same depth are an error.
fn insert_value<'a>(
    place: &mut Option<(usize, FieldValue<'a>)>,
    depth: usize,
    value: FieldValue<'a>,
) -> Result<(), RejectReason> {
    match place {
        Some((other, _)) if *other == depth => return Err(RejectReason::JsonFormat),
        Some((other, _)) if *other < depth => {}
        place => *place = Some((depth, value)),
    }
    Ok(())
}

impl<'a> FieldValue<'a> {
    fn of(value: &'a RawValue) -> Result<Self, RejectReason> {
        let kind = match value.get().as_bytes().first() {
            Some(b'"' | b'n') => JsonKind::Text,
            Some(b'-' | b'0'..=b'9') => JsonKind::Number,
            _ => JsonKind::Other,
        };
        let text = text(value).ok_or(RejectReason::JsonFormat)?;
        Ok(Self { text, kind })
    }
}

impl JsonFields<'_> {
    /// Whether a field is text, a number or absent, and not a boolean, array or object.
    pub fn is_text_or_number(&self, index: usize) -> bool {
        self.values.get(index).and_then(Option::as_ref).is_none_or(|value| value.kind != JsonKind::Other)
    }
}

impl FieldAccess for JsonFields<'_> {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        self.values.get(index).map(|value| value.as_ref().map_or(&[][..], |value| value.text.as_bytes()))
    }

    fn is_number(&self, index: usize) -> bool {
        self.values.get(index).and_then(Option::as_ref).is_some_and(|value| value.kind == JsonKind::Number)
    }

    fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.extras.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

type JsonMembers<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// The members of an object, in order.
pub fn json_members(object: &[u8]) -> serde_json::Result<JsonMembers<'_>> {
    struct MembersVisitor;
    impl<'de> Visitor<'de> for MembersVisitor {
        type Value = JsonMembers<'de>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some(JsonText(name)) = map.next_key()? {
                members.push((name, map.next_value()?));
            }
            Ok(members)
        }
    }
    let text = std::str::from_utf8(object).map_err(serde_json::Error::custom)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(MembersVisitor)?;
    deserializer.end()?;
    Ok(members)
}

/// A string, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<JsonText<'_>>(json).ok().map(|JsonText(text)| text),
        b'n' => Some(Cow::Borrowed("")),
        _ => Some(Cow::Borrowed(json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &[&str], mapping: &str, object: &str) -> Result<String, RejectReason> {
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        let names = JsonNames::mapped(&header, Some(&serde_json::from_str(mapping).unwrap()));
        let fields = names.fields(object.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let values = (0..fields.count()).map(|index| text(fields.get(index).unwrap()));
        let extras = fields.extras().map(|(name, value)| format!("{}={}", text(name), text(value)));
        Ok(values.chain(extras).collect::<Vec<_>>().join(";"))
    }

    #[test]
    fn a_path_leads_through_objects() {
        let mapping = r#"{"id":"payload.after.id","amount":"amount.$numberDecimal"}"#;
        let header = ["payload.after.id", "amount.$numberDecimal", "side"];
        for (object, expected) in [
            (r#"{"payload":{"after":{"id":7}},"amount":{"$numberDecimal":"-1.50"},"side":"s"}"#, "7;-1.50;s"),
            (r#"{"Payload":{"AFTER ":{"ID":"é\u0021"}},"amount":{"$numberDecimal":1.50},"side":"s"}"#, "é!;1.50;s"),
            (r#"{"payload":{"after":null},"amount":null,"side":null,"x":1}"#, ";;;x=1"),
            (r#"{"side":"s"}"#, ";;s"),
            (r#"{"payload":"text","side":"s"}"#, ";;s;payload=text"),
            (r#"{"payload":[{"after":{"id":7}}],"side":"s"}"#, ";;s;payload=[{\"after\":{\"id\":7}}]"),
            (r#"{"payload.after.id":1,"payload":{"after":{"id":2}},"side":"s"}"#, "1;;s"),
            (r#"{"payload":{"after":{"id":2}},"payload.after.id":1,"side":"s"}"#, "1;;s"),
            (r#"{"payload":{"after.id":3,"after":{"id":4}},"side":"s"}"#, "3;;s"),
            (r#"{"payload":{"after":{"id":{"x":[1, 2]}}},"side":"s"}"#, "{\"x\":[1, 2]};;s"),
        ] {
            assert_eq!(read(&header, mapping, object).as_deref(), Ok(expected), "{object}");
        }
        for object in [
            r#"{"payload":{"after":{"id":1,"id":2}}}"#,
            r#"{"payload":{"after":{"id":1}},"payload":{"after":{"id":1}}}"#,
            r#"{"payload":{"before":1},"payload":{"before":1}}"#,
            r#"{"payload":{"after":{"id":1},"AFTER":{"id":1}}}"#,
            r#"{"side":1,"side":2}"#,
            r#"{"x":1,"x":2}"#,
        ] {
            assert_eq!(read(&header, mapping, object), Err(RejectReason::JsonFormat), "{object}");
        }
    }

    #[test]
    fn an_object_may_also_be_kept_whole() {
        let mapping = r#"{"id":"m.id","attributes":{"keep":["m"]}}"#;
        assert_eq!(read(&["m", "m.id"], mapping, r#"{"m":{"id":1}}"#).as_deref(), Ok(r#"{"id":1};1"#));
    }

    #[test]
    fn a_dotted_name_is_a_path_only_if_a_mapping_names_it() {
        assert_eq!(read(&["a.b"], "{}", r#"{"a":{"b":1}}"#).as_deref(), Ok(r#";a={"b":1}"#));
        let settings = RunSettings {
            header: vec!["a.b".to_owned()],
            mapping: Some(std::sync::Arc::new(serde_json::from_str(r#"{"id":"a.b"}"#).unwrap())),
            ..RunSettings::example()
        };
        let id = |settings: &RunSettings| {
            let fields = JsonNames::of_run(settings);
            let fields = fields.fields(br#"{"a":{"b":1}}"#).unwrap();
            fields.get(0).map(<[u8]>::to_vec)
        };
        assert_eq!(id(&settings), Some(b"1".to_vec()));
        let before = RunSettings { reading: ReadingRules::First, ..settings };
        assert_eq!(id(&before), Some(Vec::new()), "as it was under the first rules");
    }

    #[test]
    fn a_number_inside_an_object_stays_a_number() {
        let header = ["a.b".to_owned()];
        let names = JsonNames::mapped(&header, Some(&serde_json::from_str(r#"{"amount":"a.b"}"#).unwrap()));
        assert!(names.fields(br#"{"a":{"b":3.000}}"#).unwrap().is_number(0));
        assert!(!names.fields(br#"{"a":{"b":"3.000"}}"#).unwrap().is_number(0));
    }
}
