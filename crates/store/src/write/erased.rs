//! Rows whose ids were erased: a writer stores nothing of them but a tombstone, whenever they come.
//!
//! An erasure lists its ids before it deletes anything, while no writer is at work; every later writer reads the list. So a message
//! that waited in a queue meanwhile brings nothing back.

use std::borrow::Cow;
use std::collections::HashMap;

use assay_transaction::{FailureClass, RunId, ScoredChunk};
use uuid::Uuid;

use crate::StoreError;
use crate::operations::privacy::ERASED;
use crate::write::transaction::{FailureRow, SharedStatements};

/// The erased ids among those of a call, each with the operation that erased it.
#[derive(Debug, Default)]
pub(crate) struct ErasedIds(HashMap<Uuid, i64>);

impl ErasedIds {
    /// Looks for erased ids among those of chunks.
    pub(crate) async fn among_chunks<T: SharedStatements>(
        tx: &mut T,
        scored: impl Iterator<Item = Uuid> + Send,
        chunks: &[&ScoredChunk],
    ) -> Result<Self, StoreError> {
        let failed = chunks.iter().flat_map(|chunk| chunk.failed.iter().map(|failed| failed.transaction_id));
        Self::among(tx, scored.chain(failed).collect()).await
    }

    /// Looks for erased ids.
    pub(crate) async fn among<T: SharedStatements>(tx: &mut T, ids: Vec<Uuid>) -> Result<Self, StoreError> {
        Ok(Self(tx.erased(&ids).await?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, id: &Uuid) -> bool {
        self.0.contains_key(id)
    }

    /// What is recorded of a row in place of its outcome, if its id was erased.
    pub(crate) fn tombstone<'a>(&self, run_id: &'a RunId, row: u64, id: &Uuid) -> Option<FailureRow<'a>> {
        let operation = *self.0.get(id)?;
        Some(FailureRow {
            run_id,
            row,
            transaction_id: Uuid::nil(),
            class: FailureClass::Erased.code().to_owned().into(),
            reason: Cow::Borrowed(ERASED),
            attempts: 0,
            payload: Vec::new(),
            operation: Some(operation),
        })
    }
}
