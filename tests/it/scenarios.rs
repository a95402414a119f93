//! The scenarios in small; `scenarios` plays them at any size.

use std::time::Duration;

use assay_tests::scenarios::{
    Backlog, BrokenModel, LiveLatency, RowsAtFault, backlog, broken_model, live_latency, rows_at_fault,
};

#[tokio::test]
async fn rows_at_fault_fail_alone_and_cost_few_requests() {
    rows_at_fault(RowsAtFault { rows: 20_000, ..RowsAtFault::default() }).await;
}

#[tokio::test]
async fn a_broken_model_fails_no_row() {
    broken_model(BrokenModel { rows: 4_000, each: Duration::from_secs(1) }).await;
}

#[tokio::test]
async fn a_backlog_grows_neither_the_queue_nor_the_loader() {
    let waits = Duration::from_secs(2);
    backlog(Backlog { rows: 20_000, waits, queue_max_length: 50, publish_window: 20 }).await;
}

#[tokio::test]
async fn live_transactions_alongside_a_batch_are_stored_once() {
    live_latency(LiveLatency { rows: 20_000, rate: 50, idle: Duration::from_secs(4), ..LiveLatency::default() }).await;
}
