//! Values from the path of a source: partitioned tables hold some columns in folder names,
//! `date=2024-03-14/part-0.csv`, and not in the file.

use crate::schema::names::name_key;
use crate::value::text::quoted;

/// The folder value that means null, as Hive writes it.
const NOTHING: &str = "__HIVE_DEFAULT_PARTITION__";
/// Most folders shown in an error.
const SHOWN: usize = 10;

/// Why a mapping does not fit the path of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No folder has the name.
    #[error(
        "the mapping takes {} from the path, but no folder is named `{name}=…`; the folders with a value are {}",
        quoted(name),
        shown(found)
    )]
    Missing {
        /// The name in the mapping.
        name: String,
        /// The folders with a name and a value.
        found: Vec<String>,
    },
    /// Several folders have the name, with different values.
    #[error("the mapping takes {} from the path, which has it twice: {}", quoted(name), shown(found))]
    Several {
        /// The name in the mapping.
        name: String,
        /// The folders with the name.
        found: Vec<String>,
    },
    /// The value is not text.
    #[error("the folder {} of the path is not text after percent-decoding", quoted(.0))]
    NotText(String),
}

fn shown(folders: &[String]) -> String {
    if folders.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = folders.iter().take(SHOWN).map(|folder| quoted(folder)).collect();
    shown.join(", ")
}

/// The value of a folder in the path of a location; empty if it means null.
pub(super) fn value_of(location: &str, name: &str) -> Result<String, PathError> {
    let folders: Vec<(&str, &str)> = folders(location).collect();
    let named = |(key, _): &&(&str, &str)| percent_decoded(key).is_some_and(|key| name_key(&key) == name_key(name));
    let mut values = Vec::new();
    for (key, value) in folders.iter().filter(named) {
        let value = percent_decoded(value).ok_or_else(|| PathError::NotText(format!("{key}={value}")))?;
        values.push(if value == NOTHING { String::new() } else { value });
    }
    let shown = |folders: Vec<&(&str, &str)>| folders.iter().map(|(key, value)| format!("{key}={value}")).collect();
    values.dedup();
    match values.len() {
        1 => Ok(values.remove(0)),
        0 => Err(PathError::Missing { name: name.to_owned(), found: shown(folders.iter().collect()) }),
        _ => Err(PathError::Several { name: name.to_owned(), found: shown(folders.iter().filter(named).collect()) }),
    }
}

fn folders(location: &str) -> impl Iterator<Item = (&str, &str)> {
    let above = location.rsplit_once('/').map_or("", |(above, _)| above);
    above.split('/').filter_map(|folder| folder.split_once('=')).filter(|(name, _)| !name.trim().is_empty())
}

/// Decodes `%2F` and the like; a percent sign without two hex digits after it is literal.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let byte = match behind {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_value_for_its_name() {
        for (location, name, expected) in [
            ("/data/date=2024-03-14/part-0.csv", "date", "2024-03-14"),
            ("/data/date=2024-03-14/hour=10/part-0.csv", "hour", "10"),
            ("s3://bucket/t/dt=2024-03-14%2010%3A00%3A00/x.csv", "dt", "2024-03-14 10:00:00"),
            ("s3://bucket/Land=%C3%84/x", "land", "Ä"),
            ("s3://bucket/a=b=c/x", "a", "b=c"),
            ("s3://bucket/a=100%/x", "a", "100%"),
            ("s3://bucket/a=5%zz/x", "a", "5%zz"),
            ("s3://bucket/a=1/a=1/x", "a", "1"),
            ("s3://bucket/a=__HIVE_DEFAULT_PARTITION__/x", "a", ""),
            ("s3://bucket/a=/x", "a", ""),
        ] {
            assert_eq!(value_of(location, name).as_deref(), Ok(expected), "{location}");
        }
    }

    #[test]
    fn a_missing_folder_is_reported_with_the_existing_ones() {
        for (location, expected) in [
            (
                "/data/day=1/hour=2/date=3.csv",
                "the mapping takes `date` from the path, but no folder is named `date=…`; the folders with a value are `day=1`, `hour=2`",
            ),
            (
                "part-0.csv",
                "the mapping takes `date` from the path, but no folder is named `date=…`; the folders with a value are none",
            ),
            (
                "/date=1/x/DATE=2/a.csv",
                "the mapping takes `date` from the path, which has it twice: `date=1`, `DATE=2`",
            ),
            ("/date=%ff/a.csv", "the folder `date=%ff` of the path is not text after percent-decoding"),
        ] {
            assert_eq!(value_of(location, "date").unwrap_err().to_string(), expected, "{location}");
        }
    }
}
