//! How chunks and parts of replays go through a write transaction: the fast way first, then the ways that cope with more.
//! `statements` are those that both databases share.

mod statements;

use assay_transaction::{ScoredChunk, ScoredReplay};
use async_trait::async_trait;

use super::bounded;
use super::dialect::{self, Database};
use super::operations::dead_letters;
use crate::write::Attempt;
use crate::write::chunks::write_chunks;
use crate::write::replay::{StagedReplay, write_replay};
use crate::write::validate::ValidatedChunks;
use crate::{ChunkWriter, DeadLetter, ErrorClass, IdConflict, ReplayCounts, StoreError, WriteReport};

impl Database {
    async fn attempt(
        &self,
        validated: &ValidatedChunks<'_>,
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<WriteReport, StoreError> {
        write_chunks(self.begin_write(attempt).await?, validated, on_conflict, attempt).await
    }

    async fn attempt_replay(
        &self,
        part: &StagedReplay<'_>,
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<ReplayCounts, StoreError> {
        write_replay(self.begin_write(attempt).await?, part, on_conflict, attempt).await
    }
}

#[async_trait]
impl ChunkWriter for Database {
    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<WriteReport, StoreError> {
        let validated = ValidatedChunks::new(chunks);
        if validated.chunks.is_empty() {
            return Ok(validated.report(WriteReport::default(), false));
        }
        let mut result = bounded(self.attempt(&validated, on_conflict, Attempt::Copy)).await;
        if result.as_ref().is_err_and(StoreError::is_duplicate_key) {
            result = bounded(self.attempt(&validated, on_conflict, Attempt::Upsert)).await;
        }
        match result {
            Err(error) if error.class() == ErrorClass::Data => {
                let candidates = bounded(self.attempt(&validated, on_conflict, Attempt::Bisect)).await?;
                Ok(validated.report(candidates, true))
            }
            result => Ok(validated.report(result?, false)),
        }
    }

    async fn write_replay(&self, part: &ScoredReplay, on_conflict: IdConflict) -> Result<ReplayCounts, StoreError> {
        let part = StagedReplay::new(part)?;
        bounded(async {
            match self.attempt_replay(&part, on_conflict, Attempt::Upsert).await {
                Err(error) if error.class() == ErrorClass::Data => {
                    self.attempt_replay(&part, on_conflict, Attempt::Bisect).await
                }
                result => result,
            }
        })
        .await
    }

    async fn summarise_rows(&self) -> Result<(), StoreError> {
        self.summarise().await
    }

    async fn record_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        bounded(dead_letters::record(self.writing(), letter)).await
    }
}
