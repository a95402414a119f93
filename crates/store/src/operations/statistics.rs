//! What each commit notes of its rows, summed up: so that no picture of a run has to read those rows.
//!
//! A commit inserts a line for each of its runs and never changes one. The writer sums lines up by the minute once they are old. They count
//! what was recorded, and when; what is true now, such as a failure that a replay mended, is in the rows and chunks.

use std::collections::BTreeMap;

use assay_transaction::{Tally, Timestamp};

/// Bars of a [`ScoreHistogram`].
pub const SCORE_BINS: usize = 200;
/// Most transactions in [`RunStatistics::highest`].
pub const HIGHEST: usize = 20;

/// What commits noted of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunStatistics {
    /// What was recorded when, in order of time.
    pub moments: Vec<RecordedMoment>,
    /// The fraud scores of the rows that count as predicted.
    pub scores: ScoreHistogram,
    /// Their labels.
    pub labels: BTreeMap<String, u64>,
    /// Invalid rows by the code of their reason.
    pub invalid: BTreeMap<String, u64>,
    /// Failed transactions by class, those included that a replay mended.
    pub failed: BTreeMap<String, u64>,
    /// The rows with the highest scores, the highest first: at most [`HIGHEST`] of them.
    pub highest: Vec<HighestScore>,
}

/// What was recorded within a second or, if that was long ago, a minute.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedMoment {
    /// Its start, by the database's clock.
    pub at: Timestamp,
    /// Its length in seconds: 1 or 60.
    pub seconds: u32,
    /// The outcomes that were recorded.
    pub tally: Tally,
    /// Of the predicted rows, how many have each label.
    pub labels: BTreeMap<String, u64>,
}

/// How often scores are where, between fixed edges: histograms of any two runs can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreHistogram {
    /// Scores from `i / SCORE_BINS` to below `(i + 1) / SCORE_BINS`; 1 is in the last bar.
    pub bins: Vec<u64>,
    /// Scores below 0, of a model whose scores are no probabilities.
    pub below: u64,
    /// Scores above 1.
    pub above: u64,
    /// Rows without a score.
    pub missing: u64,
}

impl Default for ScoreHistogram {
    fn default() -> Self {
        Self { bins: vec![0; SCORE_BINS], below: 0, above: 0, missing: 0 }
    }
}

/// A row with a high score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HighestScore {
    /// The row in its source.
    pub row: u64,
    /// Its fraud score.
    pub score: f64,
}
