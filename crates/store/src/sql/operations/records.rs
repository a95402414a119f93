//! Single rows and their outcomes, and lists of invalid and failed rows.

use assay_transaction::{ModelEndpoint, ReasonCode, RunId, Timestamp, Transaction};
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use uuid::Uuid;

use super::dialect::{Connection, LISTING, Pool, READING, Row, as_json, id_of_row, json_elements, key, of_either_type};
use super::fragments::{covering_chunk, invalid_columns};
use super::{ask, rows};
use crate::operations::filters::Filter;
use crate::values::{signed, storable, unsigned};
use crate::{
    FailedRecord, FailedRowSelection, InvalidRecord, PredictionRecord, RowOutcome, StoreError, TransactionRecord,
};

/// Most failed rows that are listed for one transaction id.
const MAX_FAILED_WITH_ID: i64 = 100;

/// The content of a transaction, as `read_content` takes it.
macro_rules! stored_content {
    () => {
        "CAST(t.id AS text) AS id, t.external_id, t.description, CAST(t.amount AS text) AS amount, \
         t.\"timestamp\" AS happened_at, t.merchant, t.operation_type, t.side, CAST(t.attributes AS text) AS attributes"
    };
}
pub(crate) use stored_content;
/// A transaction with its prediction, as `read_transaction` takes it.
macro_rules! transactions {
    () => {
        concat!(
            "SELECT ",
            stored_content!(),
            ", t.run_id, t.row_number, t.processing_type, t.created_at, p.prediction, p.fraud_score, p.model_version, \
             p.run_id AS predicted_for, p.predicted_at, CAST(p.reasons AS text) AS reasons, e.url AS endpoint_url, \
             e.features AS endpoint_features, \
             (SELECT count(*) FROM transaction_history h WHERE h.transaction_id = t.id) AS replaced \
             FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.id \
             LEFT JOIN model_endpoints e ON e.id = p.endpoint"
        )
    };
}
/// A failed transaction, as `read_failed` takes it.
macro_rules! failed {
    () => {
        "SELECT run_id, row_number, CAST(transaction_id AS text) AS transaction_id, class, reason, attempts, payload, \
         operation FROM failed_transactions"
    };
}
/// An invalid row, as `read_invalid` takes it.
macro_rules! invalid {
    () => {
        concat!("SELECT ", invalid_columns!(), " FROM invalid_transactions")
    };
}
/// The failed transactions of a run that a `Filter` selects: $1 to $5.
macro_rules! selected {
    () => {
        concat!(
            " WHERE run_id = $1 AND row_number >= $2 AND row_number <= $3",
            " AND (CAST($4 AS text) IS NULL OR class IN (SELECT element.value->>0 FROM ",
            json_elements!(as_json!("$4")),
            ")) AND (CAST($5 AS text) IS NULL OR EXISTS (SELECT 1 FROM ",
            json_elements!(as_json!("$5")),
            " WHERE row_number >= CAST(element.value->>0 AS bigint) AND row_number <= CAST(element.value->>1 AS bigint)))"
        )
    };
}

const BY_ID: &str = concat!(transactions!(), " WHERE t.id = $1");
const BY_ROW: &str =
    concat!(transactions!(), " WHERE t.run_id = $1 AND t.row_number = $2", of_either_type!(), " LIMIT 1");
const FAILED_ROW: &str = concat!(failed!(), " WHERE run_id = $1 AND row_number = $2");
const INVALID_ROW: &str = concat!(invalid!(), " WHERE run_id = $1 AND row_number = $2");
const DUPLICATES_AROUND: &str = concat!(
    "SELECT CAST(duplicate_rows AS text) FROM chunks WHERE run_id = $1 AND chunk = ",
    covering_chunk!("$1", "$2"),
    " AND duplicate_rows IS NOT NULL"
);
/// The latest first. A row failed when its chunk was recorded.
const FAILED_WITH_ID: &str = concat!(
    failed!(),
    " WHERE transaction_id = $1 ORDER BY (SELECT c.recorded_at FROM chunks c WHERE c.run_id = failed_transactions.run_id ",
    "AND c.chunk = ",
    covering_chunk!("failed_transactions.run_id", "failed_transactions.row_number"),
    ") DESC, run_id DESC, row_number DESC LIMIT $2"
);
const NAMESPACES: &str = "SELECT DISTINCT settings->>'namespace' FROM runs ORDER BY 1";
const INVALID_FROM: &str = concat!(
    invalid!(),
    " WHERE run_id = $1 AND row_number >= $2 AND (CAST($4 AS text) IS NULL OR reason = $4) ORDER BY row_number LIMIT $3"
);
const FAILED_FROM: &str = concat!(failed!(), selected!(), " ORDER BY row_number LIMIT $6");
const COUNT_FAILED: &str = concat!(
    "SELECT class, count(*) FROM failed_transactions",
    selected!(),
    " GROUP BY class ORDER BY count(*) DESC, class"
);

/// In one snapshot: a row that moves between tables meanwhile is in exactly one of them.
pub(crate) async fn row(connection: &mut Connection, run_id: &RunId, row: u64) -> Result<RowOutcome, StoreError> {
    // No row has a number beyond what the database takes.
    let place = (run_id.as_str(), signed(row));
    let failed = sqlx::query(FAILED_ROW).bind(place.0).bind(place.1).fetch_optional(&mut *connection).await?;
    if let Some(failed) = failed {
        return Ok(RowOutcome::Failed(read_failed(&failed)?));
    }
    let invalid = sqlx::query(INVALID_ROW).bind(place.0).bind(place.1).fetch_optional(&mut *connection).await?;
    if let Some(invalid) = invalid {
        return Ok(RowOutcome::Invalid(read_invalid(&invalid)?));
    }
    let duplicates: Option<String> =
        sqlx::query_scalar(DUPLICATES_AROUND).bind(place.0).bind(place.1).fetch_optional(&mut *connection).await?;
    let duplicates = crate::write::transaction::read_duplicates(duplicates.as_deref())?;
    if let Some((_, transaction_id)) = duplicates.into_iter().find(|(duplicate, _)| *duplicate == row) {
        let of = sqlx::query(BY_ID).bind(key(transaction_id)).fetch_optional(&mut *connection).await?;
        let of = of.as_ref().map(read_transaction).transpose()?.map(Box::new);
        return Ok(RowOutcome::Duplicate { of, transaction_id });
    }
    if let Some(id) = id_of_row(&mut *connection, run_id, place.1).await? {
        let stored = sqlx::query(BY_ID).bind(key(id)).fetch_optional(&mut *connection).await?;
        let stored = stored.as_ref().map(read_transaction).transpose()?;
        if let Some(stored) = stored.filter(|stored| stored.run_id == *run_id && stored.row == row) {
            return Ok(RowOutcome::Predicted(Box::new(stored)));
        }
    }
    // Recorded by an earlier version; or the record of its chunk was lost.
    let stored = sqlx::query(BY_ROW).bind(place.0).bind(place.1).fetch_optional(&mut *connection).await?;
    Ok(match stored {
        Some(stored) => RowOutcome::Predicted(Box::new(read_transaction(&stored)?)),
        None => RowOutcome::Unrecorded,
    })
}

pub(crate) async fn transaction(pool: &Pool, id: Uuid) -> Result<Option<TransactionRecord>, StoreError> {
    let found =
        ask(pool, READING, async |reading| sqlx::query(BY_ID).bind(key(id)).fetch_optional(reading).await).await?;
    found.as_ref().map(read_transaction).transpose()
}

pub(crate) async fn failed_with_id(pool: &Pool, id: Uuid) -> Result<Vec<FailedRecord>, StoreError> {
    let query = sqlx::query(FAILED_WITH_ID).bind(key(id)).bind(MAX_FAILED_WITH_ID);
    rows(pool, READING, query).await?.iter().rev().map(read_failed).collect()
}

pub(crate) async fn namespaces(pool: &Pool) -> Result<Vec<Uuid>, StoreError> {
    let namespaces: Vec<Option<String>> =
        ask(pool, READING, async |reading| sqlx::query_scalar(NAMESPACES).fetch_all(reading).await).await?;
    let unreadable = |_| StoreError::configuration("a run has a namespace that this version cannot read");
    namespaces.iter().flatten().map(|namespace| namespace.parse().map_err(unreadable)).collect()
}

pub(crate) async fn invalid_rows(
    pool: &Pool,
    run_id: &RunId,
    reason: Option<&str>,
    from_row: u64,
    limit: u32,
) -> Result<Vec<InvalidRecord>, StoreError> {
    let query = sqlx::query(INVALID_FROM)
        .bind(run_id.as_str())
        .bind(signed(from_row))
        .bind(i64::from(limit))
        .bind(reason.map(|reason| storable(reason.into())));
    rows(pool, LISTING, query).await?.iter().map(read_invalid).collect()
}

pub(crate) async fn failed_rows(
    pool: &Pool,
    run_id: &RunId,
    selection: &FailedRowSelection,
    from_row: u64,
    limit: u32,
) -> Result<Vec<FailedRecord>, StoreError> {
    let filter = Filter::new(selection, from_row)?;
    let query = sqlx::query(FAILED_FROM)
        .bind(run_id.as_str())
        .bind(filter.first)
        .bind(filter.last)
        .bind(filter.classes)
        .bind(filter.ranges)
        .bind(i64::from(limit));
    rows(pool, LISTING, query).await?.iter().map(read_failed).collect()
}

pub(crate) async fn count_failed(
    pool: &Pool,
    run_id: &RunId,
    selection: &FailedRowSelection,
) -> Result<Vec<(String, u64)>, StoreError> {
    let filter = Filter::new(selection, 0)?;
    let query = sqlx::query_as(COUNT_FAILED)
        .bind(run_id.as_str())
        .bind(filter.first)
        .bind(filter.last)
        .bind(filter.classes)
        .bind(filter.ranges);
    let counts: Vec<(String, i64)> = ask(pool, READING, async |reading| query.fetch_all(reading).await).await?;
    Ok(counts.into_iter().map(|(class, count)| (class, unsigned(count))).collect())
}

fn unreadable(what: &str) -> StoreError {
    StoreError::configuration(format!("the database holds {what} that this version cannot read"))
}

fn read_run_id(row: &Row, column: &str) -> Result<RunId, StoreError> {
    row.try_get::<String, _>(column)?.parse().map_err(|_| unreadable("the name of a run"))
}

fn read_id(row: &Row, column: &str) -> Result<Uuid, StoreError> {
    row.try_get::<String, _>(column)?.parse().map_err(|_| unreadable("a transaction id"))
}

pub(crate) fn read_time(row: &Row, column: &str) -> Result<Timestamp, StoreError> {
    Ok(row.try_get::<DateTime<Utc>, _>(column)?.into())
}

fn read_failed(row: &Row) -> Result<FailedRecord, StoreError> {
    Ok(FailedRecord {
        run_id: read_run_id(row, "run_id")?,
        row: unsigned(row.try_get("row_number")?),
        transaction_id: read_id(row, "transaction_id")?,
        class: row.try_get("class")?,
        reason: row.try_get("reason")?,
        attempts: unsigned(row.try_get("attempts")?),
        payload: row.try_get("payload")?,
        operation: row.try_get::<Option<i64>, _>("operation")?.map(unsigned),
    })
}

pub(crate) fn read_invalid(row: &Row) -> Result<InvalidRecord, StoreError> {
    Ok(InvalidRecord {
        run_id: read_run_id(row, "run_id")?,
        row: unsigned(row.try_get("row_number")?),
        line: unsigned(row.try_get("line")?),
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        raw: row.try_get("raw")?,
    })
}

pub(crate) fn read_content(row: &Row) -> Result<Transaction, StoreError> {
    let attributes: Option<String> = row.try_get("attributes")?;
    let attributes = attributes.map(|json| serde_json::from_str(&json)).transpose();
    let amount: String = row.try_get("amount")?;
    Ok(Transaction {
        id: read_id(row, "id")?,
        description: row.try_get("description")?,
        amount: amount.parse().map_err(|_| unreadable("an amount"))?,
        timestamp: read_time(row, "happened_at")?,
        merchant: row.try_get("merchant")?,
        operation_type: row.try_get("operation_type")?,
        side: row.try_get("side")?,
        attributes: attributes.map_err(|_| unreadable("attributes"))?.unwrap_or_default(),
    })
}

/// Columns `endpoint_url` and `endpoint_features`.
pub(crate) fn read_endpoint(row: &Row) -> Result<Option<ModelEndpoint>, StoreError> {
    let url: Option<String> = row.try_get("endpoint_url")?;
    let features = row.try_get("endpoint_features")?;
    Ok(url.map(|url| ModelEndpoint::new(url, features)))
}

fn read_reasons(row: &Row) -> Result<Vec<ReasonCode>, StoreError> {
    let json: Option<String> = row.try_get("reasons")?;
    let unreadable = |_| StoreError::configuration("a prediction has reasons that this version cannot read");
    json.map_or_else(|| Ok(Vec::new()), |json| serde_json::from_str(&json).map_err(unreadable))
}

fn read_transaction(row: &Row) -> Result<TransactionRecord, StoreError> {
    let prediction: Option<String> = row.try_get("prediction")?;
    Ok(TransactionRecord {
        transaction: read_content(row)?,
        external_id: row.try_get("external_id")?,
        run_id: read_run_id(row, "run_id")?,
        row: unsigned(row.try_get("row_number")?),
        processing_type: row.try_get("processing_type")?,
        created_at: read_time(row, "created_at")?,
        prediction: match prediction {
            None => None,
            Some(prediction) => Some(PredictionRecord {
                prediction,
                fraud_score: row.try_get("fraud_score")?,
                model_version: row.try_get("model_version")?,
                reasons: read_reasons(row)?,
                endpoint: read_endpoint(row)?,
                run_id: read_run_id(row, "predicted_for")?,
                predicted_at: read_time(row, "predicted_at")?,
            }),
        },
        replaced: unsigned(row.try_get("replaced")?),
    })
}
