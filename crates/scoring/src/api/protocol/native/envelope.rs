//! Where the entries of a response are: it is an array of them, or an object that has exactly one such array.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::ResponseError;
use crate::api::error_body::{ERROR_KEYS, is_said};

/// The entries of a response, and what stands beside them.
pub(super) struct Envelope<'a> {
    /// The array, as it came.
    pub(super) entries: &'a str,
    /// Counts for each entry that has none.
    pub(super) model_version: Option<&'a RawValue>,
}

/// Finds the entries of a response.
pub(super) fn open(text: &str) -> Result<Envelope<'_>, ResponseError> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| why_no_json(text, &error))?;
    match first_byte(whole) {
        Some(b'[') => Ok(Envelope { entries: whole.get(), model_version: None }),
        Some(b'{') => open_object(whole),
        _ => Err("response is neither a JSON array nor an object".into()),
    }
}

fn open_object(object: &RawValue) -> Result<Envelope<'_>, ResponseError> {
    let Members(members) = serde_json::from_str(object.get()).map_err(|_| "response has names that are no text")?;
    let member =
        |name: &str| members.iter().find(|(key, value)| key == name && is_said(value.get())).map(|(_, value)| *value);
    let arrays: Vec<&RawValue> = members
        .iter()
        .filter(|(key, value)| first_byte(value) == Some(b'[') && !ERROR_KEYS.contains(&key.as_str()))
        .map(|(_, value)| *value)
        .collect();
    let filled: Vec<&RawValue> = arrays.iter().copied().filter(|array| has_objects(array)).collect();
    let array = match (&filled[..], &arrays[..], ERROR_KEYS.iter().find(|key| member(key).is_some())) {
        ([array], _, _) | ([], [array], None) => array,
        ([], _, Some(key)) => return Err(format!("response is an error: an object with `{key}`").into()),
        ([], [], None) => return Err("response is an object without an array of predictions".into()),
        _ => return Err("response is an object with several arrays, any of which may be the predictions".into()),
    };
    Ok(Envelope { entries: array.get(), model_version: member("model_version") })
}

/// Why a text is not JSON, as far as that shows.
fn why_no_json(text: &str, error: &serde_json::Error) -> &'static str {
    match text.trim_start().as_bytes() {
        [] => "response is empty",
        [b'<', ..] => "response is a page of HTML or XML, not JSON",
        _ if error.is_eof() => "response is cut off",
        _ => "response is not JSON",
    }
}

fn first_byte(value: &RawValue) -> Option<u8> {
    value.get().bytes().next()
}

/// Whether the first item of an array is an object.
fn has_objects(array: &RawValue) -> bool {
    array.get().strip_prefix('[').is_some_and(|items| items.trim_start().starts_with('{'))
}

/// The members of an object, those with the same name included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_are_found_where_there_is_one_array() {
        let cases = [
            (" [1] ", "[1]", None),
            (r#"{"predictions":[{"a":1}]}"#, r#"[{"a":1}]"#, None),
            (r#"{"model_version":"7","results": [ {}, {} ],"count":2}"#, "[ {}, {} ]", Some("\"7\"")),
            (r#"{"data":[{}],"warnings":[],"classes":["a","b"],"model_version":null}"#, "[{}]", None),
            (r#"{"data":[{}],"errors":[],"error":null,"message":"ok"}"#, "[{}]", None),
            (r#"{"predictions":[]}"#, "[]", None),
            (r#"{"predictions":[0.5],"error":false}"#, "[0.5]", None),
        ];
        for (text, expected, version) in cases {
            let found = open(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!((found.entries, found.model_version.map(RawValue::get)), (expected, version), "{text}");
        }
    }

    #[test]
    fn what_holds_no_entries_says_why() {
        let cases = [
            ("", "response is empty"),
            (" \n", "response is empty"),
            ("<html>", "a page of HTML"),
            ("[{}", "cut off"),
            (r#"{"predictions":[{}"#, "cut off"),
            ("[] []", "not JSON"),
            ("null", "neither"),
            ("0.5", "neither"),
            ("{}", "without an array"),
            (r#"{"status":"ok"}"#, "without an array"),
            (r#"{"error":"model not loaded","status":"failed"}"#, "an error: an object with `error`"),
            (r#"{"detail":[{"loc":["body"],"type":"missing"}]}"#, "an error: an object with `detail`"),
            (r#"{"message":"Internal error","predictions":[]}"#, "an error: an object with `message`"),
            (r#"{"errors":[{"message":"no"}],"data":null}"#, "an error: an object with `errors`"),
            (r#"{"a":[{}],"b":[{}]}"#, "several arrays"),
            (r#"{"a":[{}],"a":[{}]}"#, "several arrays"),
            (r#"{"a":[1],"b":[2]}"#, "several arrays"),
        ];
        for (text, expected) in cases {
            let Err(ResponseError::Unreadable(why)) = open(text) else { panic!("{text}") };
            assert!(why.as_str().contains(expected), "{text}: {why}");
        }
    }
}
