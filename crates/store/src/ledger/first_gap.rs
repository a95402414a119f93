//! The first missing chunk of each sealed run, as far as this process has seen.
//!
//! After every commit, the writer asks whether the run can be closed, and the answer is nearly always no: a chunk
//! that was missing and still is proves it with one index lookup, where counting takes one for each chunk. It proves
//! nothing else: only counting the chunks under the run's lock closes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use assay_transaction::RunId;

/// Most runs that are remembered. Beyond, all are forgotten.
const MAX_RUNS: usize = 1_000;

/// The remembered chunks.
#[derive(Debug, Default)]
pub(crate) struct FirstGaps(Mutex<HashMap<RunId, i64>>);

impl FirstGaps {
    /// The chunk that was missing last time; at first, chunk 0.
    pub(crate) fn of(&self, run_id: &RunId) -> i64 {
        self.with(|runs| runs.get(run_id).copied().unwrap_or_default())
    }

    /// Remembers a missing chunk.
    pub(crate) fn found(&self, run_id: &RunId, chunk: i64) {
        self.with(|runs| {
            if runs.len() >= MAX_RUNS && !runs.contains_key(run_id) {
                runs.clear();
            }
            runs.insert(run_id.clone(), chunk);
        });
    }

    /// Forgets a run: it is closed, or an earlier chunk is missing because the database was restored.
    pub(crate) fn forget(&self, run_id: &RunId) {
        self.with(|runs| runs.remove(run_id));
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<RunId, i64>) -> T) -> T {
        // A panic cannot spoil it: it only says where to look first.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_of_each_run_and_no_more_than_so_many() {
        let gaps = FirstGaps::default();
        let run = |number: usize| format!("run_{number}").parse::<RunId>().unwrap();
        assert_eq!(gaps.of(&run(0)), 0);
        gaps.found(&run(0), 7);
        gaps.found(&run(0), 9);
        assert_eq!(gaps.of(&run(0)), 9);
        gaps.forget(&run(0));
        assert_eq!(gaps.of(&run(0)), 0);
        for number in 0..=MAX_RUNS {
            gaps.found(&run(number), 1);
        }
        assert_eq!((gaps.of(&run(0)), gaps.of(&run(MAX_RUNS))), (0, 1));
    }
}
