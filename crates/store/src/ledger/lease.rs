//! Leases: which loader reads the source of a run, and until when by the database's clock.
//!
//! A lease is granted to whoever asks first, kept by renewing it, and free once it is released or has run out. Each grant
//! raises the run's epoch; what an earlier epoch still wants to write is refused. So a loader that was only paused, and
//! comes back after another has taken its run over, changes nothing.

use std::time::Duration;

use assay_transaction::{Run, RunId, StopOrder};

use crate::StoreError;

/// The right to move a run's checkpoint and to seal it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which run.
    pub run_id: RunId,
    /// Which loader, in words that no other loader has.
    pub holder: String,
    /// How often the run has changed hands.
    pub epoch: u64,
}

impl Lease {
    /// What a loader is told that has lost its lease to somebody, as far as that is known.
    pub(crate) fn lost(&self, by: Option<&str>) -> StoreError {
        let run_id = &self.run_id;
        StoreError::lease_lost(match by {
            Some(by) => format!("run {run_id} has been taken over by {by}"),
            None => format!("run {run_id} has been taken over"),
        })
    }
}

/// Whether a run could be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It could, and this is how far it is.
    Granted(Run, Lease),
    /// A loader that lives has it.
    Held {
        /// The run.
        run: Run,
        /// Which loader.
        by: String,
        /// How long its lease lasts unless it renews it.
        remaining: Duration,
    },
    /// Nobody loads it any more: it was read to its end, or as far as it goes.
    NotLoading(Run),
}

/// What came of renewing a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It is the loader's as before; with the order to end the run, where one was given.
    Kept(Option<StopOrder>),
    /// It is not: the run was taken over, or sealed.
    Lost {
        /// By whom, where somebody has it now.
        by: Option<String>,
    },
}
