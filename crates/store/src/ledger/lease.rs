//! Leases: which loader reads the source of a run, and until when by the database's clock.
//!
//! The first loader that asks gets the lease, keeps it by renewing it, and loses it when it releases it or lets it
//! run out. Each grant raises the run's epoch, and writes of an earlier epoch are refused. So a loader that was only
//! paused, and returns after another took its run over, changes nothing.

use std::time::Duration;

use assay_transaction::{Run, RunId, StopOrder};

use crate::StoreError;

/// The right to move a run's checkpoint and to seal it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run_id: RunId,
    /// The loader that owns it, by a name that no other loader has.
    pub owner: String,
    /// How often the run has changed owners.
    pub epoch: u64,
}

impl Lease {
    /// The error for a loader that lost its lease, with the new owner if known.
    pub(crate) fn lost(&self, by: Option<&str>) -> StoreError {
        let run_id = &self.run_id;
        StoreError::lease_lost(match by {
            Some(by) => format!("run {run_id} has been taken over by {by}"),
            None => format!("run {run_id} has been taken over"),
        })
    }
}

/// The result of taking a run over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAttempt {
    /// The run is the loader's, as far as it is.
    Granted(Run, Lease),
    /// Another live loader has it.
    Held {
        /// The run.
        run: Run,
        /// The owner of its lease.
        by: String,
        /// How long the lease lasts unless it is renewed.
        remaining: Duration,
    },
    /// It is no longer loading: it was read to its end, or as far as it goes.
    NotLoading(Run),
}

/// The result of renewing a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRenewal {
    /// Still the loader's; with the order to stop the run, if there is one.
    Kept(Option<StopOrder>),
    /// Lost: the run was taken over, or sealed.
    Lost {
        /// The new owner, if there is one.
        by: Option<String>,
    },
}
