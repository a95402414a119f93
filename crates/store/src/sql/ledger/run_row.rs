//! A row of the table `runs`.

use assay_transaction::{
    AmountSum, Checkpoint, CheckpointCounts, Position, Run, RunRemoval, SealedTotals, SourceIdentity, StopKind,
    StopOrder, Timestamp,
};
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use tracing::warn;

use super::dialect::Row;
use crate::StoreError;
use crate::ledger::sealing::sealed;
use crate::values::unsigned;

/// The columns of a run, as [`read`] takes them.
macro_rules! run_columns {
    () => {
        "run_id, source_location, source_version, state, CAST(settings AS text) AS settings, checkpoint_chunk, \
         checkpoint_row, checkpoint_line, checkpoint_offset, checkpoint_invalid, checkpoint_other, \
         CAST(checkpoint_amount AS text) AS checkpoint_amount, rows_read, chunks_total, \
         CAST(amount_read AS text) AS amount_read, error, stop_kind, stop_reason, stop_at, source_bytes, started_at, \
         finished_at, removal_at, removal_by, removal_reason, removed_at"
    };
}
pub(crate) use run_columns;

/// Reads [`run_columns`].
pub(crate) fn read(row: &Row) -> Result<Run, StoreError> {
    let run_id: String = row.try_get("run_id")?;
    let unreadable =
        |what: &str| StoreError::configuration(format!("run {run_id} has {what} that this version cannot read"));
    let count = |column: &str| row.try_get(column).map(unsigned);
    let amount = |text: &str| text.parse::<AmountSum>().map_err(|_| unreadable("a sum"));
    let position = Position {
        row: count("checkpoint_row")?,
        line: count("checkpoint_line")?,
        offset: count("checkpoint_offset")?,
    };
    let counted = CheckpointCounts {
        invalid: count("checkpoint_invalid")?,
        amount: amount(row.try_get("checkpoint_amount")?)?,
        other_reading: count("checkpoint_other")?,
    };
    let sealed = sealed(row.try_get("rows_read")?, row.try_get("chunks_total")?);
    let amount_read = row.try_get::<Option<&str>, _>("amount_read")?.map(amount).transpose()?;
    let removal = match time(row, "removal_at")? {
        None => None,
        Some(began_at) => Some(RunRemoval {
            by: text(row, "removal_by")?,
            reason: text(row, "removal_reason")?,
            began_at,
            ended_at: time(row, "removed_at")?,
        }),
    };
    Ok(Run {
        run_id: run_id.parse().map_err(|_| unreadable("a name"))?,
        source: SourceIdentity { location: row.try_get("source_location")?, version: row.try_get("source_version")? },
        state: row.try_get::<&str, _>("state")?.parse().map_err(|_| unreadable("a state"))?,
        settings: serde_json::from_str(row.try_get("settings")?).map_err(|_| unreadable("settings"))?,
        checkpoint: Checkpoint { chunk: count("checkpoint_chunk")?, at: position, counted },
        sealed: sealed.map(|sealed| SealedTotals { amount: amount_read, ..sealed }),
        error: row.try_get("error")?,
        stop: read_stop(row)?,
        source_bytes: row.try_get::<Option<i64>, _>("source_bytes")?.map(unsigned),
        started_at: row.try_get::<DateTime<Utc>, _>("started_at")?.into(),
        finished_at: time(row, "finished_at")?,
        removal,
    })
}

/// The same for lists, which skip a run of a newer version that this one cannot read.
pub(crate) fn readable(row: &Row) -> Option<Run> {
    read(row).inspect_err(|error| warn!("{error}: skipped")).ok()
}

/// Reads the order to stop a run, if there is one.
pub(crate) fn read_stop(row: &Row) -> Result<Option<StopOrder>, StoreError> {
    let (kind, at): (Option<&str>, _) = (row.try_get("stop_kind")?, time(row, "stop_at")?);
    let (Some(kind), Some(at)) = (kind, at) else { return Ok(None) };
    Ok(Some(StopOrder { kind: stop_kind(kind)?, reason: text(row, "stop_reason")?, at }))
}

pub(crate) fn stop_kind(stored: &str) -> Result<StopKind, StoreError> {
    StopKind::from_stored(stored).ok_or_else(|| {
        StoreError::configuration(format!("a run has the stop order `{stored}`, which this version cannot read"))
    })
}

fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    Ok(row.try_get::<Option<String>, _>(column)?.unwrap_or_default())
}

fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<DateTime<Utc>>, _>(column)?.map(Timestamp::from))
}
