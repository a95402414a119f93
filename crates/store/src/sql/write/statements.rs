//! Statements of a write transaction that both databases take in the same words.

use std::collections::HashMap;

use assay_transaction::{ReplayId, ScoredChunk};
use async_trait::async_trait;
use uuid::Uuid;

use super::dialect::{OpenTransaction, as_json, json_elements, now, unix_now};
use super::refusals;
use crate::values::signed;
use crate::write::run_models::RunModels;
use crate::write::statistics::CommitStatistics;
use crate::write::transaction::SharedStatements;
use crate::{ReplayCounts, StoreError};

const UNCLAIM: &str = "DELETE FROM chunks WHERE run_id = $1 AND chunk = $2";
const CLEAR_LEFTOVERS: [&str; 2] = [
    "DELETE FROM invalid_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
    "DELETE FROM failed_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
];
const CLAIM_PART: &str = "
    INSERT INTO replay_parts (run_id, replay, part, stored, failed, gone) VALUES ($1, $2, $3, 0, 0, 0)
    ON CONFLICT (run_id, replay, part) DO NOTHING";
const NOTE_ENDPOINTS: &str = concat!(
    "INSERT INTO model_endpoints (id, url, features) SELECT CAST(element.value->>0 AS bigint), element.value->>1, element.value->>2 FROM ",
    json_elements!(as_json!("$1")),
    " WHERE true ON CONFLICT (id) DO NOTHING"
);
/// In their order, so that overlapping transactions wait for each other and cannot deadlock.
const NOTE_MODELS: &str = concat!(
    "INSERT INTO run_models (run_id, model_version, endpoint, first_at) SELECT element.value->>0, element.value->>1, ",
    "CAST(element.value->>2 AS bigint), ",
    now!(),
    " FROM ",
    json_elements!(as_json!("$1")),
    " WHERE true ON CONFLICT (run_id, model_version, endpoint) DO NOTHING"
);
/// In the order of the runs, of which the transaction has a lock each.
const NOTE_STATISTICS: &str = concat!(
    "INSERT INTO run_statistics (run_id, at, seconds, predicted, invalid, failed, duplicate, facts) SELECT element.value->>0, ",
    unix_now!(),
    ", 1, CAST(element.value->>1 AS bigint), CAST(element.value->>2 AS bigint), CAST(element.value->>3 AS bigint), ",
    "CAST(element.value->>4 AS bigint), element.value->5 FROM ",
    json_elements!(as_json!("$1"))
);
const RECORD_PART: &str = "
    UPDATE replay_parts SET stored = $4, failed = $5, gone = $6 WHERE run_id = $1 AND replay = $2 AND part = $3";

impl OpenTransaction {
    async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

#[async_trait]
impl SharedStatements for OpenTransaction {
    async fn erased(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        refusals::among(&mut self.transaction, ids).await
    }

    async fn unclaim(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError> {
        let query = sqlx::query(UNCLAIM).bind(chunk.id.run_id.as_str()).bind(signed(chunk.id.chunk));
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn clear_leftovers(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError> {
        for delete in CLEAR_LEFTOVERS {
            sqlx::query(delete)
                .bind(chunk.id.run_id.as_str())
                .bind(signed(chunk.range.first_row))
                .bind(signed(chunk.range.first_row + chunk.range.rows))
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    async fn note_models(&mut self, models: &RunModels<'_>) -> Result<(), StoreError> {
        let noted = sqlx::query(NOTE_MODELS).bind(models.models_json()?).execute(&mut *self.transaction).await?;
        // The transaction that noted a model noted its endpoint too.
        if noted.rows_affected() > 0 {
            sqlx::query(NOTE_ENDPOINTS).bind(models.endpoints_json()?).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    async fn note_statistics(&mut self, statistics: CommitStatistics<'_>) -> Result<(), StoreError> {
        if let Some(lines) = statistics.into_json()? {
            sqlx::query(NOTE_STATISTICS).bind(lines).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    async fn claim_part(&mut self, id: &ReplayId) -> Result<bool, StoreError> {
        let done = sqlx::query(CLAIM_PART)
            .bind(id.run_id.as_str())
            .bind(signed(id.replay))
            .bind(signed(id.part))
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn record_part(&mut self, id: &ReplayId, counts: &ReplayCounts) -> Result<(), StoreError> {
        sqlx::query(RECORD_PART)
            .bind(id.run_id.as_str())
            .bind(signed(id.replay))
            .bind(signed(id.part))
            .bind(signed(counts.stored))
            .bind(signed(counts.failed))
            .bind(signed(counts.gone))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT part").await
    }

    async fn release_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("RELEASE SAVEPOINT part").await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        Ok(())
    }
}
