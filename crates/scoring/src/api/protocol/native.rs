//! Assay's own protocol: `POST /predict` with an array of transactions, and an array of predictions in any order, perhaps inside of an
//! object (`envelope`).
//!
//! The usual response is read in one pass (`plain`), any other entry by entry. `answers` says which entry belongs to which
//! transaction.

mod answers;
mod envelope;
pub(super) mod object;
mod plain;

use std::borrow::Cow;
use std::sync::Arc;

use assay_transaction::{EncodedTransaction, Prediction, ReasonCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use self::answers::{Answers, EntryId};
use self::envelope::Envelope;
use self::object::Object;
use super::{MISSING, ResponseError, RowResult, fill_versions, reasons};

pub use self::answers::{Matching, ReadOptions};

/// Where transactions are sent, below the API's address.
pub(crate) const PREDICT_PATH: &str = "predict";
/// The health check.
pub(crate) const HEALTH_PATH: &str = "health";

/// Longest label or model version, in characters.
const MAX_TEXT: usize = 255;

/// The body of a request about no transaction.
pub(crate) const EMPTY_REQUEST: &str = "[]";

const NO_PREDICTION: &str = "no prediction in the response";
const NO_LABEL: &str = "prediction is not a label";
const NO_SCORE: &str = "score is not a number";
const NO_VERSION: &str = "model version is not text";
const NO_REASONS: &str = "reasons are neither codes nor features with contributions";

/// The body of a request: the transactions' own bytes, never re-encoded, so that every digit of an amount arrives.
pub(crate) fn write_request<'a>(transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone) -> Bytes {
    let mut body = Vec::with_capacity(request_bytes(transactions.clone()));
    body.push(b'[');
    for (at, transaction) in transactions.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(transaction.as_bytes());
    }
    body.push(b']');
    body.into()
}

/// The length of that body, of one transaction or more.
pub(crate) fn request_bytes<'a>(transactions: impl Iterator<Item = &'a EncodedTransaction>) -> usize {
    transactions.map(|transaction| transaction.as_bytes().len() + 1).sum::<usize>() + 1
}

/// The longest response about this many rows.
pub(crate) fn max_response_bytes(rows: usize) -> usize {
    const BASE: usize = 64 * 1024;
    const PER_ROW: usize = 4 * 1024;
    rows.saturating_mul(PER_ROW).saturating_add(BASE)
}

/// Reads a response: a result for each id of the request, in that order, with its score as it came. `Err` if it is no response at
/// all.
///
/// The ids must differ.
pub fn read_response(
    body: &[u8],
    asked: &[Uuid],
    options: impl Into<ReadOptions>,
) -> Result<Vec<RowResult>, ResponseError> {
    let options = options.into();
    let text = std::str::from_utf8(body).map_err(|_| "response is not UTF-8")?;
    plain::read(text, asked, options).map_or_else(|| read_any(text, asked, options), Ok)
}

/// Reads any response, wherever its entries are.
fn read_any(text: &str, asked: &[Uuid], options: ReadOptions) -> Result<Vec<RowResult>, ResponseError> {
    let repaired;
    let Envelope { entries, model_version } = match envelope::open(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            repaired = replace_bare_words(text).ok_or(error)?;
            envelope::open(&repaired)?
        }
    };
    // An array as a whole was tried before.
    let is_inside = !text.trim_start().starts_with('[');
    let mut results = match is_inside.then(|| plain::read(entries, asked, options)).flatten() {
        Some(results) => results,
        None => read_tolerantly(entries, asked, options)?,
    };
    if let Some(version) = model_version {
        let version = read_text(version, &mut Texts::default()).ok_or(NO_VERSION)?;
        fill_versions(&mut results, &version);
    }
    Ok(results)
}

/// Reads any array of entries, one after the other.
fn read_tolerantly(text: &str, asked: &[Uuid], options: ReadOptions) -> Result<Vec<RowResult>, ResponseError> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| "response is not JSON")?;
    let mut answers = Answers::to(asked, options.matching);
    for item in items {
        let entry = serde_json::from_str::<Object<RawEntry<'_>>>(item.get()).ok().map(|Object(entry)| entry);
        let id = match entry.as_ref().map(|entry| entry.transaction_id.or(entry.id)) {
            Some(Some(id)) => EntryId::from(read_id(id)),
            Some(None) | None => EntryId::Absent,
        };
        let has_label = entry.as_ref().is_some_and(ResponseEntry::has_label);
        answers.add(id, has_label, |texts| {
            entry.map_or(Err(MISSING.into()), |entry| {
                entry.prediction(|text| read_text(text, texts), read_score, options)
            })
        });
    }
    answers.finish()
}

/// Whether a text fits a database's: not empty, bounded, without NUL.
pub(crate) fn is_storable(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.contains('\0')
}

/// Labels and versions, each kept once, as most responses repeat a few.
#[derive(Default)]
pub(super) struct Texts(Vec<Arc<str>>);

impl Texts {
    /// So many are compared; further ones are kept for each row.
    const MOST: usize = 8;

    /// A text that [can be stored](is_storable).
    pub(super) fn shared(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.0.iter().find(|known| ***known == *text) {
            return Some(Arc::clone(known));
        }
        if !is_storable(text) {
            return None;
        }
        let shared: Arc<str> = text.into();
        if self.0.len() < Self::MOST {
            self.0.push(Arc::clone(&shared));
        }
        Some(shared)
    }
}

/// One entry of a response, with its texts and its score as they are read.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a, Text: Deserialize<'de>, Score: Deserialize<'de>")]
struct ResponseEntry<'a, Text, Score> {
    #[serde(default)]
    transaction_id: Option<Text>,
    #[serde(default)]
    id: Option<Text>,
    #[serde(default)]
    prediction: Option<Text>,
    #[serde(default)]
    category: Option<Text>,
    #[serde(default)]
    label: Option<Text>,
    #[serde(default)]
    fraud_score: Option<Score>,
    #[serde(default)]
    confidence_score: Option<Score>,
    #[serde(default)]
    score: Option<Score>,
    #[serde(default)]
    probability: Option<Score>,
    #[serde(default)]
    model_version: Option<Text>,
    #[serde(default, borrow)]
    reasons: Option<&'a RawValue>,
}

impl<Text, Score> ResponseEntry<'_, Text, Score> {
    fn has_label(&self) -> bool {
        self.prediction.is_some() || self.category.is_some() || self.label.is_some()
    }

    /// The prediction, of texts and of a score that these accept.
    fn prediction(
        self,
        mut accept_text: impl FnMut(Text) -> Option<Arc<str>>,
        accept_score: impl FnOnce(Score) -> Option<f64>,
        options: ReadOptions,
    ) -> RowResult {
        let label = self.prediction.or(self.category).or(self.label);
        let score = self.fraud_score.or(self.confidence_score).or(self.score).or(self.probability);
        Ok(Prediction {
            prediction: accept_text(label.ok_or(NO_PREDICTION)?).ok_or(NO_LABEL)?,
            fraud_score: score.map(|score| accept_score(score).ok_or(NO_SCORE)).transpose()?,
            model_version: self.model_version.map(|version| accept_text(version).ok_or(NO_VERSION)).transpose()?,
            reasons: match self.reasons {
                Some(reasons) if options.with_reasons => read_reasons(reasons).ok_or(NO_REASONS)?,
                _ => Vec::new(),
            },
            endpoint: None,
        })
    }
}

/// An entry whose fields are kept as they came, so that a wrong one spoils no other entry.
type RawEntry<'a> = ResponseEntry<'a, &'a RawValue, &'a RawValue>;

fn read_id(value: &RawValue) -> Option<Uuid> {
    let text: Cow<'_, str> = serde_json::from_str(value.get()).ok()?;
    Uuid::parse_str(&text).ok()
}

/// A number, or a text that is nothing but one, as encoders of decimals write it.
fn read_score(value: &RawValue) -> Option<f64> {
    let json = value.get();
    let text: Cow<'_, str> = if json.starts_with('"') { serde_json::from_str(json).ok()? } else { json.into() };
    let is_bare = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit());
    if is_bare { serde_json::from_str(&text).ok() } else { None }
}

fn read_reasons(value: &RawValue) -> Option<Vec<ReasonCode>> {
    reasons::read(&serde_json::from_str(value.get()).ok()?, None)
}

/// A string, or the text of a number or a boolean.
fn read_text(value: &RawValue, texts: &mut Texts) -> Option<Arc<str>> {
    let json = value.get();
    let text: Cow<'_, str> = match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok()?,
        b'0'..=b'9' | b'-' | b't' | b'f' => json.into(),
        _ => return None,
    };
    texts.shared(&text)
}

/// The text with Python's bare words (`NaN`, `Infinity`) replaced by a value that is JSON but neither label nor score, so
/// that they cost their own row only. `None` if there are none.
pub(super) fn replace_bare_words(text: &str) -> Option<String> {
    const WORDS: [(&str, &str); 3] = [("NaN", "[]"), ("-Infinity", "[]"), ("Infinity", "[]")];
    let mut repaired = String::with_capacity(text.len());
    let (mut rest, mut found) = (text, false);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, from) = rest.split_at(at);
        repaired.push_str(before);
        if from.starts_with('"') {
            let (string, after) = from.split_at(string_length(from));
            repaired.push_str(string);
            rest = after;
        } else if let Some((word, value)) = WORDS.iter().find(|(word, _)| from.starts_with(word)) {
            repaired.push_str(value);
            rest = &from[word.len()..];
            found = true;
        } else {
            // Only ASCII is searched for, so this is a whole character.
            repaired.push_str(&from[..1]);
            rest = &from[1..];
        }
    }
    repaired.push_str(rest);
    found.then_some(repaired)
}

/// The length of the JSON string at the start, quotes included; all of the text if it does not end.
pub(super) fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod malformed_input;

#[cfg(test)]
mod tests;
