//! How far runs are. Each answer is of one point in time, so that its numbers agree.

use assay_transaction::{ModelEndpoint, Run, Tally, Timestamp};

use serde::Serialize;

use crate::RecordedProgress;

/// How fast a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunPace {
    /// Rows recorded within the window.
    pub rows: u64,
    /// Milliseconds from the first chunk in the window to now.
    pub millis: u64,
}

/// How often a label was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictionCount {
    /// The label.
    pub prediction: String,
    /// How many transactions have it.
    pub count: u64,
    /// The mean of their fraud scores, if the model returned some.
    pub mean_score: Option<f64>,
}

/// How the outcomes of a run's rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TallySource {
    /// Row by row, with labels: slow for a large run.
    Rows,
    /// From the chunks: fast, without labels.
    Chunks,
}

/// A model that scored rows of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunModel {
    /// Its version, if it names one.
    pub model_version: Option<String>,
    /// Where it was asked, if that is known.
    pub endpoint: Option<ModelEndpoint>,
    /// When its first prediction was stored.
    pub first_at: Timestamp,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOverview {
    /// The run.
    pub run: Run,
    /// The owner of its live lease.
    pub held_by: Option<String>,
    /// How much of it is recorded.
    pub progress: RecordedProgress,
    /// Its latest speed.
    pub pace: RunPace,
    /// Milliseconds since the last chunk was recorded, or since the run began.
    pub quiet_millis: u64,
    /// The outcomes of its rows.
    pub tally: Tally,
    /// Invalid rows by reason, the most frequent first.
    pub invalid: Vec<(String, u64)>,
    /// Failed transactions by class, the most frequent first.
    pub failed: Vec<(String, u64)>,
    /// The models that scored its rows, the first first: more than one if the model changed in its middle.
    pub models: Vec<RunModel>,
    /// How often each label was predicted, if rows were counted.
    pub predictions: Option<Vec<PredictionCount>>,
    /// Dead letters that keep it from being complete.
    pub blocking: u64,
}
