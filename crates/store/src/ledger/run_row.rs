//! A row of the table `runs`, and what it stands for.

use assay_transaction::{
    AmountSum, Checkpoint, Counted, Position, Removal, Run, Sealed, SourceIdentity, StopKind, StopOrder, Timestamp,
};
use chrono::{DateTime, Utc};

use crate::StoreError;
use crate::ledger::sealing::sealed;
use crate::values::unsigned;

/// The stored kind of an order to end a run.
pub(crate) fn stop_kind(stored: &str) -> Result<StopKind, StoreError> {
    StopKind::from_stored(stored).ok_or_else(|| {
        StoreError::configuration(format!("a run has the stop order `{stored}`, which this version cannot read"))
    })
}

/// A row of `runs`, as both databases return it.
pub(crate) struct RunRow {
    pub(crate) run_id: String,
    pub(crate) source: SourceIdentity,
    pub(crate) state: String,
    pub(crate) settings: String,
    /// Chunk, row, line, offset.
    pub(crate) checkpoint: [i64; 4],
    pub(crate) checkpoint_invalid: i64,
    pub(crate) checkpoint_other: i64,
    pub(crate) checkpoint_amount: String,
    pub(crate) rows_read: Option<i64>,
    pub(crate) chunks_total: Option<i64>,
    pub(crate) amount_read: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) stop_kind: Option<String>,
    pub(crate) stop_reason: Option<String>,
    pub(crate) stop_at: Option<DateTime<Utc>>,
    pub(crate) source_bytes: Option<i64>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) removal_at: Option<DateTime<Utc>>,
    pub(crate) removal_by: Option<String>,
    pub(crate) removal_reason: Option<String>,
    pub(crate) removed_at: Option<DateTime<Utc>>,
}

impl RunRow {
    pub(crate) fn read(self) -> Result<Run, StoreError> {
        let unreadable = |what: &str| {
            StoreError::configuration(format!("run {} has {what} that this version cannot read", self.run_id))
        };
        let [chunk, row, line, offset] = self.checkpoint.map(unsigned);
        let amount = |text: &str| text.parse::<AmountSum>().map_err(|_| unreadable("a sum"));
        let counted = Counted {
            invalid: unsigned(self.checkpoint_invalid),
            amount: amount(&self.checkpoint_amount)?,
            other_reading: unsigned(self.checkpoint_other),
        };
        let sealed = sealed(self.rows_read, self.chunks_total);
        let amount = self.amount_read.as_deref().map(amount).transpose()?;
        let stop = match (&self.stop_kind, self.stop_at) {
            (Some(kind), Some(at)) => Some(StopOrder {
                kind: stop_kind(kind)?,
                reason: self.stop_reason.clone().unwrap_or_default(),
                at: at.into(),
            }),
            _ => None,
        };
        let removal = self.removal_at.map(|began_at| Removal {
            by: self.removal_by.clone().unwrap_or_default(),
            reason: self.removal_reason.clone().unwrap_or_default(),
            began_at: began_at.into(),
            ended_at: self.removed_at.map(Timestamp::from),
        });
        Ok(Run {
            removal,
            run_id: self.run_id.parse().map_err(|_| unreadable("a name"))?,
            state: self.state.parse().map_err(|_| unreadable("a state"))?,
            settings: serde_json::from_str(&self.settings).map_err(|_| unreadable("settings"))?,
            checkpoint: Checkpoint { chunk, at: Position { row, line, offset }, counted },
            sealed: sealed.map(|sealed| Sealed { amount, ..sealed }),
            source: self.source,
            error: self.error,
            stop,
            source_bytes: self.source_bytes.map(unsigned),
            started_at: Timestamp::from(self.started_at),
            finished_at: self.finished_at.map(Timestamp::from),
        })
    }
}
