//! How chunks and parts of replays go through a write transaction: the fast way first, then the ways that cope with more.
//! `statements` are those that both databases share.

mod statements;
mod traced;

use assay_transaction::{ScoredChunk, ScoredLive, ScoredReplay};
use async_trait::async_trait;

use self::traced::traced;
use super::bounded;
use super::dialect::{self, Database};
use super::ledger::live;
use super::operations::{dead_letters, privacy::refusals, statistics};
use crate::write::Attempt;
use crate::write::chunks::write_chunks;
use crate::write::replay::{StagedReplay, write_replay};
use crate::write::validate::ValidatedChunks;
use crate::{
    ChunkOutcome, ChunkWriter, DeadLetter, ErrorClass, IdConflict, ReplayCounts, StoreError, UnnumberedMessage,
    WriteReport,
};

impl Database {
    async fn attempt(
        &self,
        validated: &ValidatedChunks<'_>,
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<WriteReport, StoreError> {
        write_chunks(self.begin_write(attempt).await?, validated, on_conflict, attempt).await
    }

    async fn attempt_live(
        &self,
        messages: &[ScoredLive],
        on_conflict: IdConflict,
    ) -> Result<Option<(Vec<ScoredChunk>, WriteReport)>, StoreError> {
        let unnumbered: Vec<_> =
            messages.iter().map(|message| UnnumberedMessage { id: &message.id, rows: message.rows() }).collect();
        let mut transaction = self.begin_write(Attempt::Upsert).await?;
        // The places before the runs themselves, as in every transaction that locks both.
        let Some(places) = live::number_in_own_runs(&mut transaction.transaction, &unnumbered).await? else {
            return Ok(None);
        };
        let numbered = messages.iter().zip(places).map(|(message, place)| message.clone().into_chunk(place));
        let chunks: Vec<ScoredChunk> = numbered.collect();
        let validated = ValidatedChunks::new(&chunks);
        if validated.chunks.is_empty() {
            return Ok(None);
        }
        let candidates = write_chunks(transaction, &validated, on_conflict, Attempt::Upsert).await?;
        // Without a new chunk it was rolled back, and so were the places.
        let is_written = candidates.outcomes.contains(&ChunkOutcome::Recorded);
        let report = validated.report(candidates, false);
        Ok(is_written.then_some((chunks, report)))
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
        let write = |attempt| traced(chunks.len(), bounded(self.attempt(&validated, on_conflict, attempt)));
        let mut result = write(Attempt::Copy).await;
        // The second time, stored ids are looked up first. Another writer may store one meanwhile.
        for attempt in [Attempt::Copy, Attempt::Upsert] {
            if result.as_ref().is_err_and(StoreError::is_duplicate_key) {
                result = write(attempt).await;
            }
        }
        match result {
            Err(error) if error.class() == ErrorClass::Data => {
                let candidates = write(Attempt::Bisect).await?;
                Ok(validated.report(candidates, true))
            }
            result => Ok(validated.report(result?, false)),
        }
    }

    async fn write_live(
        &self,
        messages: &[ScoredLive],
        on_conflict: IdConflict,
    ) -> Result<Option<(Vec<ScoredChunk>, WriteReport)>, StoreError> {
        match traced(messages.len(), bounded(self.attempt_live(messages, on_conflict))).await {
            Err(error) if error.class() == ErrorClass::Data => Ok(None),
            result => result,
        }
    }

    async fn write_replay(&self, part: &ScoredReplay, on_conflict: IdConflict) -> Result<ReplayCounts, StoreError> {
        let part = StagedReplay::new(part)?;
        let replaced = bounded(async {
            match self.attempt_replay(&part, on_conflict, Attempt::Upsert).await {
                Err(error) if error.class() == ErrorClass::Data => {
                    self.attempt_replay(&part, on_conflict, Attempt::Bisect).await
                }
                result => result,
            }
        });
        traced(1, replaced).await
    }

    async fn summarise_rows(&self) -> Result<(), StoreError> {
        self.summarise().await
    }

    async fn sum_up_statistics(&self) -> Result<bool, StoreError> {
        bounded(statistics::sum_up(self.writing())).await
    }

    async fn record_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        bounded(dead_letters::record(self.writing(), letter)).await
    }
}
