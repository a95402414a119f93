//! Rows as columns: what a list of values takes, and what a stored transaction gives.

use std::collections::BTreeMap;

use assay_transaction::{TimeZone, Timestamp, Transaction};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::insert::Bound;
use crate::StoreError;
use crate::values::{signed, unsigned};
use crate::write::transaction::{FailureRow, InvalidRow, StagedRow, StoredTransaction, stored_attributes};

/// Binds the content columns.
pub(super) fn bind_content<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    let content = &row.transaction;
    query
        .bind(content.id.to_string())
        .bind(row.external_id())
        .bind(&*content.description)
        .bind(content.amount.to_string())
        .bind(content.timestamp.to_string())
        .bind(content.merchant.as_deref())
        .bind(&*content.operation_type)
        .bind(&*content.side)
        .bind(content.attributes)
}

pub(super) fn bind_transaction<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    bind_content(query, row).bind(row.run_id.as_str()).bind(signed(row.entry.row)).bind(row.processing_type())
}

pub(super) fn bind_prediction<'q>(query: Bound<'q>, row: &'q StagedRow<'_>) -> Bound<'q> {
    query
        .bind(row.transaction.id.to_string())
        .bind(&*row.prediction.prediction)
        .bind(row.prediction.fraud_score)
        .bind(row.prediction.model_version.as_deref())
        .bind(row.run_id.as_str())
        .bind(row.predicted_at.to_string())
        .bind(row.reasons())
        .bind(row.endpoint())
}

pub(super) fn bind_invalid<'q>(query: Bound<'q>, row: &'q InvalidRow<'_>) -> Bound<'q> {
    query
        .bind(row.run_id.as_str())
        .bind(signed(row.rejected.row))
        .bind(signed(row.rejected.line))
        .bind(&*row.reason)
        .bind(&*row.message)
        .bind(row.rejected.raw.as_bytes())
}

pub(super) fn bind_failed<'q>(query: Bound<'q>, row: &'q FailureRow<'_>) -> Bound<'q> {
    query
        .bind(row.run_id.as_str())
        .bind(signed(row.row))
        .bind(row.transaction_id.to_string())
        .bind(&*row.class)
        .bind(&*row.reason)
        .bind(i64::from(row.attempts))
        .bind(row.payload.as_slice())
        .bind(row.operation)
}

pub(super) fn read_stored(row: &SqliteRow) -> Result<StoredTransaction, StoreError> {
    let id: String = row.try_get("id")?;
    let unreadable = |what: &str| StoreError::configuration(format!("transaction {id} has {what} that cannot be read"));
    let amount: String = row.try_get("amount")?;
    let timestamp: String = row.try_get("timestamp")?;
    Ok(StoredTransaction {
        external_id: row.try_get("external_id")?,
        run_id: row.try_get("run_id")?,
        row: unsigned(row.try_get("row_number")?),
        transaction: Transaction {
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
