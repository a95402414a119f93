//! How far runs are, for those who look: each answer is of one point in time, so that none of its numbers contradicts another.

use std::fmt::Write as _;

use assay_transaction::{Run, Tally};

use crate::{Pace, PredictionCount, Progress};

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

/// Which runs are meant. What is not set leaves all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFilter {
    /// Begun in so many seconds before now.
    pub seconds: Option<f64>,
    /// Part of a location; with `*` or `?` in it the whole of one, where these stand for any text and any character. Upper and lower
    /// case are not told apart.
    pub source: Option<String>,
    /// Only those of which transactions failed, and still are failed.
    pub has_failed: bool,
}

impl RunFilter {
    /// The source as a pattern of SQL's LIKE with `!` before what is meant literally.
    pub(crate) fn pattern(&self) -> Option<String> {
        let source = self.source.as_deref()?.to_lowercase();
        let is_whole = source.contains(['*', '?']);
        let mut pattern = String::new();
        for character in source.chars() {
            // Writing to a string cannot fail.
            let _ = match character {
                '*' => pattern.write_char('%'),
                '?' => pattern.write_char('_'),
                '%' | '_' | '!' => write!(pattern, "!{character}"),
                other => pattern.write_char(other),
            };
        }
        Some(if is_whole { pattern } else { format!("%{pattern}%") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_becomes_a_pattern() {
        for (source, pattern) in
            [("day_1", "%day!_1%"), ("s3://bank/*/A?.csv", "s3://bank/%/a_.csv"), ("50%!", "%50!%!!%")]
        {
            let filter = RunFilter { source: Some(source.into()), ..RunFilter::default() };
            assert_eq!(filter.pattern().as_deref(), Some(pattern), "{source}");
        }
        assert_eq!(RunFilter::default().pattern(), None);
    }
}
