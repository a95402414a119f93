//! From the body of a request to that of the response: reads transactions, scores them and writes predictions. No HTTP here.
//!
//! A good request is parsed once, without copies. Only a bad one is parsed again, to find the fault. Error messages never
//! contain values of the request, so that they may be logged and stored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fields::timestamp;
use crate::{Model, TransactionFields};

/// The body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredBatch {
    /// A JSON array of predictions, in the order of the transactions.
    pub body: Vec<u8>,
    /// Number of transactions.
    pub transactions: u64,
    /// Number of those predicted as fraud.
    pub fraud: u64,
}

/// One entry of the response.
#[derive(Serialize)]
struct PredictionJson<'a> {
    transaction_id: &'a str,
    prediction: &'a str,
    fraud_score: f64,
    model_version: &'a str,
}

/// Bytes to reserve for each prediction.
const PREDICTION_BYTES: usize = 144;

/// Scores the transactions of a body, a JSON array of at most `max_batch` of them.
pub fn predict(model: &Model, body: &[u8], max_batch: usize) -> Result<ScoredBatch, RejectedRequest> {
    let transactions: Vec<TransactionFields<'_>> = match serde_json::from_slice(body) {
        Ok(transactions) => transactions,
        Err(error) => return Err(diagnose(body, max_batch, &error)),
    };
    if transactions.len() > max_batch {
        return Err(RejectedRequest::too_many(transactions.len(), max_batch));
    }
    let mut scored =
        ScoredBatch { body: Vec::with_capacity(transactions.len() * PREDICTION_BYTES + 2), transactions: 0, fraud: 0 };
    scored.body.push(b'[');
    for transaction in &transactions {
        if scored.transactions > 0 {
            scored.body.push(b',');
        }
        let score = model.score(transaction);
        let is_fraud = model.is_fraud(score);
        let prediction = PredictionJson {
            transaction_id: &transaction.id,
            prediction: if is_fraud { "fraud" } else { "legitimate" },
            // Six decimals: more would only be noise.
            fraud_score: (f64::from(score) * 1e6).round() / 1e6,
            model_version: model.version(),
        };
        serde_json::to_writer(&mut scored.body, &prediction).map_err(|_| RejectedRequest::internal())?;
        scored.transactions += 1;
        scored.fraud += u64::from(is_fraud);
    }
    scored.body.push(b']');
    Ok(scored)
}

/// Why a request is rejected; in JSON, the body of the response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedRequest {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// The message, without values of the request.
    pub error: String,
    /// The transaction at fault, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Its field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
}

impl RejectedRequest {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), index: None, field: None }
    }

    fn too_many(count: usize, max_batch: usize) -> Self {
        let error = format!("{count} transactions are too many: a request may have at most {max_batch}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    fn unprocessable(index: usize, field: Option<&'static str>, problem: &str) -> Self {
        let name = field.map(|field| format!("{field} ")).unwrap_or_default();
        let error = format!("transaction {index}: {name}{problem}");
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, error, index: Some(index), field }
    }

    /// Never happens: writing to memory does not fail.
    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer")
    }
}

/// Checks the value of a field; the error says what it must be.
type FieldCheck = fn(&RawValue) -> Result<(), &'static str>;

/// The fields of a transaction, in the order of checking.
const FIELDS: [(&str, FieldCheck); 7] = [
    ("id", text),
    ("description", text),
    ("amount", |value| parses::<f64>(value).then_some(()).ok_or("must be a number that fits a 64-bit float")),
    ("timestamp", |value| {
        timestamp(&mut serde_json::Deserializer::from_str(value.get()))
            .is_ok()
            .then_some(())
            .ok_or("must be an ISO 8601 date and time such as 2023-11-28T06:35:12Z")
    }),
    ("merchant", |value| parses::<Option<Cow<'_, str>>>(value).then_some(()).ok_or("must be a string or null")),
    ("operation_type", text),
    ("side", text),
];

fn text(value: &RawValue) -> Result<(), &'static str> {
    parses::<Cow<'_, str>>(value).then_some(()).ok_or("must be a string")
}

fn parses<'a, T: Deserialize<'a>>(value: &'a RawValue) -> bool {
    serde_json::from_str::<T>(value.get()).is_ok()
}

/// Finds the fault in a body that could not be parsed.
fn diagnose(body: &[u8], max_batch: usize, error: &serde_json::Error) -> RejectedRequest {
    let transactions: Vec<&RawValue> = match serde_json::from_slice(body) {
        Ok(transactions) => transactions,
        Err(error) if error.is_data() => {
            return RejectedRequest::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the body must be a JSON array of transactions",
            );
        }
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            return RejectedRequest::new(StatusCode::BAD_REQUEST, format!("the body is not JSON from {place} on"));
        }
    };
    if transactions.len() > max_batch {
        return RejectedRequest::too_many(transactions.len(), max_batch);
    }
    let at_fault = transactions.iter().enumerate().find_map(|(index, transaction)| {
        let unreadable = !parses::<TransactionFields<'_>>(transaction);
        unreadable.then(|| find_field_at_fault(index, transaction))
    });
    at_fault.unwrap_or_else(|| {
        let place = format!("line {}, column {}", error.line(), error.column());
        RejectedRequest::new(StatusCode::BAD_REQUEST, format!("the body cannot be read from {place} on"))
    })
}

/// Finds the fault in a transaction that cannot be parsed.
fn find_field_at_fault(index: usize, transaction: &RawValue) -> RejectedRequest {
    let Ok(values) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(transaction.get()) else {
        return RejectedRequest::unprocessable(index, None, "must be a JSON object");
    };
    for (name, check) in FIELDS {
        match values.get(name).map(|value| check(value)) {
            Some(Err(problem)) => return RejectedRequest::unprocessable(index, Some(name), problem),
            None if name != "merchant" => return RejectedRequest::unprocessable(index, Some(name), "is missing"),
            Some(Ok(())) | None => {}
        }
    }
    RejectedRequest::unprocessable(index, None, "must have each field once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn transaction() -> Value {
        json!({"id": "a\"b", "description": "Café", "amount": -12.5, "timestamp": "2023-11-28T06:35:12Z",
               "merchant": null, "operation_type": "payment", "side": "debit", "attributes": {"country": "FR"}})
    }

    fn rejected(body: &str) -> RejectedRequest {
        predict(&Model::bundled(), body.as_bytes(), 3).unwrap_err()
    }

    #[test]
    fn predictions_come_in_the_order_of_their_transactions() {
        let mut other = transaction();
        other["id"] = json!("é");
        let body = json!([transaction(), other]).to_string();
        let scored = predict(&Model::bundled(), body.as_bytes(), 2).unwrap();
        let predictions: Value = serde_json::from_slice(&scored.body).unwrap();
        assert_eq!(predictions[0]["transaction_id"], "a\"b");
        assert_eq!(predictions[1]["transaction_id"], "é");
        let score = predictions[0]["fraud_score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score));
        assert!(score.to_string().len() <= "0.123456".len(), "{score}");
        assert_eq!(scored.transactions, 2);
        assert_eq!(predict(&Model::bundled(), b" [ ] ", 2).unwrap().body, b"[]");
    }

    #[test]
    fn a_field_at_fault_is_named_with_its_transaction() {
        let cases = [
            ("id", json!(7), "transaction 1: id must be a string"),
            ("description", json!(null), "transaction 1: description must be a string"),
            ("amount", json!("12.5"), "transaction 1: amount must be a number that fits a 64-bit float"),
            (
                "timestamp",
                json!("28/11/2023"),
                "transaction 1: timestamp must be an ISO 8601 date and time such as 2023-11-28T06:35:12Z",
            ),
            ("merchant", json!(1), "transaction 1: merchant must be a string or null"),
            ("operation_type", json!([]), "transaction 1: operation_type must be a string"),
            ("side", json!({}), "transaction 1: side must be a string"),
        ];
        for (field, value, error) in cases {
            let mut broken = transaction();
            broken[field] = value;
            let rejection = rejected(&json!([transaction(), broken]).to_string());
            assert_eq!(
                (rejection.status, rejection.index, rejection.field),
                (StatusCode::UNPROCESSABLE_ENTITY, Some(1), Some(field))
            );
            assert_eq!(rejection.error, error);
            if field != "merchant" {
                let mut without = transaction();
                without.as_object_mut().unwrap().remove(field);
                let rejection = rejected(&json!([without]).to_string());
                assert_eq!((rejection.index, rejection.field), (Some(0), Some(field)));
                assert_eq!(rejection.error, format!("transaction 0: {field} is missing"));
            }
        }
    }

    #[test]
    fn anything_but_a_batch_is_rejected_with_the_reason() {
        let good = transaction().to_string();
        let infinite = good.replace("-12.5", "1e999");
        let twice = good.replacen('{', r#"{"side":"debit","#, 1);
        let four = format!("[{good},{good},{good},7]");
        let cases = [
            ("", 400, "not JSON"),
            ("[{]", 400, "not JSON from line 1, column 3"),
            ("[] []", 400, "not JSON"),
            ("{}", 422, "array of transactions"),
            ("null", 422, "array of transactions"),
            ("[7]", 422, "transaction 0: must be a JSON object"),
            (&format!("[{infinite}]"), 422, "transaction 0: amount must be a number"),
            (&format!("[{twice}]"), 422, "transaction 0: must have each field once"),
            (
                &format!("[{good},{good},{good},{good}]"),
                413,
                "4 transactions are too many: a request may have at most 3",
            ),
            (&four, 413, "4 transactions are too many"),
        ];
        for (body, status, error) in cases {
            let rejection = rejected(body);
            assert_eq!(rejection.status.as_u16(), status, "{body}");
            assert!(rejection.error.contains(error), "{body}: {}", rejection.error);
        }
        let not_text = predict(&Model::bundled(), b"[\"\xff\"]", 3).unwrap_err();
        assert_eq!(not_text.status, StatusCode::BAD_REQUEST);
    }
}
