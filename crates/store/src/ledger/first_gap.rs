//! Which chunk of a sealed run is the first that is missing, as far as this process has seen.
//!
//! Whether a run can be closed is asked after every commit, and the answer is nearly always no: one chunk that was missing and
//! still is proves it, and takes one look at an index, where counting takes one at each chunk. It proves nothing else: a run is
//! closed by the set of its chunks alone, counted under its lock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use assay_transaction::RunId;

/// Of so many runs at the most. Beyond, all are looked at from the beginning again.
const MAX_RUNS: usize = 1_000;

/// Where to look first.
#[derive(Debug, Default)]
pub(crate) struct FirstGaps(Mutex<HashMap<RunId, i64>>);

impl FirstGaps {
    /// The chunk that was missing last time; at first it is the first one.
    pub(crate) fn of(&self, run_id: &RunId) -> i64 {
        self.with(|runs| runs.get(run_id).copied().unwrap_or_default())
    }

    /// Keeps a chunk that is missing.
    pub(crate) fn found(&self, run_id: &RunId, chunk: i64) {
        self.with(|runs| {
            if runs.len() >= MAX_RUNS && !runs.contains_key(run_id) {
                runs.clear();
            }
            runs.insert(run_id.clone(), chunk);
        });
    }

    /// Begins anew: the run is closed, or chunks before that one are missing, as the database was restored.
    pub(crate) fn forget(&self, run_id: &RunId) {
        self.with(|runs| runs.remove(run_id));
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<RunId, i64>) -> T) -> T {
        // Whatever a panic left is where to look first, and no more.
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
