//! What a commit notes of its rows: counted in one pass, and written as one line for each of its runs.

use std::collections::BTreeMap;

use assay_transaction::{RunId, Tally};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::operations::statistics::{HIGHEST, HighestScore, SCORE_BINS, ScoreHistogram};
use crate::values::{storable, to_json};
use crate::write::resolve_ids::Resolution;
use crate::write::transaction::{FailureRow, InvalidRow, StagedRow};

/// Most labels, reasons or classes that one line names: a model that makes up a label for each row is not worth a line for each.
const MOST: usize = 100;
/// The name of all further ones.
const OTHERS: &str = "(others)";

/// Bars of the histogram below, above and beside the fixed ones, as lines number them.
const BELOW: i64 = -1;
#[expect(clippy::cast_possible_wrap, reason = "a small number")]
const ABOVE: i64 = SCORE_BINS as i64;
const MISSING: i64 = ABOVE + 1;

/// The bar of a score.
fn bar(score: Option<f64>) -> i64 {
    match score {
        None => MISSING,
        Some(score) if score < 0.0 => BELOW,
        Some(score) if score > 1.0 => ABOVE,
        // Between 0 and SCORE_BINS, as it was compared.
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
        Some(score) => ((score * SCORE_BINS as f64) as i64).min(ABOVE - 1),
    }
}

/// What a line says besides the tally. Later versions may add to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scores: Vec<(i64, u64)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) invalid: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failed: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    highest: Vec<(f64, u64)>,
}

/// Adds counts by name.
fn add(sums: &mut BTreeMap<String, u64>, name: &str, rows: u64) {
    if let Some(sum) = sums.get_mut(name) {
        *sum += rows;
    } else if sums.len() < MOST {
        sums.insert(storable(name.into()).into_owned(), rows);
    } else {
        *sums.entry(OTHERS.to_owned()).or_default() += rows;
    }
}

impl Facts {
    /// Adds what another line says.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sums, counts) in
            [(&mut self.labels, &other.labels), (&mut self.invalid, &other.invalid), (&mut self.failed, &other.failed)]
        {
            for (name, rows) in counts {
                add(sums, name, *rows);
            }
        }
        let mut bars: BTreeMap<i64, u64> = self.scores.iter().copied().collect();
        for (bar, rows) in &other.scores {
            *bars.entry(*bar).or_default() += rows;
        }
        self.scores = bars.into_iter().collect();
        self.highest.extend(&other.highest);
        keep_highest(&mut self.highest);
    }

    /// The scores as a histogram.
    pub(crate) fn histogram(&self) -> ScoreHistogram {
        let mut histogram = ScoreHistogram::default();
        for (bar, rows) in &self.scores {
            match *bar {
                BELOW => histogram.below += rows,
                ABOVE => histogram.above += rows,
                MISSING => histogram.missing += rows,
                bar => {
                    if let Some(sum) = usize::try_from(bar).ok().and_then(|bar| histogram.bins.get_mut(bar)) {
                        *sum += rows;
                    }
                }
            }
        }
        histogram
    }

    /// The rows with the highest scores.
    pub(crate) fn highest(&self) -> Vec<HighestScore> {
        self.highest.iter().map(|(score, row)| HighestScore { row: *row, score: *score }).collect()
    }
}

/// Keeps the highest scores, the highest first; of equal ones the first rows.
fn keep_highest(highest: &mut Vec<(f64, u64)>) {
    highest.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    highest.truncate(HIGHEST);
}

/// What a commit notes of one run.
#[derive(Default)]
struct RunPart<'a> {
    tally: Tally,
    /// Nearly all rows have a label of a few.
    labels: Vec<(&'a str, u64)>,
    bars: BTreeMap<i64, u64>,
    highest: Vec<(f64, u64)>,
    /// What a score has to exceed: so many have been found that are at least as high. Rows come in order, so of equal scores the
    /// first are kept.
    least: Option<f64>,
    facts: Facts,
}

impl<'a> RunPart<'a> {
    fn add_predicted(&mut self, row: &'a StagedRow<'_>) {
        self.tally.predicted += 1;
        let label = &row.prediction.prediction;
        let is_full = self.labels.len() >= MOST;
        match self.labels.iter_mut().find(|(known, _)| *known == &**label) {
            Some((_, rows)) => *rows += 1,
            None if is_full => add(&mut self.facts.labels, OTHERS, 1),
            None => self.labels.push((&**label, 1)),
        }
        let score = row.prediction.fraud_score;
        *self.bars.entry(bar(score)).or_default() += 1;
        if let Some(score) = score
            && self.least.is_none_or(|least| score > least)
        {
            self.highest.push((score, row.entry.row));
            // Now and then, so that they stay few.
            if self.highest.len() >= 10 * HIGHEST {
                keep_highest(&mut self.highest);
                self.least = self.highest.last().map(|(score, _)| *score);
            }
        }
    }

    fn facts(mut self) -> Facts {
        for (label, rows) in self.labels {
            add(&mut self.facts.labels, label, rows);
        }
        keep_highest(&mut self.highest);
        Facts { scores: self.bars.into_iter().collect(), highest: self.highest, ..self.facts }
    }
}

/// What a commit notes of its runs.
#[derive(Default)]
pub(crate) struct CommitStatistics<'a> {
    runs: BTreeMap<&'a str, RunPart<'a>>,
}

impl<'a> CommitStatistics<'a> {
    /// Of scored rows, each with what became of it.
    pub(crate) fn of(rows: &[&'a StagedRow<'_>], resolutions: &[Resolution]) -> Self {
        let mut found = Self::default();
        for (row, resolution) in rows.iter().zip(resolutions) {
            match resolution {
                Resolution::Stored | Resolution::Kept => found.part(row.run_id).add_predicted(row),
                Resolution::Duplicate | Resolution::Replaced => found.part(row.run_id).tally.duplicate += 1,
                // They are among the failed rows.
                Resolution::Pending | Resolution::Conflict(_) | Resolution::Refused(_) | Resolution::Unscored => {}
            }
        }
        found
    }

    fn part(&mut self, run_id: &'a RunId) -> &mut RunPart<'a> {
        self.runs.entry(run_id.as_str()).or_default()
    }

    /// Adds rows that rules rejected.
    pub(crate) fn add_invalid(&mut self, rows: &[InvalidRow<'a>]) {
        for row in rows {
            let part = self.part(row.run_id);
            part.tally.invalid += 1;
            add(&mut part.facts.invalid, &row.reason, 1);
        }
    }

    /// Adds rows that were not scored or not stored.
    pub(crate) fn add_failed(&mut self, rows: &[FailureRow<'a>]) {
        for row in rows {
            let part = self.part(row.run_id);
            part.tally.failed += 1;
            add(&mut part.facts.failed, &row.class, 1);
        }
    }

    /// Adds failed rows that had been stored before, and so count as predicted.
    pub(crate) fn add_kept(&mut self, runs: impl Iterator<Item = &'a RunId>) {
        for run_id in runs {
            self.part(run_id).tally.predicted += 1;
        }
    }

    /// JSON: `[[run, predicted, invalid, failed, duplicate, facts], …]`, in the order of the runs; none if there is nothing to note.
    pub(crate) fn into_json(self) -> Result<Option<String>, StoreError> {
        if self.runs.is_empty() {
            return Ok(None);
        }
        let line = |(run_id, part): (&'a str, RunPart<'a>)| {
            let Tally { predicted, invalid, failed, duplicate } = part.tally;
            (run_id, predicted, invalid, failed, duplicate, part.facts())
        };
        to_json(&self.runs.into_iter().map(line).collect::<Vec<_>>()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_in_its_bar() {
        for (score, expected) in [
            (Some(0.0), 0),
            (Some(0.004_999), 0),
            (Some(0.005), 1),
            (Some(0.5), 100),
            (Some(0.999_999), 199),
            (Some(1.0), 199),
            (Some(-0.1), BELOW),
            (Some(1.5), ABOVE),
            (Some(640.0), ABOVE),
            (None, MISSING),
        ] {
            assert_eq!(bar(score), expected, "{score:?}");
        }
    }

    #[test]
    fn lines_add_up() {
        let line = |bar, score, row| Facts {
            labels: BTreeMap::from([("fraud".to_owned(), 2)]),
            scores: vec![(bar, 2)],
            invalid: BTreeMap::from([("amount_missing".to_owned(), 1)]),
            failed: BTreeMap::new(),
            highest: vec![(score, row)],
        };
        let mut sum = line(7, 0.5, 9);
        for other in [line(7, 0.9, 3), line(MISSING, 0.5, 4), line(BELOW, 0.1, 1)] {
            sum.merge(&other);
        }
        assert_eq!((sum.labels["fraud"], sum.invalid["amount_missing"]), (8, 4));
        let histogram = sum.histogram();
        assert_eq!((histogram.bins[7], histogram.missing, histogram.below, histogram.above), (4, 2, 2, 0));
        let rows: Vec<u64> = sum.highest().iter().map(|highest| highest.row).collect();
        assert_eq!(rows, [3, 4, 9, 1]);
        let again: Facts = serde_json::from_str(&serde_json::to_string(&sum).unwrap()).unwrap();
        assert_eq!(again, sum);
        assert_eq!(serde_json::from_str::<Facts>(r#"{"amounts": [1]}"#).unwrap(), Facts::default());
    }

    #[test]
    fn countless_names_are_counted_together() {
        let mut sums = BTreeMap::new();
        for number in 0..3 * MOST {
            add(&mut sums, &format!("label {number}"), 1);
        }
        assert_eq!((sums.len(), sums[OTHERS], sums.values().sum::<u64>()), (MOST + 1, 200, 300));
    }
}
