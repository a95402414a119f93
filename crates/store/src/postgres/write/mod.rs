//! The transaction that writes chunks. Each statement takes all of its rows at once: by COPY, or as arrays.
//!
//! - `columns`: rows as arrays, one for each column
//! - `copy_encoder`: rows by COPY, `copy_tuples` its binary format; `copy_mode`: whether COPY is worth a try

mod columns;
mod copy_encoder;
mod copy_mode;
mod copy_tuples;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use assay_transaction::{ReplayId, RunId, ScoredChunk};
use async_trait::async_trait;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use self::columns::{
    bind_content, bind_failed, bind_invalid, bind_predictions, content_arrays, processing_types, read_stored,
    row_numbers, run_ids,
};
pub(super) use self::copy_encoder::copy;
pub(super) use self::copy_mode::CopyMode;
use super::sql::fragments::{
    chunk_neighbours, content_columns, covering_chunk, failed_columns, invalid_columns, or_replace_prediction,
    prediction_columns, run_ends,
};
use crate::StoreError;
use crate::ledger::sealing::{RunEnd, RunEndRow};
use crate::operations::privacy::ERASURES;
use crate::operations::removal::REMOVALS;
use crate::values::{signed, unsigned};
use crate::write::transaction::{
    ChunkAmendment, ChunkCounts, ChunkNeighbours, FailureRow, InvalidRow, StagedRow, StoredTransaction,
    WriteTransaction, inserted_rows,
};

/// The fence before a seal: a transaction that seals a run takes this lock alone ([`super::dialect::queue_up`]), writers share
/// it. The same keeps erasures ([`ERASURES`]) and removals ([`REMOVALS`]) away. A statement of its own: the next one sees what was
/// committed before it began, so also what a transaction did that held the lock before.
const SHARE_RUNS: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtextextended(run_id, 0)) FROM UNNEST($1::text[]) AS wanted(run_id)";
/// KEY SHARE keeps a run from being deleted, and blocks no checkpoint.
const LOCK_RUNS: &str = concat!(run_ends!(), " = ANY($1) ORDER BY run_id FOR KEY SHARE");
const CLAIM: &str = "
    INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, ids)
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])
    ON CONFLICT (run_id, chunk) DO NOTHING RETURNING run_id, chunk";
const NEIGHBOURS: &str = concat!(
    "SELECT wanted.place, ",
    chunk_neighbours!(),
    " FROM UNNEST($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted(run_id, chunk, place)
    JOIN chunks c ON c.run_id = wanted.run_id AND c.chunk = wanted.chunk"
);
const INSERT: &str = concat!(
    "INSERT INTO transactions (",
    content_columns!(),
    ", run_id, row_number, processing_type) SELECT id, external_id, description, amount, \"timestamp\", merchant, ",
    "operation_type, side, attributes::jsonb, run_id, row_number, processing_type FROM UNNEST(",
    content_arrays!(),
    ", $10::text[], $11::bigint[], $12::text[]) AS staged(",
    content_columns!(),
    ", run_id, row_number, processing_type) ON CONFLICT (id) DO NOTHING RETURNING id"
);
/// Predictions, as [`bind_predictions`] binds them.
macro_rules! insert_predictions {
    () => {
        concat!(
            "INSERT INTO predictions (",
            prediction_columns!(),
            ") SELECT transaction_id, prediction, fraud_score, model_version, run_id, predicted_at, reasons::jsonb, endpoint FROM ",
            "UNNEST($1::uuid[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::bigint[]) ",
            "AS staged(",
            prediction_columns!(),
            ")"
        )
    };
}
const PUT_PREDICTIONS: &str = concat!(insert_predictions!(), or_replace_prediction!());
const INSERT_MISSING_PREDICTIONS: &str = concat!(insert_predictions!(), " ON CONFLICT (transaction_id) DO NOTHING");
/// Stored transactions, as [`read_stored`] takes them.
macro_rules! stored {
    ($lock:literal) => {
        concat!(
            "SELECT id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, ",
            "attributes::text AS attributes, run_id, row_number FROM transactions WHERE id = ANY($1) ORDER BY id",
            $lock
        )
    };
}
const STORED: &str = stored!("");
const STORED_AND_LOCKED: &str = stored!(" FOR UPDATE");
const KEEP_HISTORY: &str = "
    INSERT INTO transaction_history (transaction_id, transaction, prediction, replaced_by_run, replaced_by_row)
    SELECT t.id, to_jsonb(t), to_jsonb(p), staged.run_id, staged.row_number
    FROM UNNEST($1::uuid[], $2::text[], $3::bigint[]) AS staged(id, run_id, row_number)
    JOIN transactions t ON t.id = staged.id
    LEFT JOIN predictions p ON p.transaction_id = staged.id";
const REPLACE: &str = concat!(
    "UPDATE transactions t SET external_id = staged.external_id, description = staged.description, ",
    "amount = staged.amount, \"timestamp\" = staged.\"timestamp\", merchant = staged.merchant, ",
    "operation_type = staged.operation_type, side = staged.side, attributes = staged.attributes::jsonb FROM UNNEST(",
    content_arrays!(),
    ") AS staged(",
    content_columns!(),
    ") WHERE t.id = staged.id"
);
const INSERT_INVALID: &str = concat!(
    "INSERT INTO invalid_transactions (",
    invalid_columns!(),
    ") SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])"
);
const INSERT_FAILED: &str = concat!(
    "INSERT INTO failed_transactions (",
    failed_columns!(),
    ") SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], \
     $8::bigint[])"
);
const AMEND_CHUNKS: &str = "
    UPDATE chunks c SET predicted = amended.predicted, duplicate_rows = amended.duplicate_rows::jsonb
    FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS amended(run_id, chunk, predicted, duplicate_rows)
    WHERE c.run_id = amended.run_id AND c.chunk = amended.chunk";
const LOCK_FAILED: &str = "
    SELECT f.row_number FROM failed_transactions f
    JOIN UNNEST($2::bigint[], $3::uuid[]) AS wanted(row_number, transaction_id)
        ON f.row_number = wanted.row_number AND f.transaction_id = wanted.transaction_id
    WHERE f.run_id = $1 ORDER BY f.row_number FOR UPDATE OF f";
/// Keeps only the first part of the reason of a conflict, which names the other row: what follows are values.
const TAKE_FAILED: &str = "
    WITH taken AS (
        DELETE FROM failed_transactions f USING UNNEST($2::bigint[], $3::uuid[]) AS wanted(row_number, transaction_id)
        WHERE f.run_id = $1 AND f.row_number = wanted.row_number AND f.transaction_id = wanted.transaction_id
        RETURNING f.row_number, f.class, f.reason, f.attempts
    ), kept AS (
        INSERT INTO row_history (run_id, row_number, replay, class, reason, attempts)
        SELECT $1, row_number, $4, class,
            CASE class WHEN 'id_conflict' THEN split_part(reason, ';', 1) ELSE reason END, attempts
        FROM taken ON CONFLICT DO NOTHING
    )
    SELECT row_number, attempts FROM taken";
const COVERING_CHUNKS: &str = concat!(
    "SELECT c.chunk, c.first_row, c.rows, c.predicted, c.duplicate_rows::text FROM chunks c WHERE c.run_id = $1 ",
    "AND c.chunk = ANY(ARRAY(SELECT ",
    covering_chunk!("$1", "wanted.row_number"),
    " FROM UNNEST($2::bigint[]) AS wanted(row_number))) ORDER BY c.chunk FOR NO KEY UPDATE"
);
/// Which of these ids are stored. The inner query uses the index, whatever the planner believes about the size of the table.
const STORED_IDS: &str = "
    SELECT wanted.id FROM UNNEST($1::uuid[]) AS wanted(id)
    WHERE (SELECT true FROM transactions stored WHERE stored.id = wanted.id)";

/// From this many rows on, COPY is faster, although it takes two more round trips.
const COPY_FROM: usize = 100;

/// An open transaction, READ COMMITTED.
pub(crate) struct PostgresTransaction {
    pub(super) transaction: Transaction<'static, Postgres>,
    /// Set if COPY may be used, at the risk that a stored id ends the transaction.
    copy_mode: Option<Arc<CopyMode>>,
}

impl PostgresTransaction {
    pub(super) fn new(transaction: Transaction<'static, Postgres>, copy_mode: Option<Arc<CopyMode>>) -> Self {
        Self { transaction, copy_mode }
    }

    /// Copies the rows with new ids in, and returns those ids.
    async fn copy(&mut self, rows: &[&StagedRow<'_>], mode: &CopyMode) -> Result<Vec<Uuid>, StoreError> {
        let mut stored: HashSet<Uuid> = HashSet::new();
        if mode.looks_up_ids() {
            let found =
                sqlx::query_scalar::<_, Uuid>(STORED_IDS).bind(columns::ids(rows)).fetch_all(&mut *self.transaction);
            stored.extend(found.await?);
            mode.looked_up(stored.len());
        }
        let new: Vec<_> = rows.iter().filter(|row| !stored.contains(&row.transaction.id)).copied().collect();
        if !new.is_empty() {
            let copied = copy(&mut self.transaction, &new).await;
            copied.inspect_err(|error| {
                if error.is_duplicate_key() {
                    mode.found_stored_id();
                }
            })?;
        }
        Ok(columns::ids(&new))
    }

    /// Keeps removals from taking a step until this transaction ends.
    async fn hold_removals(&mut self) -> Result<(), StoreError> {
        sqlx::query(SHARE_RUNS).bind([REMOVALS]).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn put_predictions(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        bind_predictions(sqlx::query(PUT_PREDICTIONS), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

/// A row of [`NEIGHBOURS`].
type PlacedNeighboursRow = (i64, i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// Run and chunk of each, as two arrays.
fn identities<'a>(chunks: &[&'a ScoredChunk]) -> (Vec<&'a str>, Vec<i64>) {
    chunks.iter().map(|chunk| (chunk.id.run_id.as_str(), signed(chunk.id.chunk))).unzip()
}

#[async_trait]
impl WriteTransaction for PostgresTransaction {
    async fn lock_runs(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<RunEnd>)>, StoreError> {
        let (mut run_ids, _) = identities(chunks);
        run_ids.dedup();
        let shared: Vec<&str> = run_ids.iter().copied().chain([ERASURES]).collect();
        sqlx::query(SHARE_RUNS).bind(shared).execute(&mut *self.transaction).await?;
        let runs = sqlx::query_as(LOCK_RUNS).bind(run_ids).fetch_all(&mut *self.transaction).await?;
        Ok(runs.into_iter().map(RunEnd::read).collect())
    }

    async fn claim(&mut self, chunks: &[&ScoredChunk], ids: Vec<Vec<u8>>) -> Result<Vec<bool>, StoreError> {
        let (run_ids, numbers) = identities(chunks);
        let claimed: Vec<(String, i64)> = sqlx::query_as(CLAIM)
            .bind(&run_ids)
            .bind(&numbers)
            .bind(chunks.iter().map(|chunk| signed(chunk.range.first_row)).collect::<Vec<_>>())
            .bind(chunks.iter().map(|chunk| signed(chunk.range.rows)).collect::<Vec<_>>())
            .bind(chunks.iter().map(|chunk| signed(chunk.predicted.len() as u64)).collect::<Vec<_>>())
            .bind(ids)
            .fetch_all(&mut *self.transaction)
            .await?;
        let claimed: HashSet<(&str, i64)> = claimed.iter().map(|(run_id, chunk)| (run_id.as_str(), *chunk)).collect();
        Ok(run_ids.into_iter().zip(numbers).map(|identity| claimed.contains(&identity)).collect())
    }

    async fn neighbours(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<ChunkNeighbours>>, StoreError> {
        let (run_ids, numbers) = identities(chunks);
        let found: Vec<PlacedNeighboursRow> =
            sqlx::query_as(NEIGHBOURS).bind(run_ids).bind(numbers).fetch_all(&mut *self.transaction).await?;
        let by_place: HashMap<i64, ChunkNeighbours> = found
            .into_iter()
            .map(|(place, first_row, rows, below, above, failed, invalid)| {
                (place, ChunkNeighbours::read((first_row, rows, below, above, failed, invalid)))
            })
            .collect();
        // Ordinality counts from 1.
        Ok((1..).zip(chunks).map(|(place, _)| by_place.get(&place).copied()).collect())
    }

    async fn insert_new(&mut self, rows: &[&StagedRow<'_>]) -> Result<Vec<Uuid>, StoreError> {
        if let Some(mode) = self.copy_mode.clone().filter(|_| rows.len() >= COPY_FROM) {
            return self.copy(rows, &mode).await;
        }
        let query = bind_content(sqlx::query(INSERT), rows)
            .bind(run_ids(rows))
            .bind(row_numbers(rows))
            .bind(processing_types(rows));
        let inserted: Vec<Uuid> = query
            .try_map(|row: sqlx::postgres::PgRow| sqlx::Row::try_get(&row, 0))
            .fetch_all(&mut *self.transaction)
            .await?;
        if !inserted.is_empty() {
            self.put_predictions(&inserted_rows(rows, &inserted)).await?;
        }
        Ok(inserted)
    }

    async fn insert_missing_predictions(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        bind_predictions(sqlx::query(INSERT_MISSING_PREDICTIONS), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn stored(&mut self, ids: &[Uuid], lock: bool) -> Result<Vec<StoredTransaction>, StoreError> {
        // A row that is compared with a stored one must commit before that one is removed.
        self.hold_removals().await?;
        let query = if lock { STORED_AND_LOCKED } else { STORED };
        let rows = sqlx::query(query).bind(ids).fetch_all(&mut *self.transaction).await?;
        rows.iter().map(read_stored).collect()
    }

    async fn replace(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        sqlx::query(KEEP_HISTORY)
            .bind(columns::ids(rows))
            .bind(run_ids(rows))
            .bind(row_numbers(rows))
            .execute(&mut *self.transaction)
            .await?;
        bind_content(sqlx::query(REPLACE), rows).execute(&mut *self.transaction).await?;
        self.put_predictions(rows).await
    }

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError> {
        bind_invalid(sqlx::query(INSERT_INVALID), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn insert_failed(&mut self, rows: &[FailureRow<'_>]) -> Result<(), StoreError> {
        bind_failed(sqlx::query(INSERT_FAILED), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn amend_chunks(&mut self, amendments: &[ChunkAmendment<'_>]) -> Result<(), StoreError> {
        sqlx::query(AMEND_CHUNKS)
            .bind(amendments.iter().map(|amendment| amendment.run_id.as_str()).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| signed(amendment.chunk)).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| signed(amendment.predicted)).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| amendment.duplicate_rows.as_deref()).collect::<Vec<_>>())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn is_removed(&mut self, run_id: &RunId) -> Result<bool, StoreError> {
        // In the order of `lock_runs` and `stored`: in another, two waiting orders could hold each other up.
        sqlx::query(SHARE_RUNS).bind([ERASURES, REMOVALS]).execute(&mut *self.transaction).await?;
        let run: Option<RunEndRow> =
            sqlx::query_as(LOCK_RUNS).bind([run_id.as_str()]).fetch_optional(&mut *self.transaction).await?;
        Ok(run.is_some_and(|run| run.4))
    }

    async fn take_failed(&mut self, id: &ReplayId, rows: &[(u64, Uuid)]) -> Result<Vec<(u64, u32)>, StoreError> {
        let run_id = &id.run_id;
        let (rows, ids): (Vec<i64>, Vec<Uuid>) = rows.iter().map(|(row, id)| (signed(*row), *id)).unzip();
        // Locked by a statement of their own: a row that fails again elsewhere meanwhile is replaced by another, which only
        // the next statement sees.
        sqlx::query(LOCK_FAILED).bind(run_id.as_str()).bind(&rows).bind(&ids).execute(&mut *self.transaction).await?;
        let taken: Vec<(i64, i64)> = sqlx::query_as(TAKE_FAILED)
            .bind(run_id.as_str())
            .bind(&rows)
            .bind(&ids)
            .bind(signed(id.replay))
            .fetch_all(&mut *self.transaction)
            .await?;
        let attempts = |attempts| u32::try_from(attempts).unwrap_or(u32::MAX);
        Ok(taken.into_iter().map(|(row, tried)| (unsigned(row), attempts(tried))).collect())
    }

    async fn covering_chunks(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<ChunkCounts>, StoreError> {
        let rows: Vec<i64> = rows.iter().copied().map(signed).collect();
        let found: Vec<(i64, i64, i64, i64, Option<String>)> =
            sqlx::query_as(COVERING_CHUNKS).bind(run_id.as_str()).bind(rows).fetch_all(&mut *self.transaction).await?;
        found.into_iter().map(ChunkCounts::read).collect()
    }
}
