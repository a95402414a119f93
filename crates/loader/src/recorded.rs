//! Which chunks of a run the ledger has, walked in order, some thousand at a time.

use std::collections::VecDeque;

use assay_store::{RecordedChunk, Store};
use assay_transaction::RunId;

use crate::LoadError;

/// How many chunks one query brings.
const PAGE: u32 = 2_000;

/// A walk over the recorded chunks of a run, for questions in ascending order.
pub(crate) struct Recorded<'a> {
    store: &'a dyn Store,
    run_id: &'a RunId,
    page: VecDeque<RecordedChunk>,
    /// The first chunk that no page has covered; none where all are.
    beyond: Option<u64>,
}

impl<'a> Recorded<'a> {
    /// A walk from the first chunk on.
    pub(crate) fn of(store: &'a dyn Store, run_id: &'a RunId) -> Self {
        Self { store, run_id, page: VecDeque::new(), beyond: Some(0) }
    }

    /// For a run of which nothing can be recorded, or need not be known.
    pub(crate) fn nothing(store: &'a dyn Store, run_id: &'a RunId) -> Self {
        Self { beyond: None, ..Self::of(store, run_id) }
    }

    /// Whether a chunk is recorded. Each question is for a later chunk than the one before.
    pub(crate) async fn has(&mut self, chunk: u64) -> Result<bool, LoadError> {
        loop {
            while self.page.pop_front_if(|recorded| recorded.chunk < chunk).is_some() {}
            match (self.page.front(), self.beyond) {
                (Some(recorded), _) => return Ok(recorded.chunk == chunk),
                (None, None) => return Ok(false),
                (None, Some(beyond)) => {
                    self.page = self.store.recorded_from(self.run_id, beyond.max(chunk), PAGE).await?.into();
                    self.beyond = self.page.back().map(|last| last.chunk + 1);
                }
            }
        }
    }
}
