//! Answers without ids: the first entry is about the first row. So there must be exactly as many entries as rows were asked for.
//!
//! A difference in form is told from a value that cannot be used: the first is a setting's fault, the second a row's.

use std::borrow::Cow;

use assay_transaction::Prediction;
use serde_json::Value;
use serde_json::value::RawValue;

use super::features::{AnswerSpec, EntryProblem, Place, kind_of};
use super::native::{Texts, replace_bare_words};
use super::{ResponseError, RowResult};

/// Why a row has no prediction where others have one.
const LACKING: &str = "the answer about it lacks what ML_API_FEATURES names";

/// Where the entries of an answer are.
#[derive(Debug, Clone)]
pub(super) enum Entries {
    /// An array at this place, with an entry for each row.
    Rows(Place),
    /// Each place of the answer is an array with a value for each row.
    Columns,
}

impl Entries {
    /// Reads an answer about so many rows.
    pub(super) fn read(&self, body: &[u8], asked: usize, spec: &AnswerSpec) -> Result<Vec<RowResult>, ResponseError> {
        let json = Json::of(body)?;
        match self {
            Self::Rows(place) => read_rows(json.text(), asked, place, spec),
            Self::Columns => read_columns(json.text(), asked, spec),
        }
    }
}

/// The text of an answer, with Python's bare words (`NaN`) replaced.
pub(super) struct Json<'a>(Cow<'a, str>);

impl<'a> Json<'a> {
    pub(super) fn of(body: &'a [u8]) -> Result<Self, ResponseError> {
        let text = std::str::from_utf8(body).map_err(|_| ResponseError::Unreadable("response is not UTF-8".into()))?;
        if serde_json::from_str::<&RawValue>(text).is_ok() {
            return Ok(Self(text.into()));
        }
        replace_bare_words(text)
            .filter(|repaired| serde_json::from_str::<&RawValue>(repaired).is_ok())
            .map(|repaired| Self(repaired.into()))
            .ok_or_else(|| ResponseError::Unreadable("response is not JSON".into()))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

fn read_rows(text: &str, asked: usize, place: &Place, spec: &AnswerSpec) -> Result<Vec<RowResult>, ResponseError> {
    let expected = || match place.pointer() {
        "" => "an array".to_owned(),
        pointer => format!("an array at {pointer}"),
    };
    let entries = at_pointer(text, place.pointer())
        .and_then(|json| serde_json::from_str::<Vec<&RawValue>>(json).ok())
        .ok_or_else(|| ResponseError::misfit(&expected(), &kind_of_text(text)))?;
    check_count(entries.len(), asked, "entries")?;
    let mut texts = Texts::default();
    let rows = entries.into_iter().map(|entry| {
        // It was read as JSON before; only one that is nested too deeply fails here.
        let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
        let result = spec.prediction(|place| entry.pointer(place.pointer()).map(Cow::Borrowed), &mut texts);
        result.map_err(|problem| (problem, kind_of(&entry)))
    });
    results(rows)
}

fn read_columns(text: &str, asked: usize, spec: &AnswerSpec) -> Result<Vec<RowResult>, ResponseError> {
    let answer: Value =
        serde_json::from_str(text).map_err(|_| ResponseError::Unreadable("response is nested too deeply".into()))?;
    for place in spec.places() {
        let column = answer.pointer(place.pointer()).and_then(Value::as_array);
        let column = column.ok_or_else(|| ResponseError::misfit(&format!("an array at {place}"), &kind_of(&answer)))?;
        check_count(column.len(), asked, &format!("values at {place}"))?;
    }
    let mut texts = Texts::default();
    let rows = (0..asked).map(|row| {
        let value = |place: &Place| answer.pointer(place.pointer())?.get(row).map(Cow::Borrowed);
        spec.prediction(value, &mut texts).map_err(|problem| (problem, kind_of(&answer)))
    });
    results(rows)
}

/// Exactly as many as were asked for.
pub(super) fn check_count(found: usize, asked: usize, what: &str) -> Result<(), ResponseError> {
    if found == asked {
        return Ok(());
    }
    Err(ResponseError::misfit(&format!("{asked} {what}, one for each transaction"), &found.to_string()))
}

/// The results of rows. If the form of every single one is another, the whole answer is.
pub(super) fn results(
    rows: impl Iterator<Item = Result<Prediction, (EntryProblem, String)>>,
) -> Result<Vec<RowResult>, ResponseError> {
    let (mut results, mut misfit, mut fits) = (Vec::with_capacity(rows.size_hint().0), None, false);
    for row in rows {
        results.push(match row {
            Ok(prediction) => {
                fits = true;
                Ok(prediction)
            }
            Err((EntryProblem::Unusable(why), _)) => {
                fits = true;
                Err(why.into())
            }
            Err((EntryProblem::Absent(place), found)) => {
                misfit.get_or_insert((place, found));
                Err(LACKING.into())
            }
        });
    }
    match misfit {
        Some((place, found)) if !fits => Err(ResponseError::misfit(&format!("{place} about each transaction"), &found)),
        _ => Ok(results),
    }
}

/// The JSON at a pointer, without reading the rest into memory.
pub(super) fn at_pointer<'t>(text: &'t str, pointer: &str) -> Option<&'t str> {
    let mut json = text;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        json = if json.trim_start().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(json).ok()?.get(key.parse::<usize>().ok()?)?.get()
        } else {
            members(json)?.get(key.as_str())?.get()
        };
    }
    Some(json)
}

/// The members of an object.
fn members(json: &str) -> Option<std::collections::BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(json).ok()
}

/// What an answer is, for a message.
pub(super) fn kind_of_text(text: &str) -> String {
    serde_json::from_str(text).map_or_else(|_| "JSON nested too deeply".to_owned(), |value: Value| kind_of(&value))
}

#[cfg(test)]
mod tests;
