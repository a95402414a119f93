//! Replays: failed transactions of a run, sent through predictors and writer again under their own identities, as
//! `assay.replay.v1` and `assay.replayed.v1`.
//!
//! They have message types of their own: a reader that took one for a chunk would find its identity recorded, and skip its rows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Entry, FailedRow, IdScheme, Lane, Predicted, RunId, Timestamp};

/// The identity of a replay message. A message whose identity is already recorded changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplayId {
    /// The run whose rows failed.
    pub run_id: RunId,
    /// The number of the replay within the run, from 1.
    pub replay: u64,
    /// Counted from 0 within the replay.
    pub part: u64,
}

/// `run/replay/part`, also the `message_id`.
impl fmt::Display for ReplayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.run_id, self.replay, self.part)
    }
}

/// Failed transactions, sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayPart {
    /// Its identity.
    #[serde(flatten)]
    pub id: ReplayId,
    /// The scheme of the ids of its transactions. A message of an earlier version names none: it is the first.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The transactions, in row order, as they were when they failed.
    pub transactions: Vec<Entry>,
}

/// Scored transactions of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredReplay {
    /// Its identity, as before.
    #[serde(flatten)]
    pub id: ReplayId,
    /// The scheme of the ids of its transactions. A message of an earlier version names none: it is the first.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The lane it came by.
    pub lane: Lane,
    /// When it was scored.
    pub predicted_at: Timestamp,
    /// Scored, in row order.
    pub predicted: Vec<Predicted>,
    /// Failed again, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRow>,
}

crate::message::message!(ReplayPart, "assay.replay.v1");
crate::message::message!(ScoredReplay, "assay.replayed.v1");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{FailureClass, Prediction, TimeZone};

    fn id() -> ReplayId {
        ReplayId { run_id: "batch_20260111_100000".parse().unwrap(), replay: 2, part: 0 }
    }

    #[test]
    fn replay_v1_is_pinned() {
        let part = ReplayPart { id: id(), ids: IdScheme::V5, transactions: vec![entry(7)] };
        let body = String::from_utf8(part.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(ReplayPart::decode(body.as_bytes()).unwrap(), part);
        assert_eq!(part.id.to_string(), "batch_20260111_100000/2/0");
    }

    #[test]
    fn replayed_v1_is_pinned() {
        let prediction = Prediction { prediction: "fraud".into(), fraud_score: Some(0.97), ..Prediction::default() };
        let failed = FailedRow {
            transaction_id: entry(8).transaction.id().unwrap(),
            entry: entry(8),
            class: FailureClass::Suspect,
            reason: "HTTP status 500".into(),
            attempts: 4,
        };
        let scored = ScoredReplay {
            id: id(),
            ids: IdScheme::V5,
            lane: Lane::Batch,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", TimeZone::UTC).unwrap(),
            predicted: vec![Predicted { entry: entry(7), prediction }],
            failed: vec![failed],
        };
        let body = String::from_utf8(scored.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(ScoredReplay::decode(body.as_bytes()).unwrap(), scored);
    }

    #[test]
    fn neither_is_taken_for_a_chunk() {
        let part = ReplayPart { id: id(), ids: IdScheme::V5, transactions: vec![entry(7)] };
        assert!(crate::Chunk::decode(&part.encode().unwrap()).is_err());
    }
}
