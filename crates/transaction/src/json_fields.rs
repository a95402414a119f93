//! A JSON object as the fields of a row: its values as the texts they are written as.
//!
//! A string is its characters, a number its digits as they stand there (nothing passes through a float), `true` and `false`
//! are words, `null` is an empty field, and an array or an object is its own JSON. What the header lacks is kept beside it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Fields, RejectReason};

/// Where each name of a header stands. Names match without regard to case, as in the header of a CSV source.
#[derive(Debug, Clone)]
pub struct JsonNames {
    places: HashMap<String, usize>,
    count: usize,
}

/// The values of one object, in the order of a header.
#[derive(Debug)]
pub struct JsonFields<'a> {
    values: Vec<Option<Value<'a>>>,
    extras: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// A value as the text of a field, and whether it is a number of JSON.
#[derive(Debug, Clone)]
struct Value<'a> {
    text: Cow<'a, str>,
    is_number: bool,
}

impl JsonNames {
    /// The names of a header, in its order.
    pub fn new(header: &[String]) -> Self {
        let places = header.iter().enumerate().map(|(place, name)| (name.to_lowercase(), place)).collect();
        Self { places, count: header.len() }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).or_else(|| self.places.get(&name.trim().to_lowercase())).copied()
    }

    /// Puts the values of an object into the order of the header. Fails for what is no object, or names something twice.
    pub fn fields<'a>(&self, object: &'a [u8]) -> Result<JsonFields<'a>, RejectReason> {
        let members = json_members(object).map_err(|_| match std::str::from_utf8(object) {
            Ok(_) => RejectReason::JsonFormat,
            Err(_) => RejectReason::Encoding,
        })?;
        let mut values = vec![None; self.count];
        let mut extras: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        for (name, value) in members {
            let is_number = value.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
            let text = text(value).ok_or(RejectReason::JsonFormat)?;
            match self.place(&name) {
                Some(place) if values[place].is_none() => values[place] = Some(Value { text, is_number }),
                None if !extras.iter().any(|(other, _)| *other == name) => extras.push((name, text)),
                _ => return Err(RejectReason::JsonFormat),
            }
        }
        Ok(JsonFields { values, extras })
    }
}

impl Fields for JsonFields<'_> {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        self.values.get(index).map(|value| value.as_ref().map_or(&[][..], |value| value.text.as_bytes()))
    }

    fn is_number(&self, index: usize) -> bool {
        self.values.get(index).and_then(Option::as_ref).is_some_and(|value| value.is_number)
    }

    fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.extras.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

/// The members of an object, in its order.
pub fn json_members(object: &[u8]) -> serde_json::Result<Vec<(Cow<'_, str>, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some(Name(name)) = map.next_key()? {
                members.push((name, map.next_value()?));
            }
            Ok(members)
        }
    }
    let text = std::str::from_utf8(object).map_err(serde_json::Error::custom)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members)?;
    deserializer.end()?;
    Ok(members)
}

/// A name, borrowed where nothing in it is escaped.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value as the text of a field.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Name<'_>>(json).ok().map(|Name(text)| text),
        b'n' => Some(Cow::Borrowed("")),
        _ => Some(Cow::Borrowed(json)),
    }
}
