//! The scores of a chunk, `assay.scored.v2`: what a predictor adds to a chunk that it passes on as it came.
//!
//! The message encloses the body of the chunk. Its answers are in the order of the chunk's transactions, so neither ids nor rows are
//! repeated; a label is written once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::unscored::UnscoredRow;
use crate::{
    Chunk, ChunkId, EncodedTransaction, FailedRow, FailureClass, IdScheme, KnownRow, Lane, ModelEndpoint, Predicted,
    Prediction, ReasonCode, RowRange, ScoreFailure, ScoreOutcome, ScoredChunk, Timestamp, UnscoredChunk, WireError,
};

/// A label, with the model that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScoredLabel {
    /// As in [`Prediction`].
    pub prediction: Arc<str>,
    /// As in [`Prediction`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<Arc<str>>,
    /// As in [`Prediction`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<ModelEndpoint>>,
}

/// Why a transaction has its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowReasons {
    /// Its row.
    pub row: u64,
    /// As in [`Prediction`].
    pub reasons: Vec<ReasonCode>,
}

/// A transaction that could not be scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedScore {
    /// Its row.
    pub row: u64,
    /// Its stored identity.
    pub transaction_id: Uuid,
    /// The kind of failure.
    pub class: FailureClass,
    /// For a person; bounded, and without anything the API echoed.
    pub reason: String,
    /// Number of attempts, bisection included.
    pub attempts: u32,
}

/// The scores of a chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkScores {
    /// The identity of the chunk.
    #[serde(flatten)]
    pub id: ChunkId,
    /// Its range.
    #[serde(flatten)]
    pub range: RowRange,
    /// The scheme of the transactions' ids.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The lane it came by.
    pub lane: Lane,
    /// When it was scored.
    pub predicted_at: Timestamp,
    /// The labels of `answers`.
    pub labels: Vec<ScoredLabel>,
    /// One for each transaction of the chunk: the index of its label and its score; none if it failed or was known.
    pub answers: Vec<Option<(u32, Option<f64>)>>,
    /// The failed ones, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedScore>,
    /// The reasons of those that have some, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<RowReasons>,
    /// Whether a known row counts as any other: the chunk is not scored at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_known: bool,
}

crate::message::message!(ChunkScores, "assay.scored.v2");

/// Collects labels, each once.
#[derive(Debug, Default)]
struct Labels {
    labels: Vec<ScoredLabel>,
    indices: HashMap<ScoredLabel, u32>,
}

impl Labels {
    fn index(&mut self, prediction: &Prediction) -> u32 {
        let Prediction { prediction, model_version, endpoint, .. } = prediction;
        // Most chunks have one or two.
        for (index, label) in (0..).zip(self.labels.iter().take(2)) {
            if label.prediction == *prediction && label.model_version == *model_version && label.endpoint == *endpoint {
                return index;
            }
        }
        let label = ScoredLabel {
            prediction: Arc::clone(prediction),
            model_version: model_version.clone(),
            endpoint: endpoint.clone(),
        };
        *self.indices.entry(label).or_insert_with_key(|label| {
            self.labels.push(label.clone());
            u32::try_from(self.labels.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

impl FailedScore {
    fn new(row: u64, transaction: &EncodedTransaction, failure: ScoreFailure) -> Self {
        let ScoreFailure { class, reason, attempts } = failure;
        Self { row, transaction_id: transaction.id_or_nil(), class, reason, attempts }
    }
}

impl ChunkScores {
    /// The scores of a chunk: an outcome for each transaction that is [to be scored](UnscoredChunk::to_score), in that order.
    pub fn new(chunk: &UnscoredChunk, lane: Lane, at: Timestamp, outcomes: Vec<ScoreOutcome>) -> Self {
        let mut scores = Self::without_answers(chunk, lane, at);
        let mut labels = Labels::default();
        let mut outcomes = outcomes.into_iter();
        scores.answers.reserve_exact(chunk.rows.len());
        for (UnscoredRow { row, is_known }, transaction) in chunk.rows.iter().zip(&chunk.transactions) {
            let outcome = if *is_known { None } else { outcomes.next() };
            let answer = match outcome {
                Some(Ok(prediction)) => {
                    let answer = (labels.index(&prediction), prediction.fraud_score);
                    if !prediction.reasons.is_empty() {
                        scores.reasons.push(RowReasons { row: *row, reasons: prediction.reasons });
                    }
                    Some(answer)
                }
                Some(Err(failure)) => {
                    scores.failed.push(FailedScore::new(*row, transaction, failure));
                    None
                }
                None => None,
            };
            scores.answers.push(answer);
        }
        Self { labels: labels.labels, ..scores }
    }

    /// The scores of a chunk that will not be scored: all of its transactions fail.
    pub fn all_failed(chunk: &UnscoredChunk, lane: Lane, at: Timestamp, class: &FailureClass, reason: &str) -> Self {
        let failed = |(row, transaction): (&UnscoredRow, _)| {
            FailedScore::new(row.row, transaction, ScoreFailure::given_up(class, reason))
        };
        Self {
            answers: vec![None; chunk.rows.len()],
            failed: chunk.rows.iter().zip(&chunk.transactions).map(failed).collect(),
            without_known: chunk.known() > 0,
            ..Self::without_answers(chunk, lane, at)
        }
    }

    fn without_answers(chunk: &UnscoredChunk, lane: Lane, predicted_at: Timestamp) -> Self {
        let UnscoredChunk { id, range, ids, .. } = chunk;
        let (id, range, ids) = (id.clone(), *range, *ids);
        let (labels, answers, failed, reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { id, range, ids, lane, predicted_at, labels, answers, failed, reasons, without_known: false }
    }

    /// The scored chunk, with the enclosed body of the chunk.
    pub fn with_chunk(self, body: &Bytes) -> Result<ScoredChunk, WireError> {
        let refused = |problem| WireError::refused(Self::MESSAGE_TYPE, problem);
        let chunk = Chunk::decode_within(body)?;
        if (&chunk.id, chunk.range, chunk.ids) != (&self.id, self.range, self.ids) {
            return Err(refused("it encloses another chunk than it names"));
        }
        if chunk.transactions.len() != self.answers.len() {
            return Err(refused("it has more or fewer answers than its chunk has transactions"));
        }
        let mut known: HashMap<u64, Prediction> = HashMap::new();
        if !self.without_known {
            known.extend(chunk.known.into_iter().map(|KnownRow { row, prediction }| (row, prediction)));
        }
        let mut failures: HashMap<u64, FailedScore> =
            self.failed.into_iter().map(|failed| (failed.row, failed)).collect();
        let mut reasons: HashMap<u64, Vec<ReasonCode>> =
            self.reasons.into_iter().map(|RowReasons { row, reasons }| (row, reasons)).collect();
        let (mut predicted, mut failed, mut known_rows) =
            (Vec::with_capacity(self.answers.len()), Vec::new(), Vec::new());
        for (entry, answer) in chunk.transactions.into_iter().zip(self.answers) {
            if let Some((label, fraud_score)) = answer {
                let label = usize::try_from(label).ok().and_then(|label| self.labels.get(label));
                let ScoredLabel { prediction, model_version, endpoint } =
                    label.cloned().ok_or_else(|| refused("an answer has a label that it does not list"))?;
                // Few rows have reasons, and mostly none.
                let reasons = if reasons.is_empty() { None } else { reasons.remove(&entry.row) }.unwrap_or_default();
                let prediction = Prediction { prediction, fraud_score, model_version, reasons, endpoint };
                predicted.push(Predicted { entry, prediction });
            } else if let Some(prediction) = known.remove(&entry.row) {
                known_rows.push(entry.row);
                predicted.push(Predicted { entry, prediction });
            } else if let Some(failure) = failures.remove(&entry.row) {
                let FailedScore { transaction_id, class, reason, attempts, .. } = failure;
                failed.push(FailedRow { entry, transaction_id, class, reason, attempts });
            } else {
                return Err(refused("a transaction has neither an answer nor a failure"));
            }
        }
        Ok(ScoredChunk {
            id: chunk.id,
            range: chunk.range,
            ids: chunk.ids,
            lane: self.lane,
            predicted_at: self.predicted_at,
            predicted,
            failed,
            rejected: chunk.rejected,
            known: known_rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{RejectReason, RejectedRow, TimeZone};

    fn prediction(label: &str, fraud_score: Option<f64>) -> Prediction {
        let endpoint = ModelEndpoint::new("http://ml-api:8000/predict".into(), None);
        Prediction {
            prediction: label.into(),
            fraud_score,
            model_version: Some("demo-1".into()),
            reasons: Vec::new(),
            endpoint: Some(endpoint.into()),
        }
    }

    fn chunk() -> Chunk {
        let message = "`side` is empty".to_owned();
        Chunk {
            id: ChunkId { run_id: "batch_20260111_100000".parse().unwrap(), chunk: 1 },
            range: RowRange { first_row: 101, rows: 6 },
            ids: IdScheme::V8,
            transactions: [101, 102, 104, 105, 106].map(entry).to_vec(),
            rejected: vec![RejectedRow {
                row: 103,
                line: 104,
                reason: RejectReason::SideEmpty,
                message,
                raw: "x".into(),
            }],
            known: vec![KnownRow { row: 104, prediction: prediction("fraud", Some(0.75)) }],
        }
    }

    fn scored(chunk: Chunk) -> ScoredChunk {
        let [first, second, known, fourth, failed] = <[_; 5]>::try_from(chunk.transactions).unwrap();
        let predicted = |entry, label, score| Predicted { entry, prediction: prediction(label, score) };
        let mut with_reasons = predicted(second, "fraud", None);
        with_reasons.prediction.reasons = reasons();
        ScoredChunk {
            id: chunk.id,
            range: chunk.range,
            ids: chunk.ids,
            lane: Lane::Batch,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", TimeZone::UTC).unwrap(),
            predicted: vec![
                predicted(first, "legitimate", Some(0.125)),
                with_reasons,
                predicted(known, "fraud", Some(0.75)),
                predicted(fourth, "legitimate", Some(0.0)),
            ],
            failed: vec![FailedRow {
                transaction_id: failed.transaction.id().unwrap(),
                entry: failed,
                class: FailureClass::Rejected,
                reason: "422".into(),
                attempts: 2,
            }],
            rejected: chunk.rejected,
            known: vec![104],
        }
    }

    fn reasons() -> Vec<ReasonCode> {
        vec![ReasonCode::Code("R07".into()), ReasonCode::Contribution { feature: "amount".into(), contribution: 0.25 }]
    }

    fn body() -> Bytes {
        chunk().encode().unwrap().into()
    }

    fn unscored() -> UnscoredChunk {
        UnscoredChunk::decode_within(&body()).unwrap()
    }

    /// The scores that make [`scored`] of [`chunk`].
    fn scores() -> ChunkScores {
        let failure = ScoreFailure { class: FailureClass::Rejected, reason: "422".into(), attempts: 2 };
        let outcomes = vec![
            Ok(prediction("legitimate", Some(0.125))),
            Ok(Prediction { reasons: reasons(), ..prediction("fraud", None) }),
            Ok(prediction("legitimate", Some(0.0))),
            Err(failure),
        ];
        ChunkScores::new(&unscored(), Lane::Batch, scored(chunk()).predicted_at, outcomes)
    }

    #[test]
    fn scored_v2_is_pinned() {
        let body = body();
        let head = scores().encode().unwrap();
        insta::assert_snapshot!(String::from_utf8(head.clone()).unwrap());
        let read = ChunkScores::decode(&head).unwrap().with_chunk(&body).unwrap();
        assert_eq!(read, scored(chunk()));
        assert!(read.accounts_for_its_rows());
    }

    #[test]
    fn a_chunk_that_is_not_scored_has_no_known_rows() {
        let at = Timestamp::parse(b"2026-01-11T10:00:00Z", TimeZone::UTC).unwrap();
        let failed = ScoredChunk::all_failed(chunk(), Lane::Batch, at, &FailureClass::Cancelled, "cancelled");
        let scores = ChunkScores::all_failed(&unscored(), Lane::Batch, at, &FailureClass::Cancelled, "cancelled");
        let read = scores.with_chunk(&body()).unwrap();
        assert_eq!(read, failed);
        assert_eq!(read.failed.len(), 5);
    }

    #[test]
    fn a_label_is_written_once() {
        let names = ["a", "b", "c", "b", "a", "c", "c"];
        let mut labels = Labels::default();
        let indices: Vec<u32> = names.iter().map(|name| labels.index(&prediction(name, None))).collect();
        assert_eq!(indices, [0, 1, 2, 1, 0, 2, 2]);
        assert_eq!(labels.labels.len(), 3);
    }

    #[test]
    fn a_transaction_without_an_outcome_is_noticed() {
        let scores = ChunkScores::new(&unscored(), Lane::Batch, scores().predicted_at, Vec::new());
        assert!(scores.with_chunk(&body()).unwrap_err().to_string().contains("neither"));
    }

    #[test]
    fn scores_of_another_chunk_are_refused() {
        let body = body();
        let other = ChunkId { chunk: 2, ..chunk().id };
        for (bad, why) in [
            (ChunkScores { id: other, ..scores() }, "another chunk"),
            (ChunkScores { ids: IdScheme::V5, ..scores() }, "another chunk"),
            (ChunkScores { range: RowRange { first_row: 100, rows: 6 }, ..scores() }, "another chunk"),
            (ChunkScores { answers: vec![None; 4], ..scores() }, "more or fewer"),
            (ChunkScores { labels: Vec::new(), ..scores() }, "label"),
            (ChunkScores { failed: Vec::new(), ..scores() }, "neither"),
            (ChunkScores { without_known: true, ..scores() }, "neither"),
        ] {
            let error = bad.with_chunk(&body).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(scores().with_chunk(&Bytes::from_static(b"{}")).is_err());
    }
}
