//! Which rows of a chunk are stored already, with the same content, so that they need not be scored again.
//!
//! A source that is loaded again (another version of the object, `--force`, a later export that overlaps) would else cost
//! the ML API all of its rows, only for each to count as a duplicate; and one that the model refuses by now would fail, though it is
//! stored. A first load asks one question, and no more. See `docs/decisions/0022-stored-rows-are-not-scored-again.md`.

use assay_store::{Earlier, ErrorClass, Store, StoreError};
use assay_transaction::{Chunk, Entry, Run};
use tracing::info;

use crate::LoadError;
use crate::patience::until_answered;

/// What is known of a run's rows, chunk by chunk.
pub(crate) struct StoredRowMarker<'a> {
    store: &'a dyn Store,
    run: &'a Run,
    /// Which ids may be stored; none where that was not asked yet.
    earlier: Option<Earlier>,
    rows: u64,
}

impl<'a> StoredRowMarker<'a> {
    pub(crate) fn of(store: &'a dyn Store, run: &'a Run) -> Self {
        Self { store, run, earlier: None, rows: 0 }
    }

    /// Marks the rows of a chunk that are stored with the same content. Asks until there is an answer.
    pub(crate) async fn mark(&mut self, chunk: &mut Chunk) -> Result<(), LoadError> {
        match self.look_up(chunk).await {
            // A right that is missing, most likely. Whatever is wrong, rows that are scored again are still right.
            Err(error) if error.class() != ErrorClass::Transient => {
                info!("rows that are stored already are scored again, as they cannot be looked up: {error}");
                self.earlier = Some(Earlier::Nothing);
                Ok(())
            }
            looked_up => Ok(looked_up?),
        }
    }

    async fn look_up(&mut self, chunk: &mut Chunk) -> Result<(), StoreError> {
        let (store, run) = (self.store, self.run);
        let earlier = if let Some(earlier) = self.earlier {
            earlier
        } else {
            let earlier = until_answered("the look at earlier runs", || store.earlier(run)).await?;
            *self.earlier.insert(earlier)
        };
        let may_be_stored = |entry: &&Entry| match earlier {
            Earlier::Nothing => false,
            Earlier::Uuids => entry.external_id.is_none(),
            Earlier::Any => true,
        };
        let entries: Vec<&Entry> = chunk.transactions.iter().filter(may_be_stored).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let known = until_answered("the look at stored rows", || store.stored_alike(&entries)).await?;
        self.rows += known.len() as u64;
        chunk.known = known;
        Ok(())
    }

    /// Says how many rows were found.
    pub(crate) fn say(&self) {
        if self.rows > 0 {
            info!("{} rows are stored already with the same content: they are not scored again", self.rows);
        }
    }
}
