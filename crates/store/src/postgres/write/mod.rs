//! The transaction that writes chunks. Each statement takes all of its rows at once: by COPY, or as arrays.

mod columns;
mod copy_encoder;
mod copy_mode;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use assay_transaction::{ReplayId, RowRange, RunId, ScoredChunk};
use async_trait::async_trait;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use self::columns::{
    bind_content, bind_failed, bind_invalid, bind_predictions, content_arrays, content_columns, prediction_columns,
    processing_types, read_stored, row_numbers, run_ids,
};
use self::copy_encoder::copy;
pub(super) use self::copy_mode::Novelty;
use crate::ledger::runs::{End, sealed};
use crate::operations::removal::REMOVALS;
use crate::write::transaction::{
    Amendment, BookedChunk, Failure, InvalidRow, Neighbourhood, Session, StagedRow, StoredTransaction, covering,
    read_booked, signed, unsigned,
};
use crate::{Exchanged, StoreError};

/// The fence before a seal. Everybody who seals a run queues up for it alone, see [`super::dialect::queue_up`]; writers
/// queue up beside each other. The line is a statement of its own: what the next one sees was committed before it began, the
/// seal of whoever was first in the line too, however that changed the run.
const QUEUE_UP: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtextextended(run_id, 0)) FROM UNNEST($1::text[]) AS wanted(run_id)";
/// KEY SHARE keeps a run from being deleted, and holds up no checkpoint.
const ENDS: &str = "
    SELECT run_id, rows_read, chunks_total, stop_kind IS NOT NULL, removal_at IS NOT NULL
    FROM runs WHERE run_id = ANY($1) ORDER BY run_id FOR KEY SHARE";
const CLAIM: &str = "
    INSERT INTO chunks (run_id, chunk, first_row, rows, predicted)
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
    ON CONFLICT (run_id, chunk) DO NOTHING RETURNING run_id, chunk";
const NEIGHBOURHOODS: &str = "
    SELECT wanted.place, c.first_row, c.rows,
        (SELECT below.first_row + below.rows FROM chunks below
            WHERE below.run_id = c.run_id AND below.chunk < c.chunk ORDER BY below.chunk DESC LIMIT 1),
        (SELECT above.first_row FROM chunks above
            WHERE above.run_id = c.run_id AND above.chunk > c.chunk ORDER BY above.chunk LIMIT 1),
        (SELECT left_over.row_number FROM failed_transactions left_over
            WHERE left_over.run_id = c.run_id AND left_over.row_number >= c.first_row
                AND left_over.row_number < c.first_row + c.rows ORDER BY left_over.row_number LIMIT 1),
        (SELECT left_over.row_number FROM invalid_transactions left_over
            WHERE left_over.run_id = c.run_id AND left_over.row_number >= c.first_row
                AND left_over.row_number < c.first_row + c.rows ORDER BY left_over.row_number LIMIT 1)
    FROM UNNEST($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted(run_id, chunk, place)
    JOIN chunks c ON c.run_id = wanted.run_id AND c.chunk = wanted.chunk";
const CLEAR: [&str; 2] = [
    "DELETE FROM invalid_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
    "DELETE FROM failed_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
];
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
/// Predictions, as [`bind_predictions`] binds them; what is to be done where one is there follows.
macro_rules! insert_predictions {
    () => {
        concat!(
            "INSERT INTO predictions (",
            prediction_columns!(),
            ") SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::timestamptz[]) ",
            "ON CONFLICT (transaction_id) "
        )
    };
}
const PREDICT: &str = concat!(insert_predictions!(), "DO NOTHING");
const STORED: &str = concat!(
    "SELECT id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, ",
    "attributes::text AS attributes, run_id, row_number FROM transactions WHERE id = ANY($1) ORDER BY id"
);
const STORED_AND_LOCKED: &str = concat!(
    "SELECT id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, ",
    "attributes::text AS attributes, run_id, row_number FROM transactions WHERE id = ANY($1) ORDER BY id FOR UPDATE"
);
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
const PUT_PREDICTIONS: &str = concat!(
    insert_predictions!(),
    "DO UPDATE SET prediction = excluded.prediction, fraud_score = excluded.fraud_score,
        model_version = excluded.model_version, run_id = excluded.run_id, predicted_at = excluded.predicted_at"
);
const INSERT_INVALID: &str = "
    INSERT INTO invalid_transactions (run_id, row_number, line, reason, message, raw)
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])";
const INSERT_FAILED: &str = "
    INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload)
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bytea[])";
const AMEND: &str = "
    UPDATE chunks c SET predicted = amended.predicted, duplicate_rows = amended.duplicate_rows::jsonb
    FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS amended(run_id, chunk, predicted, duplicate_rows)
    WHERE c.run_id = amended.run_id AND c.chunk = amended.chunk";
const CLAIM_PART: &str = "
    INSERT INTO replay_parts (run_id, replay, part, stored, failed, gone) VALUES ($1, $2, $3, 0, 0, 0)
    ON CONFLICT (run_id, replay, part) DO NOTHING";
const LOCK_FAILED: &str = "
    SELECT f.row_number FROM failed_transactions f
    JOIN UNNEST($2::bigint[], $3::uuid[]) AS wanted(row_number, transaction_id)
        ON f.row_number = wanted.row_number AND f.transaction_id = wanted.transaction_id
    WHERE f.run_id = $1 ORDER BY f.row_number FOR UPDATE OF f";
/// Of the reason of a conflict, no more than which row is in the way: what follows are values.
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
/// See `crate::operations::removal`. By itself, so that the next statement sees what a removal has done that this one waits for.
const HOLD_REMOVALS: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))";
const COVERING: &str = concat!(
    "SELECT c.chunk, c.first_row, c.rows, c.predicted, c.duplicate_rows::text FROM chunks c WHERE c.run_id = $1 ",
    "AND c.chunk = ANY(ARRAY(SELECT ",
    covering!("$1", "wanted.row_number"),
    " FROM UNNEST($2::bigint[]) AS wanted(row_number))) ORDER BY c.chunk FOR NO KEY UPDATE"
);
const COUNT_PART: &str = "
    UPDATE replay_parts SET stored = $4, failed = $5, gone = $6 WHERE run_id = $1 AND replay = $2 AND part = $3";

/// Which of these ids are stored. The inner query goes by the index, whatever the planner believes of the size of the table.
const KNOWN: &str = "
    SELECT wanted.id FROM UNNEST($1::uuid[]) AS wanted(id)
    WHERE (SELECT true FROM transactions stored WHERE stored.id = wanted.id)";

/// From how many rows on COPY is faster, which takes two answers of the server more.
const COPY_FROM: usize = 100;

/// An open transaction, READ COMMITTED.
pub(crate) struct PostgresSession {
    transaction: Transaction<'static, Postgres>,
    /// Whether ids may be taken as new, where one that is not may end the transaction.
    novelty: Option<Arc<Novelty>>,
}

impl PostgresSession {
    pub(super) fn new(transaction: Transaction<'static, Postgres>, novelty: Option<Arc<Novelty>>) -> Self {
        Self { transaction, novelty }
    }

    /// Copies rows in whose ids are new, and gives those ids.
    async fn copy(&mut self, rows: &[&StagedRow<'_>], novelty: &Novelty) -> Result<Vec<Uuid>, StoreError> {
        let mut known: HashSet<Uuid> = HashSet::new();
        if novelty.is_doubtful() {
            let found = sqlx::query_scalar::<_, Uuid>(KNOWN).bind(columns::ids(rows)).fetch_all(&mut *self.transaction);
            known.extend(found.await?);
            novelty.found(known.len());
        }
        let new: Vec<_> = rows.iter().filter(|row| !known.contains(&row.transaction.id)).copied().collect();
        if !new.is_empty() {
            let copied = copy(&mut self.transaction, &new).await;
            copied.inspect_err(|error| {
                if error.is_duplicate_key() {
                    novelty.doubt();
                }
            })?;
        }
        Ok(columns::ids(&new))
    }

    /// Lets no removal take a step until this transaction ends.
    async fn hold_removals(&mut self) -> Result<(), StoreError> {
        sqlx::query(HOLD_REMOVALS).bind(REMOVALS).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

/// A row of [`NEIGHBOURHOODS`].
type FoundChunk = (i64, i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// Run and chunk of each, as two arrays.
fn identities<'a>(chunks: &[&'a ScoredChunk]) -> (Vec<&'a str>, Vec<i64>) {
    chunks.iter().map(|chunk| (chunk.id.run_id.as_str(), signed(chunk.id.chunk))).unzip()
}

#[async_trait]
impl Session for PostgresSession {
    async fn ends(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<End>)>, StoreError> {
        let (mut run_ids, _) = identities(chunks);
        run_ids.dedup();
        sqlx::query(QUEUE_UP).bind(&run_ids).execute(&mut *self.transaction).await?;
        let runs: Vec<(String, Option<i64>, Option<i64>, bool, bool)> =
            sqlx::query_as(ENDS).bind(run_ids).fetch_all(&mut *self.transaction).await?;
        let end = |(run_id, rows_read, chunks_total, is_stopped, is_removed)| {
            (run_id, sealed(rows_read, chunks_total).map(|sealed| End { sealed, is_stopped, is_removed }))
        };
        Ok(runs.into_iter().map(end).collect())
    }

    async fn claim(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<bool>, StoreError> {
        let (run_ids, numbers) = identities(chunks);
        let claimed: Vec<(String, i64)> = sqlx::query_as(CLAIM)
            .bind(&run_ids)
            .bind(&numbers)
            .bind(chunks.iter().map(|chunk| signed(chunk.range.first_row)).collect::<Vec<_>>())
            .bind(chunks.iter().map(|chunk| signed(chunk.range.rows)).collect::<Vec<_>>())
            .bind(chunks.iter().map(|chunk| signed(chunk.predicted.len() as u64)).collect::<Vec<_>>())
            .fetch_all(&mut *self.transaction)
            .await?;
        let claimed: HashSet<(&str, i64)> = claimed.iter().map(|(run_id, chunk)| (run_id.as_str(), *chunk)).collect();
        Ok(run_ids.into_iter().zip(numbers).map(|identity| claimed.contains(&identity)).collect())
    }

    async fn disclaim(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM chunks WHERE run_id = $1 AND chunk = $2")
            .bind(chunk.id.run_id.as_str())
            .bind(signed(chunk.id.chunk))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn neighbourhoods(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<Neighbourhood>>, StoreError> {
        let (run_ids, numbers) = identities(chunks);
        let found: Vec<FoundChunk> =
            sqlx::query_as(NEIGHBOURHOODS).bind(run_ids).bind(numbers).fetch_all(&mut *self.transaction).await?;
        let by_place: HashMap<i64, Neighbourhood> = found
            .into_iter()
            .map(|(place, first_row, rows, below, above, failed, invalid)| {
                let range = RowRange { first_row: unsigned(first_row), rows: unsigned(rows) };
                let (end_below, start_above) = (below.map(unsigned), above.map(unsigned));
                let has_leftovers = failed.or(invalid).is_some();
                (place, Neighbourhood { range, end_below, start_above, has_leftovers })
            })
            .collect();
        // Ordinality counts from 1.
        Ok((1..).zip(chunks).map(|(place, _)| by_place.get(&place).copied()).collect())
    }

    async fn clear(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError> {
        for delete in CLEAR {
            sqlx::query(delete)
                .bind(chunk.id.run_id.as_str())
                .bind(signed(chunk.range.first_row))
                .bind(signed(chunk.range.first_row + chunk.range.rows))
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    async fn insert(&mut self, rows: &[&StagedRow<'_>]) -> Result<Vec<Uuid>, StoreError> {
        if let Some(novelty) = self.novelty.clone().filter(|_| rows.len() >= COPY_FROM) {
            return self.copy(rows, &novelty).await;
        }
        let won: Vec<Uuid> = {
            let query = bind_content(sqlx::query(INSERT), rows)
                .bind(run_ids(rows))
                .bind(row_numbers(rows))
                .bind(processing_types(rows));
            query
                .try_map(|row: sqlx::postgres::PgRow| sqlx::Row::try_get(&row, 0))
                .fetch_all(&mut *self.transaction)
                .await?
        };
        if won.len() == rows.len() {
            bind_predictions(sqlx::query(PUT_PREDICTIONS), rows).execute(&mut *self.transaction).await?;
        } else if !won.is_empty() {
            let ids: HashSet<&Uuid> = won.iter().collect();
            let winners: Vec<_> = rows.iter().filter(|row| ids.contains(&row.transaction.id)).copied().collect();
            bind_predictions(sqlx::query(PUT_PREDICTIONS), &winners).execute(&mut *self.transaction).await?;
        }
        Ok(won)
    }

    async fn predict(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        bind_predictions(sqlx::query(PREDICT), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn stored(&mut self, ids: &[Uuid], lock: bool) -> Result<Vec<StoredTransaction>, StoreError> {
        // What is compared with is not to be removed before what came of it is committed.
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
        bind_predictions(sqlx::query(PUT_PREDICTIONS), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError> {
        bind_invalid(sqlx::query(INSERT_INVALID), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn insert_failed(&mut self, rows: &[Failure<'_>]) -> Result<(), StoreError> {
        bind_failed(sqlx::query(INSERT_FAILED), rows).execute(&mut *self.transaction).await?;
        Ok(())
    }

    async fn amend(&mut self, amendments: &[Amendment<'_>]) -> Result<(), StoreError> {
        sqlx::query(AMEND)
            .bind(amendments.iter().map(|amendment| amendment.run_id.as_str()).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| signed(amendment.chunk)).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| signed(amendment.predicted)).collect::<Vec<_>>())
            .bind(amendments.iter().map(|amendment| amendment.duplicate_rows.as_deref()).collect::<Vec<_>>())
            .execute(&mut *self.transaction)
            .await?;
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

    async fn is_removed(&mut self, run_id: &RunId) -> Result<bool, StoreError> {
        self.hold_removals().await?;
        let runs: Vec<(String, Option<i64>, Option<i64>, bool, bool)> =
            sqlx::query_as(ENDS).bind([run_id.as_str()]).fetch_all(&mut *self.transaction).await?;
        Ok(runs.first().is_some_and(|run| run.4))
    }

    async fn take_failed(&mut self, id: &ReplayId, rows: &[(u64, Uuid)]) -> Result<Vec<(u64, u32)>, StoreError> {
        let run_id = &id.run_id;
        let (rows, ids): (Vec<i64>, Vec<Uuid>) = rows.iter().map(|(row, id)| (signed(*row), *id)).unzip();
        // Locked by themselves first: a row that fails again elsewhere meanwhile is replaced by another, which only a new
        // statement sees.
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

    async fn covering(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<BookedChunk>, StoreError> {
        let rows: Vec<i64> = rows.iter().copied().map(signed).collect();
        let found: Vec<(i64, i64, i64, i64, Option<String>)> =
            sqlx::query_as(COVERING).bind(run_id.as_str()).bind(rows).fetch_all(&mut *self.transaction).await?;
        found.into_iter().map(read_booked).collect()
    }

    async fn count_part(&mut self, id: &ReplayId, done: &Exchanged) -> Result<(), StoreError> {
        sqlx::query(COUNT_PART)
            .bind(id.run_id.as_str())
            .bind(signed(id.replay))
            .bind(signed(id.part))
            .bind(signed(done.stored))
            .bind(signed(done.failed))
            .bind(signed(done.gone))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT part").await
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        self.run("RELEASE SAVEPOINT part").await
    }

    async fn rollback_part(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        Ok(())
    }
}
