//! How far runs are, for those who look: each answer is of one point in time, so that none of its numbers contradicts another.

use assay_transaction::{Run, Tally};

use serde::Serialize;

use crate::Progress;

/// How fast a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Rows recorded within the window.
    pub rows: u64,
    /// The window: from the first chunk in it to now, in milliseconds.
    pub millis: u64,
}

/// How often a label was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictionCount {
    /// The label.
    pub prediction: String,
    /// Of how many transactions.
    pub count: u64,
    /// The mean of their fraud scores, where the model gave some.
    pub mean_score: Option<f64>,
}

/// How the outcomes of a run's rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Row by row, with their labels: takes its time for a large run.
    Rows,
    /// As the chunks were booked: at once, and without the labels.
    Chunks,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The run.
    pub run: Run,
    /// The loader that is at it, as far as its lease tells.
    pub held_by: Option<String>,
    /// How much of it is recorded.
    pub progress: Progress,
    /// How fast the latest part of it went.
    pub pace: Pace,
    /// Milliseconds since something of it was recorded, or since it began.
    pub quiet_millis: u64,
    /// What became of its rows.
    pub tally: Tally,
    /// How many are invalid, by reason, the most frequent first.
    pub invalid: Vec<(String, u64)>,
    /// How many failed, by class, the most frequent first.
    pub failed: Vec<(String, u64)>,
    /// How often each label was predicted, where rows were counted one by one.
    pub predictions: Option<Vec<PredictionCount>>,
    /// Dead letters that keep it from being complete.
    pub blocking: u64,
}
