//! What the database already has of a run: chunks that are recorded, and rows that are stored with the same content.

use std::collections::VecDeque;

use assay_store::{EarlierIds, ErrorClass, RecordedChunk, Store, StoreError};
use assay_transaction::{EncodedChunk, Entry, Run, RunId};
use tracing::info;

use crate::LoadError;
use crate::retry::retry_store;

/// Recorded chunks per query.
pub(crate) const PAGE: u32 = 2_000;

/// The recorded chunks of a run, in ascending order.
pub(crate) struct RecordedChunks<'a> {
    store: &'a dyn Store,
    run_id: &'a RunId,
    page: VecDeque<RecordedChunk>,
    /// The first chunk after the page. None if there is no further page.
    beyond: Option<u64>,
}

impl<'a> RecordedChunks<'a> {
    pub(crate) fn of(store: &'a dyn Store, run_id: &'a RunId) -> Self {
        Self { store, run_id, page: VecDeque::new(), beyond: Some(0) }
    }

    /// For a run whose recorded chunks do not matter.
    pub(crate) fn nothing(store: &'a dyn Store, run_id: &'a RunId) -> Self {
        Self { beyond: None, ..Self::of(store, run_id) }
    }

    /// Whether a chunk is recorded. Must be called with ascending chunks.
    pub(crate) async fn has(&mut self, chunk: u64) -> Result<bool, LoadError> {
        loop {
            while self.page.pop_front_if(|recorded| recorded.chunk < chunk).is_some() {}
            match (self.page.front(), self.beyond) {
                (Some(recorded), _) => return Ok(recorded.chunk == chunk),
                (None, None) => return Ok(false),
                (None, Some(beyond)) => {
                    let (store, run_id) = (self.store, self.run_id);
                    let page = retry_store("the next chunk", || store.recorded_chunks(run_id, beyond.max(chunk), PAGE));
                    self.page = page.await?.into();
                    self.beyond = self.page.back().map(|last| last.chunk + 1);
                }
            }
        }
    }
}

/// The chunk after the last recorded one, but at least `chunk`.
pub(crate) async fn end_of_recorded_chunks(
    store: &dyn Store,
    run_id: &RunId,
    mut chunk: u64,
) -> Result<u64, StoreError> {
    while let Some(last) = store.recorded_chunks(run_id, chunk, PAGE).await?.last() {
        chunk = last.chunk + 1;
    }
    Ok(chunk)
}

/// Marks the rows of a chunk that are stored with the same content, so that they are not scored again: a new version of an
/// object, `--force` or an overlapping export would score known rows only to count them as duplicates, and the model may
/// reject them by now. The first load of a source costs one query. See
/// `docs/decisions/0022-stored-rows-are-not-scored-again.md`.
pub(crate) struct StoredRowMarker<'a> {
    store: &'a dyn Store,
    run: &'a Run,
    /// Which ids may be stored. None before the first lookup.
    earlier: Option<EarlierIds>,
    rows: u64,
}

impl<'a> StoredRowMarker<'a> {
    pub(crate) fn of(store: &'a dyn Store, run: &'a Run) -> Self {
        Self { store, run, earlier: None, rows: 0 }
    }

    /// Marks the stored rows. Waits for an unreachable database.
    pub(crate) async fn mark(&mut self, chunk: EncodedChunk) -> Result<EncodedChunk, LoadError> {
        let may_be_stored: fn(&&Entry) -> bool = match self.earlier_ids().await? {
            EarlierIds::Nothing => return Ok(chunk),
            EarlierIds::Uuids if !chunk.has_uuids => return Ok(chunk),
            EarlierIds::Uuids => |entry| entry.external_id.is_none(),
            EarlierIds::Any => |_| true,
        };
        let mut decoded = chunk.decode()?;
        let entries: Vec<&Entry> = decoded.transactions.iter().filter(may_be_stored).collect();
        if entries.is_empty() {
            return Ok(chunk);
        }
        let store = self.store;
        let known = retry_store("the lookup of stored rows", || store.stored_predictions(&entries)).await;
        let Some(known) = self.or_nothing(known)?.filter(|known| !known.is_empty()) else { return Ok(chunk) };
        self.rows += known.len() as u64;
        decoded.known = known;
        Ok(EncodedChunk::of(&decoded)?)
    }

    /// Which ids may be stored; asked once.
    async fn earlier_ids(&mut self) -> Result<EarlierIds, LoadError> {
        let (store, run) = (self.store, self.run);
        if let Some(earlier) = self.earlier {
            return Ok(earlier);
        }
        let earlier = retry_store("the lookup of earlier runs", || store.earlier_ids(run)).await;
        let earlier = self.or_nothing(earlier)?.unwrap_or(EarlierIds::Nothing);
        Ok(*self.earlier.insert(earlier))
    }

    /// What was looked up; none if it never can be.
    fn or_nothing<T>(&mut self, looked_up: Result<T, StoreError>) -> Result<Option<T>, LoadError> {
        match looked_up {
            // Most likely a missing privilege. Scoring the rows again is still right.
            Err(error) if error.class() != ErrorClass::Transient => {
                info!("stored rows cannot be looked up, and are scored again: {error}");
                self.earlier = Some(EarlierIds::Nothing);
                Ok(None)
            }
            looked_up => Ok(Some(looked_up?)),
        }
    }

    pub(crate) fn log(&self) {
        if self.rows > 0 {
            info!("{} rows are stored already with the same content: they are not scored again", self.rows);
        }
    }
}
