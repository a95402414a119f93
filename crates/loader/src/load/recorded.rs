//! Which chunks of a run the ledger has, walked in order, some thousand at a time.

use std::collections::VecDeque;

use assay_store::{RecordedChunk, Store, StoreError};
use assay_transaction::RunId;

use crate::LoadError;
use crate::patience::until_answered;

/// How many chunks one query brings.
const PAGE: u32 = 2_000;

/// A walk over the recorded chunks of a run, for questions in ascending order.
pub(crate) struct RecordedChunks<'a> {
    store: &'a dyn Store,
    run_id: &'a RunId,
    page: VecDeque<RecordedChunk>,
    /// The first chunk that no page has covered; none where all are.
    beyond: Option<u64>,
}

impl<'a> RecordedChunks<'a> {
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
                    let (store, run_id) = (self.store, self.run_id);
                    let page =
                        until_answered("the next chunk", || store.recorded_from(run_id, beyond.max(chunk), PAGE));
                    self.page = page.await?.into();
                    self.beyond = self.page.back().map(|last| last.chunk + 1);
                }
            }
        }
    }
}

/// The chunk behind the last one that is recorded, or `chunk` where that lies further on.
pub(crate) async fn end_of_recorded_chunks(
    store: &dyn Store,
    run_id: &RunId,
    mut chunk: u64,
) -> Result<u64, StoreError> {
    while let Some(last) = store.recorded_from(run_id, chunk, PAGE).await?.last() {
        chunk = last.chunk + 1;
    }
    Ok(chunk)
}
