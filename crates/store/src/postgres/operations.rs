//! STUB: to be replaced.
#![allow(unused_variables, clippy::todo)]
use assay_transaction::{Run, RunId, RunState, ScoredReplay, StopKind, StopOrder};
use async_trait::async_trait;
use uuid::Uuid;

use super::Postgres;
use crate::{
    Act, Audit, DeadLetter, DeadLetterRecord, Exchanged, FailedRecord, IdConflict, InvalidRecord, OpenRun, Operation,
    Operations, Pace, RowFate, Selection, Stopping, StoreError, TransactionRecord,
};

#[async_trait]
impl Operations for Postgres {
    async fn runs(&self, location: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        todo!()
    }
    async fn open_runs(&self) -> Result<Vec<OpenRun>, StoreError> {
        todo!()
    }
    async fn order_stop(
        &self,
        run_id: &RunId,
        kind: StopKind,
        reason: &str,
        act: &Act,
    ) -> Result<Stopping, StoreError> {
        todo!()
    }
    async fn stop_order(&self, run_id: &RunId) -> Result<Option<StopOrder>, StoreError> {
        todo!()
    }
    async fn seal_stopped(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        todo!()
    }
    async fn pace(&self, run_id: &RunId, window_seconds: u32) -> Result<Pace, StoreError> {
        todo!()
    }
    async fn audit(&self, run_id: &RunId) -> Result<Option<Audit>, StoreError> {
        todo!()
    }
    async fn row(&self, run_id: &RunId, row: u64) -> Result<RowFate, StoreError> {
        todo!()
    }
    async fn transaction(&self, id: Uuid) -> Result<Option<TransactionRecord>, StoreError> {
        todo!()
    }
    async fn failed_with_id(&self, id: Uuid) -> Result<Vec<FailedRecord>, StoreError> {
        todo!()
    }
    async fn namespaces(&self) -> Result<Vec<Uuid>, StoreError> {
        todo!()
    }
    async fn invalid_rows(&self, run_id: &RunId, from_row: u64, limit: u32) -> Result<Vec<InvalidRecord>, StoreError> {
        todo!()
    }
    async fn failed_rows(
        &self,
        run_id: &RunId,
        selection: &Selection,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<FailedRecord>, StoreError> {
        todo!()
    }
    async fn count_failed(&self, run_id: &RunId, selection: &Selection) -> Result<Vec<(String, u64)>, StoreError> {
        todo!()
    }
    async fn begin_replay(&self, run_id: &RunId, details: &serde_json::Value, act: &Act) -> Result<u64, StoreError> {
        todo!()
    }
    async fn exchange(&self, part: &ScoredReplay, on_conflict: IdConflict) -> Result<Exchanged, StoreError> {
        todo!()
    }
    async fn replayed(&self, run_id: &RunId, replay: u64) -> Result<(u64, Exchanged), StoreError> {
        todo!()
    }
    async fn record_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        todo!()
    }
    async fn dead_letters(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<DeadLetterRecord>, StoreError> {
        todo!()
    }
    async fn blocking_dead_letters(&self, run_id: &RunId) -> Result<u64, StoreError> {
        todo!()
    }
    async fn resolve_dead_letters(&self, run_id: &RunId) -> Result<u64, StoreError> {
        todo!()
    }
    async fn record_operation(
        &self,
        action: &str,
        run_id: Option<&RunId>,
        details: Option<&serde_json::Value>,
        act: &Act,
    ) -> Result<(), StoreError> {
        todo!()
    }
    async fn operations(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<Operation>, StoreError> {
        todo!()
    }
    async fn failed_share(&self, run_id: &RunId) -> Result<(u64, u64), StoreError> {
        todo!()
    }
}
