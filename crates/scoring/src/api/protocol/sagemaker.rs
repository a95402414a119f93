//! The form of SageMaker's containers: `text/csv` without a header or `application/jsonlines`, a line for each row, both ways.
//!
//! Requests are not signed. An error of the container arrives as 424 with the real status in its body, which [`original_status`]
//! finds; its `Retry-After` is lost on the way.

use std::borrow::Cow;

use assay_transaction::EncodedTransaction;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::body::write_object;
use super::features::{Features, LineFormat, Place, kind_of};
use super::native::Texts;
use super::positions::{check_count, results};
use super::{ResponseError, RowResult};

/// An endpoint, or a container by itself.
#[derive(Debug)]
pub(crate) struct SagemakerProtocol {
    features: Features,
    predict_path: String,
    format: LineFormat,
}

impl SagemakerProtocol {
    /// The health check of a container; an endpoint has none.
    pub(super) const HEALTH_PATH: &'static str = "ping";

    pub(super) fn new(features: Features, endpoint: Option<&str>) -> Self {
        let predict_path = match endpoint {
            Some(endpoint) => format!("endpoints/{endpoint}/invocations"),
            None => "invocations".to_owned(),
        };
        let format = features.sagemaker().copied().unwrap_or_default().format;
        Self { features, predict_path, format }
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    pub(super) fn predict_path(&self) -> &str {
        &self.predict_path
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.format {
            LineFormat::Csv => "text/csv",
            LineFormat::JsonLines => "application/jsonlines",
        }
    }

    pub(super) fn write_request<'a>(&self, transactions: impl Iterator<Item = &'a EncodedTransaction>) -> Bytes {
        let matrix = self.features.matrix(transactions);
        let mut body = String::new();
        for row in 0..matrix.rows() {
            match self.format {
                LineFormat::Csv => {
                    for (at, value) in matrix.row(row).enumerate() {
                        if at > 0 {
                            body.push(',');
                        }
                        write_field(&mut body, value);
                    }
                }
                LineFormat::JsonLines => write_object(&mut body, self.features.inputs(), matrix.row(row)),
            }
            body.push('\n');
        }
        body.into()
    }

    pub(super) fn read_response(&self, body: &[u8], asked: usize) -> Result<Vec<RowResult>, ResponseError> {
        let text = std::str::from_utf8(body).map_err(|_| ResponseError::Unreadable("response is not UTF-8".into()))?;
        let entries = entries(text, asked);
        check_count(entries.len(), asked, "lines")?;
        let mut texts = Texts::default();
        let rows = entries.iter().map(|entry| {
            let value = |place: &Place| entry.pointer(place.pointer()).map(Cow::Borrowed);
            self.features.answer().prediction(value, &mut texts).map_err(|problem| (problem, kind_of(entry)))
        });
        results(rows)
    }
}

/// Writes a value, given as JSON, as a field of CSV.
fn write_field(body: &mut String, json: &str) {
    let Ok(Value::String(text)) = serde_json::from_str(json) else {
        body.push_str(json);
        return;
    };
    if text.contains([',', '"', '\n', '\r']) {
        body.push('"');
        body.push_str(&text.replace('"', "\"\""));
        body.push('"');
    } else {
        body.push_str(&text);
    }
}

/// An entry for each line. Older containers put the values of all rows into one line.
fn entries(text: &str, asked: usize) -> Vec<Value> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[..] {
        [only] if asked > 1 && only.split(',').count() == asked && !only.starts_with(['[', '{']) => {
            only.split(',').map(entry).collect()
        }
        _ => lines.into_iter().map(entry).collect(),
    }
}

/// The entry of a line: JSON, values with commas between them, or a text.
fn entry(line: &str) -> Value {
    let text = |field: &str| serde_json::from_str(field).unwrap_or_else(|_| Value::from(field.trim_matches('"')));
    match serde_json::from_str(line) {
        Ok(value) => value,
        Err(_) if line.contains(',') && !line.starts_with(['[', '{']) => {
            line.split(',').map(|field| text(field.trim())).collect()
        }
        Err(_) => text(line),
    }
}

/// The status of the container, in the body of a 424 of SageMaker.
pub(crate) fn original_status(body: &[u8]) -> Option<u16> {
    #[derive(Deserialize)]
    struct ModelError {
        #[serde(rename = "OriginalStatusCode")]
        status: u16,
    }
    let ModelError { status } = serde_json::from_slice(body).ok()?;
    (400..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use assay_transaction::Prediction;

    use super::*;

    fn protocol(rest: &str) -> SagemakerProtocol {
        let inputs = "[[inputs]]\nname = 'amount'\n[[inputs]]\nname = 'text'\nfrom = 'description'\n";
        SagemakerProtocol::new(Features::parse(&format!("{inputs}{rest}")).unwrap(), Some("fraud"))
    }

    fn transaction(description: &str) -> EncodedTransaction {
        let json = format!(
            r#"{{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":{},"amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"x","side":"debit"}}"#,
            serde_json::to_string(description).unwrap()
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn each_row_is_a_line() {
        let rows = ["plain", "a,b", "a \"b\"\nc"].map(transaction);
        let csv = protocol("[answer]\nprediction = ''");
        assert_eq!(csv.write_request(rows.iter()), "-952.40,plain\n-952.40,\"a,b\"\n-952.40,\"a \"\"b\"\"\nc\"\n");
        assert_eq!((csv.content_type(), csv.predict_path()), ("text/csv", "endpoints/fraud/invocations"));
        let lines = protocol("[answer]\nprediction = ''\n[sagemaker]\nformat = 'jsonlines'");
        assert_eq!(
            lines.write_request(rows[..2].iter()),
            "{\"amount\":-952.40,\"text\":\"plain\"}\n{\"amount\":-952.40,\"text\":\"a,b\"}\n"
        );
        assert_eq!(lines.content_type(), "application/jsonlines");
    }

    #[test]
    fn each_line_is_an_entry() {
        let threshold = "prediction = { threshold = 0.5, at_least = 'fraud', below = 'ok' }\n";
        let said =
            |text: &str, fraud_score| Ok(Prediction { prediction: text.into(), fraud_score, ..Prediction::default() });
        let scores = vec![said("ok", Some(0.25)), said("fraud", Some(0.75))];
        let labels = vec![said("ok", None), said("fraud", None)];
        let cases = [
            (format!("{threshold}fraud_score = ''"), "0.25\n0.75\n", Ok(scores.clone())),
            (format!("{threshold}fraud_score = ''"), "0.25\r\n0.75", Ok(scores.clone())),
            (format!("{threshold}fraud_score = ''"), "0.25,0.75", Ok(scores.clone())),
            (format!("{threshold}fraud_score = '/1'"), "0.75,0.25\n0.25, 0.75\n", Ok(scores.clone())),
            (format!("{threshold}fraud_score = '/1'"), "[0.75,0.25]\n[0.25,0.75]\n", Ok(scores.clone())),
            (format!("{threshold}fraud_score = 'p'"), "{\"p\":0.25}\n{\"p\":0.75}\n", Ok(scores)),
            ("prediction = ''".to_owned(), "ok\nfraud\n", Ok(labels.clone())),
            ("prediction = ''".to_owned(), "\"ok\"\n\"fraud\"\n", Ok(labels)),
            ("prediction = ''".to_owned(), "ok\n", Err("expected 2 lines, one for each transaction, got 1")),
            ("prediction = ''".to_owned(), "", Err("expected 2 lines, one for each transaction, got 0")),
            ("prediction = 'l'".to_owned(), "0.1\n0.2\n", Err("expected /l about each transaction, got a number")),
        ];
        for (answer, body, expected) in cases {
            match (protocol(&format!("[answer]\n{answer}")).read_response(body.as_bytes(), 2), expected) {
                (Err(ResponseError::Misfit(why)), Err(end)) => assert!(why.as_str().ends_with(end), "{body}: {why}"),
                (found, Ok(expected)) => assert_eq!(found, Ok(expected), "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_status_of_the_container_is_in_the_body() {
        let cases = [
            (r#"{"ErrorCode":"x","OriginalStatusCode":500,"OriginalMessage":"secret"}"#, Some(500)),
            (r#"{"OriginalStatusCode":400}"#, Some(400)),
            (r#"{"OriginalStatusCode":200}"#, None),
            (r#"{"OriginalStatusCode":"500"}"#, None),
            (r#"{"message":"no"}"#, None),
            ("", None),
        ];
        for (body, status) in cases {
            assert_eq!(original_status(body.as_bytes()), status, "{body}");
        }
    }
}
