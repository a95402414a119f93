//! Assay's own protocol: `POST /predict` with an array of transactions, and an array of predictions in any order.
//!
//! The usual response is read in one pass (`plain`), any other entry by entry.

pub(super) mod object;
mod plain;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use assay_transaction::{EncodedTransaction, Prediction};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use self::object::Object;
use super::{MISSING, RowResult};
use crate::reason::Reason;

/// Where transactions are sent, below the API's address.
pub(crate) const PREDICT_PATH: &str = "predict";
/// The health check.
pub(crate) const HEALTH_PATH: &str = "health";

/// Longest label or model version, in characters.
const MAX_TEXT: usize = 255;

const TWICE: &str = "id is in the response twice";
/// The body of a request about no transaction.
pub(crate) const EMPTY_REQUEST: &str = "[]";

const NO_PREDICTION: &str = "no prediction in the response";
const NO_LABEL: &str = "prediction is not a label";
const NO_SCORE: &str = "score is not a number from 0 to 1";
const NO_VERSION: &str = "model version is not text";

/// The body of a request: the transactions' own bytes, never re-encoded, so that every digit of an amount arrives.
pub(crate) fn write_request<'a>(transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone) -> Bytes {
    let size = transactions.clone().map(|transaction| transaction.as_bytes().len() + 1).sum::<usize>() + 1;
    let mut body = Vec::with_capacity(size);
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

/// The longest response about this many rows.
pub(crate) fn max_response_bytes(rows: usize) -> usize {
    const BASE: usize = 64 * 1024;
    const PER_ROW: usize = 4 * 1024;
    rows.saturating_mul(PER_ROW).saturating_add(BASE)
}

/// Reads a response: a result for each id of the request, in that order. `Err` if it is no response at all.
///
/// The ids must differ.
pub fn read_response(body: &[u8], asked: &[Uuid]) -> Result<Vec<RowResult>, Reason> {
    let text = std::str::from_utf8(body).map_err(|_| "response is not UTF-8")?;
    plain::read(text, asked).map_or_else(|| read_tolerantly(text, asked), Ok)
}

/// Reads any response, one entry after the other.
fn read_tolerantly(text: &str, asked: &[Uuid]) -> Result<Vec<RowResult>, Reason> {
    let repaired;
    let items: Vec<&RawValue> = if let Ok(items) = serde_json::from_str(text) {
        items
    } else {
        repaired = replace_bare_words(text).ok_or("response is not a JSON array")?;
        serde_json::from_str(&repaired).map_err(|_| "response is not a JSON array")?
    };
    let mut answers = Answers::to(asked);
    for item in items {
        let entry = serde_json::from_str::<Object<RawEntry<'_>>>(item.get()).ok().map(|Object(entry)| entry);
        let id = entry.as_ref().and_then(|entry| read_id(entry.transaction_id?));
        answers.add(id, |texts| {
            entry.map_or(Err(MISSING.into()), |entry| entry.prediction(|text| read_text(text, texts), read_score))
        });
    }
    Ok(answers.into_results())
}

/// The results of a response, matched by id.
struct Answers<'a> {
    asked: &'a [Uuid],
    results: Vec<Option<RowResult>>,
    /// How many entries were added.
    entries: usize,
    by_id: Option<HashMap<Uuid, usize>>,
    texts: Texts,
}

impl<'a> Answers<'a> {
    fn to(asked: &'a [Uuid]) -> Self {
        Self { asked, results: vec![None; asked.len()], entries: 0, by_id: None, texts: Texts::default() }
    }

    /// Adds the next entry. One without an id, or with an id that was not asked for, counts for nothing.
    fn add(&mut self, id: Option<Uuid>, result: impl FnOnce(&mut Texts) -> RowResult) {
        let at = self.entries;
        self.entries += 1;
        let Some(id) = id else { return };
        // Most responses keep the order of the request; only others pay for a table.
        let position = if self.asked.get(at) == Some(&id) {
            Some(at)
        } else {
            self.by_id.get_or_insert_with(|| positions(self.asked)).get(&id).copied()
        };
        if let Some(of_row) = position.and_then(|position| self.results.get_mut(position)) {
            *of_row = Some(if of_row.is_none() { result(&mut self.texts) } else { Err(TWICE.into()) });
        }
    }

    fn into_results(self) -> Vec<RowResult> {
        self.results.into_iter().map(|result| result.unwrap_or(Err(MISSING.into()))).collect()
    }
}

fn positions(asked: &[Uuid]) -> HashMap<Uuid, usize> {
    asked.iter().enumerate().map(|(position, id)| (*id, position)).collect()
}

/// Labels and versions, each kept once, as most responses repeat a few.
#[derive(Default)]
pub(super) struct Texts(Vec<Arc<str>>);

impl Texts {
    /// So many are compared; further ones are kept for each row.
    const MOST: usize = 8;

    /// A text that fits a database's: not empty, bounded, without NUL.
    pub(super) fn shared(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.0.iter().find(|known| ***known == *text) {
            return Some(Arc::clone(known));
        }
        if text.is_empty() || text.chars().count() > MAX_TEXT || text.contains('\0') {
            return None;
        }
        let shared: Arc<str> = text.into();
        if self.0.len() < Self::MOST {
            self.0.push(Arc::clone(&shared));
        }
        Some(shared)
    }
}

fn valid_score(score: f64) -> Option<f64> {
    // `+ 0.0` makes a negative zero a plain one.
    let score = score + 0.0;
    (0.0..=1.0).contains(&score).then_some(score)
}

/// One entry of a response, with its texts and its score as they are read.
#[derive(Deserialize)]
#[serde(bound = "Text: Deserialize<'de>, Score: Deserialize<'de>")]
struct ResponseEntry<Text, Score> {
    #[serde(default)]
    transaction_id: Option<Text>,
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
}

impl<Text, Score> ResponseEntry<Text, Score> {
    /// The prediction, of texts and of a score that these accept.
    fn prediction(
        self,
        mut accept_text: impl FnMut(Text) -> Option<Arc<str>>,
        accept_score: impl FnOnce(Score) -> Option<f64>,
    ) -> RowResult {
        let label = self.prediction.or(self.category).or(self.label);
        let score = self.fraud_score.or(self.confidence_score).or(self.score).or(self.probability);
        Ok(Prediction {
            prediction: accept_text(label.ok_or(NO_PREDICTION)?).ok_or(NO_LABEL)?,
            fraud_score: score.map(|score| accept_score(score).ok_or(NO_SCORE)).transpose()?,
            model_version: self.model_version.map(|version| accept_text(version).ok_or(NO_VERSION)).transpose()?,
        })
    }
}

/// An entry whose fields are kept as they came, so that a wrong one spoils no other entry.
type RawEntry<'a> = ResponseEntry<&'a RawValue, &'a RawValue>;

fn read_id(value: &RawValue) -> Option<Uuid> {
    let text: Cow<'_, str> = serde_json::from_str(value.get()).ok()?;
    Uuid::parse_str(&text).ok()
}

fn read_score(value: &RawValue) -> Option<f64> {
    serde_json::from_str(value.get()).ok().and_then(valid_score)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);

    fn label(text: &str) -> Prediction {
        Prediction { prediction: text.into(), fraud_score: None, model_version: None }
    }

    #[test]
    fn the_body_consists_of_the_transactions_own_bytes() {
        let transaction = |json: &str| serde_json::from_str::<EncodedTransaction>(json).unwrap();
        let two = [transaction(r#"{"id":"x",  "amount":-952.40}"#), transaction(r#"{"amount":9999999999999999.9999}"#)];
        let body = write_request(two.iter());
        assert_eq!(body, r#"[{"id":"x",  "amount":-952.40},{"amount":9999999999999999.9999}]"#);
    }

    #[test]
    fn one_entry_is_read() {
        let said = |text: &str, fraud_score, model_version: Option<&str>| {
            Ok(Prediction { prediction: text.into(), fraud_score, model_version: model_version.map(Into::into) })
        };
        let refused = |why: &'static str| Err(why.into());
        let (no_score, no_label, missing) = (refused(NO_SCORE), refused(NO_LABEL), refused(MISSING));
        let long = format!(r#""prediction":"{}""#, "x".repeat(MAX_TEXT + 1));
        let cases: &[(&str, RowResult)] = &[
            (r#""prediction":"fraud","fraud_score":0.97,"model_version":"v1""#, said("fraud", Some(0.97), Some("v1"))),
            (r#""category":"Rent""#, said("Rent", None, None)),
            (r#""label":"ok","probability":1"#, said("ok", Some(1.0), None)),
            (r#""label":"ok","confidence_score":0"#, said("ok", Some(0.0), None)),
            (r#""label":"ok","score":-0.0"#, said("ok", Some(0.0), None)),
            (r#""label":"ok","score":null,"model_version":null"#, said("ok", None, None)),
            // The contract's own names win over the others.
            (
                r#""label":"b","category":"c","prediction":"a","score":0.1,"fraud_score":0.2"#,
                said("a", Some(0.2), None),
            ),
            (r#""prediction":1"#, said("1", None, None)),
            (r#""prediction":-1.50"#, said("-1.50", None, None)),
            (r#""prediction":true,"model_version":7"#, said("true", None, Some("7"))),
            (r#""prediction":"a\u00e9\n","extra":{"deep":[1,{}]}"#, said("aé\n", None, None)),
            (r#""prediction":"a","fraud_score":1.0000001"#, no_score.clone()),
            (r#""prediction":"a","fraud_score":-0.1"#, no_score.clone()),
            (r#""prediction":"a","fraud_score":1e999"#, no_score.clone()),
            (r#""prediction":"a","fraud_score":"0.5""#, no_score.clone()),
            (r#""prediction":"a","fraud_score":NaN"#, no_score.clone()),
            (r#""prediction":"a","fraud_score":-Infinity"#, no_score),
            (r#""prediction":NaN"#, no_label.clone()),
            (r#""prediction":"""#, no_label.clone()),
            (r#""prediction":"a\u0000b""#, no_label.clone()),
            (r#""prediction":["a"]"#, no_label.clone()),
            (r#""prediction":{"a":1}"#, no_label.clone()),
            (&long, no_label),
            (r#""prediction":null"#, refused(NO_PREDICTION)),
            (r#""other":1"#, refused(NO_PREDICTION)),
            (r#""prediction":"a","model_version":[]"#, refused(NO_VERSION)),
            (r#""prediction":"a","prediction":"b""#, missing.clone()),
            (r#""transaction_id":7,"prediction":"a""#, missing),
        ];
        for (fields, expected) in cases {
            // The other row's entry must not suffer.
            let body = format!(
                r#"[{{"transaction_id":"{A}",{fields}}},{{"transaction_id":"{B}","prediction":"NaN \" Infinity"}}]"#
            );
            let answers = read_response(body.as_bytes(), &[A, B]).unwrap();
            assert_eq!(answers, [expected.clone(), Ok(label("NaN \" Infinity"))], "{fields}");
        }
    }

    #[test]
    fn entries_are_matched_by_id_in_any_order() {
        let entry = |id: Uuid, text: &str| format!(r#"{{"transaction_id":"{id}","label":"{text}"}}"#);
        let (a, b, stranger) = (entry(A, "a"), entry(B, "b"), entry(Uuid::from_u128(7), "x"));
        let upper = a.replace(&A.to_string(), &A.simple().to_string().to_uppercase());
        let (both, lacks) = ([Ok(label("a")), Ok(label("b"))], Err(MISSING.into()));
        let cases = [
            (format!("[{a},{b}]"), both.clone()),
            (format!(" [{b}, {a}] "), both.clone()),
            (format!("[{stranger},7,null,[],\"x\",{b},{upper}]"), both),
            (format!("[{b}]"), [lacks.clone(), Ok(label("b"))]),
            (format!("[{a},{b},{a}]"), [Err(TWICE.into()), Ok(label("b"))]),
            ("[]".to_owned(), [lacks.clone(), lacks]),
        ];
        for (body, expected) in cases {
            assert_eq!(read_response(body.as_bytes(), &[A, B]).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn anything_but_an_array_is_an_error() {
        for body in [&b""[..], b"{}", b"null", b"<html>", b"[", b"[1,]", b"[{}", b"[NaN", b"\"Infinity", b"[\xff]"] {
            assert!(read_response(body, &[A]).is_err(), "{body:?}");
        }
    }

    /// JSON of any shape, with the names of the protocol where a key is due.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            Just(A.to_string().into()),
        ];
        let key = prop_oneof![
            Just("transaction_id".to_owned()),
            Just("prediction".to_owned()),
            Just("fraud_score".to_owned()),
            Just("model_version".to_owned()),
            any::<String>(),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                proptest::collection::btree_map(key.clone(), inner, 0..8)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_response(&body, &[A, B]);
        }

        #[test]
        fn no_text_causes_a_panic(body in r#"[\[\]{}",:\\NaInfity0-9.eé -]{0,60}"#) {
            let _ = read_response(body.as_bytes(), &[A, B]);
        }

        #[test]
        fn any_json_is_read_within_its_bounds(items in proptest::collection::vec(any_json(), 0..6)) {
            let body = serde_json::to_vec(&items).unwrap();
            let answers = read_response(&body, &[A, B]).unwrap();
            prop_assert_eq!(answers.len(), 2);
            for said in answers.into_iter().flatten() {
                prop_assert!(!said.prediction.is_empty() && said.prediction.chars().count() <= MAX_TEXT);
                prop_assert!(said.fraud_score.is_none_or(|score| (0.0..=1.0).contains(&score)));
            }
        }

        #[test]
        fn every_row_is_found_in_any_order(
            ids in proptest::collection::hash_set(any::<u128>(), 0..40).prop_map(Vec::from_iter),
            shuffled_by in any::<u64>(),
        ) {
            let asked: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(*id)).collect();
            let mut answered = asked.clone();
            answered.sort_by_key(|id| id.as_u64_pair().0 ^ shuffled_by);
            let items: Vec<String> =
                answered.iter().map(|id| format!(r#"{{"transaction_id":"{id}","label":"{id}"}}"#)).collect();
            let answers = read_response(format!("[{}]", items.join(",")).as_bytes(), &asked).unwrap();
            for (id, answer) in asked.iter().zip(answers) {
                prop_assert_eq!(answer, Ok(label(&id.to_string())));
            }
        }
    }
}
