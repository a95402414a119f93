//! The feed of predictions: a notice about each stored transaction, `assay.prediction.v1`.
//!
//! `docs/feed.md` says who receives what, and what is guaranteed.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Lane, Predicted, Prediction, RunId, ScoredChunk, Timestamp, WireError};

/// Most characters of a label in a routing key: at four bytes each, the key fits AMQP's 255.
const MAX_LABEL: usize = 60;
/// The scores with which a transaction is flagged, whatever its label. Beyond 1 they are raw, and say nothing by themselves.
const FLAGGED_SCORES: RangeInclusive<f64> = 0.5..=1.0;

impl Prediction {
    /// Whether the transaction needs attention: its label is `fraud`, or fraud is at least as likely as not.
    pub fn is_flagged(&self) -> bool {
        self.prediction.trim().eq_ignore_ascii_case("fraud")
            || self.fraud_score.is_some_and(|score| FLAGGED_SCORES.contains(&score))
    }
}

/// A feed notice about one transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionNotice {
    /// Its stored identity.
    pub transaction_id: Uuid,
    /// Its original id, if that is not a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The run that stored it.
    pub run_id: RunId,
    /// Its row there.
    pub row_number: u64,
    /// The lane it came by.
    pub lane: Lane,
    /// The ML API's result.
    #[serde(flatten)]
    pub prediction: Prediction,
    /// When it was scored.
    pub predicted_at: Timestamp,
}

crate::message::message!(PredictionNotice, "assay.prediction.v1");

impl PredictionNotice {
    /// The notice about a row of a chunk.
    pub fn of(chunk: &ScoredChunk, predicted: &Predicted) -> Result<Self, WireError> {
        Ok(Self {
            transaction_id: predicted.entry.transaction.id()?,
            external_id: predicted.entry.external_id.clone(),
            run_id: chunk.id.run_id.clone(),
            row_number: predicted.entry.row,
            lane: chunk.lane,
            // Whoever listens need not know where the ML API is.
            prediction: Prediction { endpoint: None, ..predicted.prediction.clone() },
            predicted_at: chunk.predicted_at,
        })
    }

    /// Its topic: `<lane>.<label>`, always two words.
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.lane.as_str(), topic_word(&self.prediction.prediction))
    }
}

/// A label as one word of a routing key: lower case, with `-` for reserved and invisible characters.
fn topic_word(label: &str) -> String {
    let is_reserved =
        |character: char| matches!(character, '.' | '#' | '*') || character.is_whitespace() || character.is_control();
    let word = label.trim().chars().flat_map(char::to_lowercase);
    let word: String = word.map(|letter| if is_reserved(letter) { '-' } else { letter }).take(MAX_LABEL).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{ChunkId, Entry, IdScheme, RowRange, TimeZone};

    fn chunk(prediction: Prediction) -> ScoredChunk {
        let entry = Entry { external_id: Some("4711".into()), ..entry(101) };
        ScoredChunk {
            id: ChunkId { run_id: "batch_20260111_100000".parse().unwrap(), chunk: 1 },
            range: RowRange { first_row: 101, rows: 1 },
            ids: IdScheme::V5,
            lane: Lane::Batch,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", TimeZone::UTC).unwrap(),
            predicted: vec![Predicted { entry, prediction }],
            failed: Vec::new(),
            rejected: Vec::new(),
            known: Vec::new(),
        }
    }

    fn prediction(label: &str, fraud_score: Option<f64>) -> Prediction {
        Prediction { prediction: label.into(), fraud_score, ..Prediction::default() }
    }

    #[test]
    fn prediction_v1_is_pinned() {
        let chunk = chunk(Prediction { model_version: Some("demo-1".into()), ..prediction("fraud", Some(0.97)) });
        let notice = PredictionNotice::of(&chunk, &chunk.predicted[0]).unwrap();
        let body = String::from_utf8(notice.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(PredictionNotice::decode(body.as_bytes()).unwrap(), notice);
        assert_eq!(notice.routing_key(), "batch.fraud");
    }

    #[test]
    fn unknown_values_are_omitted() {
        let mut chunk = chunk(prediction("Rent", None));
        chunk.predicted[0].entry.external_id = None;
        let notice = PredictionNotice::of(&chunk, &chunk.predicted[0]).unwrap();
        let body = String::from_utf8(notice.encode().unwrap()).unwrap();
        assert!(!body.contains("external_id") && !body.contains("fraud_score"), "{body}");
        assert_eq!(PredictionNotice::decode(body.as_bytes()).unwrap(), notice);
    }

    #[test]
    fn a_label_is_one_word_of_a_topic() {
        for (label, word) in [
            ("Fraud", "fraud"),
            (" Card not present ", "card-not-present"),
            ("a.b#c*d\te\0f", "a-b-c-d-e-f"),
            ("Élevé", "élevé"),
            ("", "-"),
            ("  ", "-"),
        ] {
            assert_eq!(topic_word(label), word, "{label:?}");
        }
        assert!(format!("realtime.{}", topic_word(&"𝕏".repeat(1_000))).len() <= 255);
    }

    #[test]
    fn a_label_or_a_score_flags_a_transaction() {
        for (label, score, flagged) in [
            ("fraud", None, true),
            ("FRAUD", Some(0.1), true),
            ("legitimate", Some(0.5), true),
            ("legitimate", Some(0.499_999), false),
            ("legitimate", Some(1.0), true),
            ("legitimate", Some(850.0), false),
            ("legitimate", None, false),
            ("fraudulent", None, false),
        ] {
            assert_eq!(prediction(label, score).is_flagged(), flagged, "{label} {score:?}");
        }
    }
}
