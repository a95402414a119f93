//! The transaction that writes chunks. It holds the file's lock from its beginning, so nothing here waits. `insert` puts many
//! rows into one statement, `columns` binds them.

mod columns;
mod insert;

use std::sync::LazyLock;

use assay_transaction::{ReplayId, RunId, ScoredChunk};
use async_trait::async_trait;
use sqlx::sqlite::SqliteQueryResult;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use self::columns::{bind_content, bind_failed, bind_invalid, bind_prediction, bind_transaction, read_stored};
use self::insert::{Bound, GROUP, Insert};
use super::dialect::now;
use super::sql::fragments::{
    chunk_neighbours, content_columns, covering_chunk, failed_columns, invalid_columns, or_replace_prediction,
    prediction_columns, run_ends,
};
use crate::StoreError;
use crate::ledger::sealing::RunEnd;
use crate::values::{signed, to_json};
use crate::write::transaction::{
    ChunkAmendment, ChunkCounts, ChunkNeighbours, FailureRow, InvalidRow, StagedRow, StoredTransaction,
    WriteTransaction, inserted_rows,
};

const RUN_ENDS: &str = concat!(run_ends!(), " IN (SELECT value FROM json_each($1))");
const CLAIM: &str = "
    INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, recorded_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (run_id, chunk) DO NOTHING";
const NEIGHBOURS: &str = concat!("SELECT ", chunk_neighbours!(), " FROM chunks c WHERE c.run_id = $1 AND c.chunk = $2");
static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    let into = concat!("INSERT INTO transactions (", content_columns!(), ", run_id, row_number, processing_type)");
    Insert::new(into, 12, "ON CONFLICT (id) DO NOTHING")
});
const INTO_PREDICTIONS: &str = concat!("INSERT INTO predictions (", prediction_columns!(), ")");
static PUT_PREDICTIONS: LazyLock<Insert> = LazyLock::new(|| Insert::new(INTO_PREDICTIONS, 8, or_replace_prediction!()));
static INSERT_MISSING_PREDICTIONS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new(INTO_PREDICTIONS, 8, "ON CONFLICT (transaction_id) DO NOTHING"));
static INSERT_INVALID: LazyLock<Insert> =
    LazyLock::new(|| Insert::new(concat!("INSERT INTO invalid_transactions (", invalid_columns!(), ")"), 6, ""));
static INSERT_FAILED: LazyLock<Insert> =
    LazyLock::new(|| Insert::new(concat!("INSERT INTO failed_transactions (", failed_columns!(), ")"), 8, ""));
const STORED: &str = "
    SELECT id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, attributes, run_id, row_number
    FROM transactions WHERE id IN (SELECT value FROM json_each($1))";
/// The score is written with all its digits: JSON alone keeps 15 of them, and the history has to return what was stored.
const KEEP_HISTORY: &str = "
    INSERT INTO transaction_history (transaction_id, \"transaction\", prediction, replaced_by_run, replaced_by_row, replaced_at)
    SELECT t.id,
        json_object('id', t.id, 'external_id', t.external_id, 'description', t.description, 'amount', t.amount,
            'timestamp', t.\"timestamp\", 'merchant', t.merchant, 'operation_type', t.operation_type, 'side', t.side,
            'attributes', json(t.attributes), 'run_id', t.run_id, 'row_number', t.row_number,
            'processing_type', t.processing_type, 'created_at', t.created_at),
        CASE WHEN p.transaction_id IS NOT NULL THEN
            json_object('transaction_id', p.transaction_id, 'prediction', p.prediction,
                'fraud_score', json(CASE WHEN p.fraud_score IS NULL THEN 'null' ELSE printf('%!.17g', p.fraud_score) END),
                'model_version', p.model_version, 'run_id', p.run_id, 'predicted_at', p.predicted_at,
                'reasons', json(p.reasons), 'endpoint', p.endpoint)
        END, $2, $3, $4
    FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.id WHERE t.id = $1";
const REPLACE: &str = "
    UPDATE transactions SET external_id = $2, description = $3, amount = $4, \"timestamp\" = $5, merchant = $6,
        operation_type = $7, side = $8, attributes = $9
    WHERE id = $1";
const INSERTED: &str = "SELECT id FROM transactions WHERE rowid > $1 AND rowid <= $2";
const AMEND_CHUNK: &str = "UPDATE chunks SET predicted = $3, duplicate_rows = $4 WHERE run_id = $1 AND chunk = $2";
const IS_REMOVED: &str = "SELECT removal_at IS NOT NULL FROM runs WHERE run_id = $1";
/// Keeps only the first part of the reason of a conflict, which names the other row: what follows are values.
const KEEP_FAILURE: &str = "
    INSERT OR IGNORE INTO row_history (run_id, row_number, replay, class, reason, attempts, replayed_at)
    SELECT run_id, row_number, $4, class,
        CASE class WHEN 'id_conflict' THEN substr(reason, 1, instr(reason || ';', ';') - 1) ELSE reason END, attempts, $5
    FROM failed_transactions WHERE run_id = $1 AND row_number = $2 AND transaction_id = $3";
const TAKE_FAILED: &str = "
    DELETE FROM failed_transactions WHERE run_id = $1 AND row_number = $2 AND transaction_id = $3 RETURNING attempts";
const COVERING_CHUNK: &str = concat!(
    "SELECT chunk, first_row, rows, predicted, duplicate_rows FROM chunks WHERE run_id = $1 AND chunk = ",
    covering_chunk!("$1", "$2")
);
/// An open transaction that holds the file's lock.
pub(crate) struct SqliteTransaction {
    pub(super) transaction: Transaction<'static, Sqlite>,
    /// When it began. Everything it records has this time, as in PostgreSQL: a removal compares the times of rows.
    began_at: String,
}

impl SqliteTransaction {
    pub(crate) async fn new(mut transaction: Transaction<'static, Sqlite>) -> Result<Self, StoreError> {
        let began_at = sqlx::query_scalar(concat!("SELECT ", now!())).fetch_one(&mut *transaction).await?;
        Ok(Self { transaction, began_at })
    }

    /// The ids that a statement inserted: it is the only writer, so their row ids are consecutive up to the last. RETURNING
    /// would cost more than the insertion, so this query runs only if some rows were not inserted.
    async fn inserted(&mut self, done: &SqliteQueryResult) -> Result<Vec<Uuid>, StoreError> {
        let last = done.last_insert_rowid();
        let ids: Vec<String> = sqlx::query_scalar(INSERTED)
            .bind(last - signed(done.rows_affected()))
            .bind(last)
            .fetch_all(&mut *self.transaction)
            .await?;
        let unreadable = |_| StoreError::configuration("a transaction has an id that cannot be read");
        ids.iter().map(|id| id.parse().map_err(unreadable)).collect()
    }

    /// Executes an insertion in groups.
    async fn insert_all<T: Sync>(
        &mut self,
        insert: &Insert,
        rows: &[T],
        bind: for<'q> fn(Bound<'q>, &'q T) -> Bound<'q>,
    ) -> Result<(), StoreError> {
        for group in rows.chunks(GROUP) {
            group.iter().fold(insert.rows(group.len()), bind).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    async fn put_predictions(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&PUT_PREDICTIONS, rows, |query, row| bind_prediction(query, row)).await
    }
}

#[async_trait]
impl WriteTransaction for SqliteTransaction {
    async fn lock_runs(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<RunEnd>)>, StoreError> {
        let mut run_ids: Vec<&str> = chunks.iter().map(|chunk| chunk.id.run_id.as_str()).collect();
        run_ids.dedup();
        let runs = sqlx::query_as(RUN_ENDS).bind(to_json(&run_ids)?).fetch_all(&mut *self.transaction).await?;
        Ok(runs.into_iter().map(RunEnd::read).collect())
    }

    /// Without the ids: an index has each row.
    async fn claim(&mut self, chunks: &[&ScoredChunk], _: Vec<Vec<u8>>) -> Result<Vec<bool>, StoreError> {
        let mut claimed = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let done = sqlx::query(CLAIM)
                .bind(chunk.id.run_id.as_str())
                .bind(signed(chunk.id.chunk))
                .bind(signed(chunk.range.first_row))
                .bind(signed(chunk.range.rows))
                .bind(signed(chunk.predicted.len() as u64))
                .bind(&self.began_at)
                .execute(&mut *self.transaction)
                .await?;
            claimed.push(done.rows_affected() == 1);
        }
        Ok(claimed)
    }

    async fn neighbours(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<ChunkNeighbours>>, StoreError> {
        let mut found = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let query = sqlx::query_as(NEIGHBOURS).bind(chunk.id.run_id.as_str()).bind(signed(chunk.id.chunk));
            found.push(query.fetch_optional(&mut *self.transaction).await?.map(ChunkNeighbours::read));
        }
        Ok(found)
    }

    async fn insert_new(&mut self, rows: &[&StagedRow<'_>]) -> Result<Vec<Uuid>, StoreError> {
        let mut inserted: Vec<Uuid> = Vec::with_capacity(rows.len());
        for group in rows.chunks(GROUP) {
            let query = group.iter().fold(INSERT.rows(group.len()), |query, row| bind_transaction(query, row));
            let done = query.execute(&mut *self.transaction).await?;
            if done.rows_affected() == group.len() as u64 {
                inserted.extend(group.iter().map(|row| row.transaction.id));
            } else if done.rows_affected() > 0 {
                inserted.extend(self.inserted(&done).await?);
            }
        }
        self.put_predictions(&inserted_rows(rows, &inserted)).await?;
        Ok(inserted)
    }

    async fn insert_missing_predictions(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&INSERT_MISSING_PREDICTIONS, rows, |query, row| bind_prediction(query, row)).await
    }

    async fn stored(&mut self, ids: &[Uuid], _lock: bool) -> Result<Vec<StoredTransaction>, StoreError> {
        let rows = sqlx::query(STORED).bind(to_json(ids)?).fetch_all(&mut *self.transaction).await?;
        rows.iter().map(read_stored).collect()
    }

    async fn replace(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        for row in rows {
            sqlx::query(KEEP_HISTORY)
                .bind(row.transaction.id.to_string())
                .bind(row.run_id.as_str())
                .bind(signed(row.entry.row))
                .bind(&self.began_at)
                .execute(&mut *self.transaction)
                .await?;
            bind_content(sqlx::query(REPLACE), row).execute(&mut *self.transaction).await?;
        }
        self.put_predictions(rows).await
    }

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&INSERT_INVALID, rows, bind_invalid).await
    }

    async fn insert_failed(&mut self, rows: &[FailureRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&INSERT_FAILED, rows, bind_failed).await
    }

    async fn amend_chunks(&mut self, amendments: &[ChunkAmendment<'_>]) -> Result<(), StoreError> {
        for amendment in amendments {
            sqlx::query(AMEND_CHUNK)
                .bind(amendment.run_id.as_str())
                .bind(signed(amendment.chunk))
                .bind(signed(amendment.predicted))
                .bind(amendment.duplicate_rows.as_deref())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    async fn is_removed(&mut self, run_id: &RunId) -> Result<bool, StoreError> {
        let removed: Option<bool> =
            sqlx::query_scalar(IS_REMOVED).bind(run_id.as_str()).fetch_optional(&mut *self.transaction).await?;
        Ok(removed.unwrap_or_default())
    }

    async fn take_failed(&mut self, id: &ReplayId, rows: &[(u64, Uuid)]) -> Result<Vec<(u64, u32)>, StoreError> {
        let mut taken = Vec::with_capacity(rows.len());
        for (row, transaction_id) in rows {
            sqlx::query(KEEP_FAILURE)
                .bind(id.run_id.as_str())
                .bind(signed(*row))
                .bind(transaction_id.to_string())
                .bind(signed(id.replay))
                .bind(&self.began_at)
                .execute(&mut *self.transaction)
                .await?;
            let attempts: Option<i64> = sqlx::query_scalar(TAKE_FAILED)
                .bind(id.run_id.as_str())
                .bind(signed(*row))
                .bind(transaction_id.to_string())
                .fetch_optional(&mut *self.transaction)
                .await?;
            taken.extend(attempts.map(|attempts| (*row, u32::try_from(attempts).unwrap_or(u32::MAX))));
        }
        Ok(taken)
    }

    async fn covering_chunks(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<ChunkCounts>, StoreError> {
        let mut chunks: Vec<ChunkCounts> = Vec::new();
        for row in rows {
            let found: Option<(i64, i64, i64, i64, Option<String>)> = sqlx::query_as(COVERING_CHUNK)
                .bind(run_id.as_str())
                .bind(signed(*row))
                .fetch_optional(&mut *self.transaction)
                .await?;
            let chunk = found.map(ChunkCounts::read).transpose()?;
            chunks.extend(chunk.filter(|chunk| chunks.last().is_none_or(|last| last.chunk != chunk.chunk)));
        }
        Ok(chunks)
    }
}
