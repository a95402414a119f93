//! Retention and erasure: the trait, each method one call. `purge` takes by age, `erase` by id, `refusals` keeps erased ids from
//! coming back; what they share is here.

mod erase;
mod purge;
pub(crate) mod refusals;

use assay_transaction::{RunId, Timestamp};
use async_trait::async_trait;
use sqlx::Row as _;
use uuid::Uuid;

use super::dialect::{self, COUNTING, Connection, Database, LISTING, READING, Row, as_json, json_elements};
use super::fragments;
use super::records;
use super::{ask, bounded, journal, rows};
use crate::values::{signed, unsigned};
use crate::{
    AuditContext, ChunkPlace, ErasureCounts, InvalidRecord, LetterBody, OperationRecord, Privacy, PurgeCounts,
    PurgeKind, PurgePosition, StoreError, Tombstones,
};

/// Values of the elements of a JSON list.
macro_rules! listed {
    ($list:literal, $($value:tt)+) => {
        concat!("(SELECT ", $($value)+, " FROM ", json_elements!(as_json!($list)), ")")
    };
}
use listed;
/// The pairs of a JSON list: a run, and the number of a row or a chunk.
macro_rules! pairs {
    ($list:literal) => {
        listed!($list, "element.value->>0, CAST(element.value->>1 AS bigint)")
    };
}
use pairs;
/// A condition on `run_id` and `row_number`: pairs of a JSON list.
macro_rules! is_listed {
    ($list:literal) => {
        concat!("(run_id, row_number) IN ", pairs!($list))
    };
}
use is_listed;

const DELETE_INVALID: &str = concat!("DELETE FROM invalid_transactions WHERE ", is_listed!("$1"));

const ALL_INVALID: &str = concat!(
    "SELECT ",
    fragments::invalid_columns!(),
    " FROM invalid_transactions WHERE (run_id, row_number) > ($1, $2) ORDER BY run_id, row_number LIMIT $3"
);
const BODIES: &str = "SELECT id, body FROM dead_letters WHERE id > $1 AND length(body) > 0 ORDER BY id LIMIT $2";
const TOMBSTONES: &str = concat!(
    "SELECT t.class, t.taken, o.* FROM (SELECT class, operation, count(*) AS taken FROM failed_transactions
        WHERE run_id = $1 AND operation IS NOT NULL GROUP BY class, operation) AS t LEFT JOIN (",
    journal::operations!(),
    ") AS o ON o.id = t.operation ORDER BY t.operation, t.class"
);
const FORGET_EARLIER: &str = concat!("DELETE FROM row_history WHERE ", is_listed!("$1"));

/// Rows by run, in order.
type RowsByRun<'a> = std::collections::BTreeMap<&'a str, Vec<i64>>;

/// Forgets which transactions rows are, and how they had failed before.
async fn forget_rows(connection: &mut Connection, rows: &[(String, i64)]) -> Result<(), StoreError> {
    for (run_id, rows) in by_run(rows) {
        dialect::forget_row_ids(connection, run_id, &rows).await?;
    }
    let list = crate::values::to_json(rows)?;
    sqlx::query(FORGET_EARLIER).bind(list).execute(connection).await?;
    Ok(())
}

fn by_run(rows: &[(String, i64)]) -> RowsByRun<'_> {
    let mut by_run = RowsByRun::new();
    for (run_id, row) in rows {
        by_run.entry(run_id).or_default().push(*row);
    }
    by_run
}

#[async_trait]
impl Privacy for Database {
    async fn plan_purge(&self, kind: PurgeKind, before: Timestamp) -> Result<PurgeCounts, StoreError> {
        ask(self.reading(), COUNTING, async |counting| purge::plan(counting, kind, before).await).await
    }

    async fn begin_operation(
        &self,
        action: &str,
        details: &serde_json::Value,
        audit: &AuditContext,
    ) -> Result<u64, StoreError> {
        bounded(journal::begin(self.writing(), action, details, audit)).await
    }

    async fn purge_step(
        &self,
        operation: u64,
        kind: PurgeKind,
        before: Timestamp,
        from: &PurgePosition,
    ) -> Result<(PurgeCounts, Option<PurgePosition>), StoreError> {
        bounded(purge::step(self.writing(), operation, kind, before, from)).await
    }

    async fn refuse_ids(&self, operation: u64, ids: &[Uuid]) -> Result<(), StoreError> {
        bounded(refusals::refuse(self.writing(), operation, ids)).await
    }

    async fn known_ids(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| erase::known(reading, ids).await)).await
    }

    async fn find_duplicates(
        &self,
        ids: &[Uuid],
        after: Option<&ChunkPlace>,
    ) -> Result<(Vec<(Uuid, ChunkPlace)>, Option<ChunkPlace>), StoreError> {
        ask(self.reading(), COUNTING, async |reading| erase::find_duplicates(reading, ids, after).await).await
    }

    async fn plan_erasure(&self, ids: &[Uuid], duplicates: &[ChunkPlace]) -> Result<ErasureCounts, StoreError> {
        ask(self.reading(), COUNTING, async |counting| erase::plan(counting, ids, duplicates).await).await
    }

    async fn erase_ids(
        &self,
        operation: u64,
        ids: &[Uuid],
        duplicates: &[ChunkPlace],
    ) -> Result<ErasureCounts, StoreError> {
        bounded(erase::by_id(self.writing(), operation, ids, duplicates)).await
    }

    async fn erase_rows(&self, operation: u64, rows: &[(RunId, u64)]) -> Result<ErasureCounts, StoreError> {
        bounded(erase::by_row(self.writing(), operation, rows)).await
    }

    async fn erase_letters(&self, operation: u64, letters: &[u64]) -> Result<ErasureCounts, StoreError> {
        bounded(erase::letters(self.writing(), operation, letters)).await
    }

    async fn all_invalid_rows(
        &self,
        after: Option<(&RunId, u64)>,
        limit: u32,
    ) -> Result<Vec<InvalidRecord>, StoreError> {
        let (run_id, row) = after.map_or(("", 0), |(run_id, row)| (run_id.as_str(), signed(row)));
        let query = sqlx::query(ALL_INVALID).bind(run_id).bind(row).bind(i64::from(limit));
        rows(self.reading(), LISTING, query).await?.iter().map(records::read_invalid).collect()
    }

    async fn letter_bodies(&self, after: u64, limit: u32) -> Result<Vec<LetterBody>, StoreError> {
        let found: Vec<(i64, Vec<u8>)> = ask(self.reading(), LISTING, async |reading| {
            sqlx::query_as(BODIES).bind(signed(after)).bind(i64::from(limit)).fetch_all(reading).await
        })
        .await?;
        Ok(found.into_iter().map(|(id, body)| LetterBody { id: unsigned(id), body }).collect())
    }

    async fn tombstones(&self, run_id: &RunId) -> Result<Vec<Tombstones>, StoreError> {
        let found = rows(self.reading(), COUNTING, sqlx::query(TOMBSTONES).bind(run_id.as_str())).await?;
        let tombstones = |row: &Row| {
            let operation: Option<i64> = row.try_get("id")?;
            Ok(Tombstones {
                class: row.try_get("class")?,
                rows: unsigned(row.try_get("taken")?),
                operation: operation.map(|_| journal::read(row)).transpose()?,
            })
        };
        found.iter().map(tombstones).collect()
    }

    async fn operation(&self, operation: u64) -> Result<Option<OperationRecord>, StoreError> {
        bounded(journal::by_id(self.reading(), operation)).await
    }
}
