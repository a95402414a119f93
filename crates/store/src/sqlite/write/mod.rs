//! The transaction that writes chunks. The file is locked for writing from its beginning, so nothing here waits for
//! anybody.

mod insert;

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use assay_transaction::{ReplayId, RowRange, RunId, ScoredChunk, TimeZone, Timestamp, Transaction as Content};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Row as _, Sqlite, Transaction};
use uuid::Uuid;

use self::insert::{Bound, GROUP, Insert};
use super::dialect::now;
use crate::ledger::runs::{End, sealed};
use crate::write::transaction::{
    Amendment, BookedChunk, Failure, InvalidRow, Neighbourhood, Session, StagedRow, StoredTransaction, covering,
    read_booked, signed, stored_attributes, unsigned,
};
use crate::{Exchanged, StoreError};

const ENDS: &str = "
    SELECT run_id, rows_read, chunks_total, stop_kind IS NOT NULL, removal_at IS NOT NULL FROM runs
    WHERE run_id IN (SELECT value FROM json_each($1))";
const CLAIM: &str = "
    INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, recorded_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (run_id, chunk) DO NOTHING";
const NEIGHBOURHOOD: &str = "
    SELECT c.first_row, c.rows,
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
    FROM chunks c WHERE c.run_id = $1 AND c.chunk = $2";
const CLEAR: [&str; 2] = [
    "DELETE FROM invalid_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
    "DELETE FROM failed_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
];
static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new(
        "INSERT INTO transactions (id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, \
         attributes, run_id, row_number, processing_type)",
        12,
        "ON CONFLICT (id) DO NOTHING",
    )
});
/// The columns of `predictions`, in the order in which [`bind_prediction`] binds them.
const INTO_PREDICTIONS: &str =
    "INSERT INTO predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)";
static PUT_PREDICTIONS: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new(
        INTO_PREDICTIONS,
        6,
        "ON CONFLICT (transaction_id) DO UPDATE SET prediction = excluded.prediction, fraud_score = excluded.fraud_score, \
         model_version = excluded.model_version, run_id = excluded.run_id, predicted_at = excluded.predicted_at",
    )
});
static PREDICT: LazyLock<Insert> =
    LazyLock::new(|| Insert::new(INTO_PREDICTIONS, 6, "ON CONFLICT (transaction_id) DO NOTHING"));
static INSERT_INVALID: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("INSERT INTO invalid_transactions (run_id, row_number, line, reason, message, raw)", 6, "")
});
static INSERT_FAILED: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new(
        "INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload)",
        7,
        "",
    )
});
const STORED: &str = "
    SELECT id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, attributes, run_id, row_number
    FROM transactions WHERE id IN (SELECT value FROM json_each($1))";
/// A score with all its digits: by itself, JSON gets 15 of them, and what returns from the history is to be what was there.
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
                'model_version', p.model_version, 'run_id', p.run_id, 'predicted_at', p.predicted_at)
        END, $2, $3, $4
    FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.id WHERE t.id = $1";
const REPLACE: &str = "
    UPDATE transactions SET external_id = $2, description = $3, amount = $4, \"timestamp\" = $5, merchant = $6,
        operation_type = $7, side = $8, attributes = $9
    WHERE id = $1";
const INSERTED: &str = "SELECT id FROM transactions WHERE rowid > $1 AND rowid <= $2";
const AMEND: &str = "UPDATE chunks SET predicted = $3, duplicate_rows = $4 WHERE run_id = $1 AND chunk = $2";
const CLAIM_PART: &str = "
    INSERT INTO replay_parts (run_id, replay, part, stored, failed, gone) VALUES ($1, $2, $3, 0, 0, 0)
    ON CONFLICT (run_id, replay, part) DO NOTHING";
const IS_REMOVED: &str = "SELECT removal_at IS NOT NULL FROM runs WHERE run_id = $1";
/// Of the reason of a conflict, no more than which row is in the way: what follows are values.
const KEEP_FAILURE: &str = "
    INSERT OR IGNORE INTO row_history (run_id, row_number, replay, class, reason, attempts, replayed_at)
    SELECT run_id, row_number, $4, class,
        CASE class WHEN 'id_conflict' THEN substr(reason, 1, instr(reason || ';', ';') - 1) ELSE reason END, attempts, $5
    FROM failed_transactions WHERE run_id = $1 AND row_number = $2 AND transaction_id = $3";
const TAKE_FAILED: &str = "
    DELETE FROM failed_transactions WHERE run_id = $1 AND row_number = $2 AND transaction_id = $3 RETURNING attempts";
const COVERING: &str = concat!(
    "SELECT chunk, first_row, rows, predicted, duplicate_rows FROM chunks WHERE run_id = $1 AND chunk = ",
    covering!("$1", "$2")
);
const COUNT_PART: &str = "
    UPDATE replay_parts SET stored = $4, failed = $5, gone = $6 WHERE run_id = $1 AND replay = $2 AND part = $3";

/// An open transaction that holds the file's lock.
pub(crate) struct SqliteSession {
    transaction: Transaction<'static, Sqlite>,
    /// When it began. All that it does is as of then, as in PostgreSQL, whatever each statement takes: a removal goes by which row
    /// of a transaction came first.
    began_at: String,
}

impl SqliteSession {
    pub(crate) async fn new(mut transaction: Transaction<'static, Sqlite>) -> Result<Self, StoreError> {
        let began_at = sqlx::query_scalar(concat!("SELECT ", now!())).fetch_one(&mut *transaction).await?;
        Ok(Self { transaction, began_at })
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// The ids that a statement inserted: nobody else writes meanwhile, so their row ids follow each other up to the last.
    /// Asked only where some were not, as each row that a statement gives back costs more than one that it inserts.
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

    /// Carries out a statement for rows that change nothing but their own.
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
}

/// A row of [`NEIGHBOURHOOD`].
type FoundChunk = (i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// The columns of `transactions` that content is made of.
fn bind_content<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    let content = &row.transaction;
    query
        .bind(content.id.to_string())
        .bind(row.external_id())
        .bind(content.description.as_str())
        .bind(content.amount.to_string())
        .bind(content.timestamp.to_string())
        .bind(content.merchant.as_deref())
        .bind(content.operation_type.as_str())
        .bind(content.side.as_str())
        .bind(row.attributes)
}

fn bind_transaction<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    bind_content(query, row).bind(row.run_id.as_str()).bind(signed(row.entry.row)).bind(row.processing_type())
}

fn bind_prediction<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    query
        .bind(row.transaction.id.to_string())
        .bind(row.prediction.prediction.as_str())
        .bind(row.prediction.fraud_score)
        .bind(row.prediction.model_version.as_deref())
        .bind(row.run_id.as_str())
        .bind(row.predicted_at.to_string())
}

fn bind_invalid<'q>(query: Bound<'q>, row: &'q InvalidRow<'_>) -> Bound<'q> {
    query
        .bind(row.run_id.as_str())
        .bind(signed(row.rejected.row))
        .bind(signed(row.rejected.line))
        .bind(&*row.reason)
        .bind(&*row.message)
        .bind(row.rejected.raw.as_bytes())
}

fn bind_failed<'q>(query: Bound<'q>, row: &'q Failure<'_>) -> Bound<'q> {
    query
        .bind(row.run_id.as_str())
        .bind(signed(row.row))
        .bind(row.transaction_id.to_string())
        .bind(&*row.class)
        .bind(&*row.reason)
        .bind(i64::from(row.attempts))
        .bind(row.payload.as_slice())
}

fn read_stored(row: &SqliteRow) -> Result<StoredTransaction, StoreError> {
    let id: String = row.try_get("id")?;
    let unreadable = |what: &str| StoreError::configuration(format!("transaction {id} has {what} that cannot be read"));
    let amount: String = row.try_get("amount")?;
    let timestamp: String = row.try_get("timestamp")?;
    Ok(StoredTransaction {
        external_id: row.try_get("external_id")?,
        run_id: row.try_get("run_id")?,
        row: unsigned(row.try_get("row_number")?),
        transaction: Content {
            id: id.parse().map_err(|_| unreadable("an id"))?,
            description: row.try_get("description")?,
            amount: amount.parse().map_err(|_| unreadable("an amount"))?,
            timestamp: Timestamp::parse(timestamp.as_bytes(), TimeZone::UTC).map_err(|_| unreadable("a timestamp"))?,
            merchant: row.try_get("merchant")?,
            operation_type: row.try_get("operation_type")?,
            side: row.try_get("side")?,
            attributes: BTreeMap::new(),
        },
        attributes: stored_attributes(row.try_get("attributes")?, &id)?,
    })
}

#[async_trait]
impl Session for SqliteSession {
    async fn ends(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<End>)>, StoreError> {
        let mut run_ids: Vec<&str> = chunks.iter().map(|chunk| chunk.id.run_id.as_str()).collect();
        run_ids.dedup();
        let run_ids = serde_json::to_string(&run_ids).map_err(|error| StoreError::data(error.to_string()))?;
        let runs: Vec<(String, Option<i64>, Option<i64>, bool, bool)> =
            sqlx::query_as(ENDS).bind(run_ids).fetch_all(&mut *self.transaction).await?;
        let end = |(run_id, rows_read, chunks_total, is_stopped, is_removed)| {
            (run_id, sealed(rows_read, chunks_total).map(|sealed| End { sealed, is_stopped, is_removed }))
        };
        Ok(runs.into_iter().map(end).collect())
    }

    async fn claim(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<bool>, StoreError> {
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

    async fn disclaim(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM chunks WHERE run_id = $1 AND chunk = $2")
            .bind(chunk.id.run_id.as_str())
            .bind(signed(chunk.id.chunk))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn neighbourhoods(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<Neighbourhood>>, StoreError> {
        let mut found = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let row: Option<FoundChunk> = sqlx::query_as(NEIGHBOURHOOD)
                .bind(chunk.id.run_id.as_str())
                .bind(signed(chunk.id.chunk))
                .fetch_optional(&mut *self.transaction)
                .await?;
            found.push(row.map(|(first_row, rows, below, above, failed, invalid)| Neighbourhood {
                range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) },
                end_below: below.map(unsigned),
                start_above: above.map(unsigned),
                has_leftovers: failed.or(invalid).is_some(),
            }));
        }
        Ok(found)
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
        let mut won: Vec<Uuid> = Vec::with_capacity(rows.len());
        for group in rows.chunks(GROUP) {
            let query = group.iter().fold(INSERT.rows(group.len()), |query, row| bind_transaction(query, row));
            let done = query.execute(&mut *self.transaction).await?;
            if done.rows_affected() == group.len() as u64 {
                won.extend(group.iter().map(|row| row.transaction.id));
            } else if done.rows_affected() > 0 {
                won.extend(self.inserted(&done).await?);
            }
        }
        if won.len() == rows.len() {
            self.insert_all(&PUT_PREDICTIONS, rows, |query, row| bind_prediction(query, row)).await?;
        } else if !won.is_empty() {
            let ids: HashSet<&Uuid> = won.iter().collect();
            let winners: Vec<_> = rows.iter().filter(|row| ids.contains(&row.transaction.id)).copied().collect();
            self.insert_all(&PUT_PREDICTIONS, &winners, |query, row| bind_prediction(query, row)).await?;
        }
        Ok(won)
    }

    async fn predict(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&PREDICT, rows, |query, row| bind_prediction(query, row)).await
    }

    async fn stored(&mut self, ids: &[Uuid], _lock: bool) -> Result<Vec<StoredTransaction>, StoreError> {
        let ids = serde_json::to_string(ids).map_err(|error| StoreError::data(error.to_string()))?;
        let rows = sqlx::query(STORED).bind(ids).fetch_all(&mut *self.transaction).await?;
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
        self.insert_all(&PUT_PREDICTIONS, rows, |query, row| bind_prediction(query, row)).await
    }

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError> {
        self.insert_all(&INSERT_INVALID, rows, bind_invalid).await
    }

    async fn insert_failed(&mut self, rows: &[Failure<'_>]) -> Result<(), StoreError> {
        self.insert_all(&INSERT_FAILED, rows, bind_failed).await
    }

    async fn amend(&mut self, amendments: &[Amendment<'_>]) -> Result<(), StoreError> {
        for amendment in amendments {
            sqlx::query(AMEND)
                .bind(amendment.run_id.as_str())
                .bind(signed(amendment.chunk))
                .bind(signed(amendment.predicted))
                .bind(amendment.duplicate_rows.as_deref())
                .execute(&mut *self.transaction)
                .await?;
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

    async fn covering(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<BookedChunk>, StoreError> {
        let mut chunks: Vec<BookedChunk> = Vec::new();
        for row in rows {
            let found: Option<(i64, i64, i64, i64, Option<String>)> = sqlx::query_as(COVERING)
                .bind(run_id.as_str())
                .bind(signed(*row))
                .fetch_optional(&mut *self.transaction)
                .await?;
            let chunk = found.map(read_booked).transpose()?;
            chunks.extend(chunk.filter(|chunk| chunks.last().is_none_or(|last| last.chunk != chunk.chunk)));
        }
        Ok(chunks)
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
