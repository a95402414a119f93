//! Runs that end early: cancelled, over budget, or with a replaced source.

use assay_loader::LoadError;
use assay_store::{AuditContext, IdConflict, StopOutcome};
use assay_transaction::{
    ChunkId, Exit, Lane, RawText, RejectReason, RejectedRow, RowRange, Run, RunState, ScoredChunk, StopKind,
};
use chrono::Utc;

use crate::fixture::{LoaderFixture, LoaderProcess};

/// Cancels the only run.
async fn cancel(process: &LoaderProcess) {
    let (run, _) = process.only_run().await;
    let audit = AuditContext { operator: "operator".to_owned(), reason: None };
    let store = &process.dependencies.store;
    let ordered = store.order_stop(&run.run_id, StopKind::Cancelled, "by mistake", &audit).await.unwrap();
    assert!(matches!(ordered, StopOutcome::Ordered(_)), "{ordered:?}");
}

fn exit(error: &LoadError) -> Exit {
    assay_telemetry::Failure::exit(error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_is_sealed_behind_what_is_published_and_the_law_holds() {
    let fixture = LoaderFixture::new(60_000);
    // A short queue, which is full while nothing is recorded.
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    let order = async || process.ordered(async || cancel(&process).await).await;
    let error = process.load_and(500, order).await.unwrap_err();
    assert!(matches!(error, LoadError::EndedEarly { kind: StopKind::Cancelled, .. }), "{error}");
    assert_eq!(exit(&error), Exit::FailedRows);
    let (run, tally) = process.only_run().await;
    let rows_read = run.sealed.unwrap().rows_read;
    assert!((500..60_000).contains(&rows_read), "{rows_read} rows are read");
    assert_eq!((run.state, run.error.as_deref()), (RunState::Cancelled, Some("by mistake")));
    assert!(tally.accounts_for(rows_read), "{tally:?} of {rows_read}");

    let again = process.load().await.unwrap();
    assert_eq!((again.run.state, again.already_loaded), (RunState::Complete, false), "its source is free");
    assert!(again.tally.unwrap().accounts_for(60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_loader_seals_a_cancelled_run_whose_loader_died() {
    let fixture = LoaderFixture::new(60_000);
    // One chunk at a time, so that no chunk is missing before the last recorded one.
    let dead = fixture.process(&["--row-batch-size", "100"], 1, true).await;
    dead.stopped_after(500).await;
    cancel(&dead).await;
    drop(dead);
    let next = fixture.process(&[], 100, true).await;
    let error = next.load().await.unwrap_err();
    assert!(matches!(error, LoadError::EndedEarly { kind: StopKind::Cancelled, .. }), "{error}");
    let (run, tally) = next.only_run().await;
    assert_eq!(run.state, RunState::Cancelled);
    assert!(tally.accounts_for(run.sealed.unwrap().rows_read));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_has_no_gap_before_earlier_published_chunks() {
    const BEYOND: u64 = 550;
    let fixture = LoaderFixture::new(60_000);
    let dead = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    dead.stopped_after(500).await;
    // As if it had been killed, and later chunks had overtaken earlier ones, which are lost.
    let (run, _) = dead.only_run().await;
    dead.dependencies.store.write(&[rejected_chunk(&run, BEYOND)], IdConflict::Fail).await.unwrap();
    drop(dead);
    let next = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    let order = async || next.ordered(async || cancel(&next).await).await;
    let error = next.load_and(700, order).await.unwrap_err();
    assert!(matches!(error, LoadError::EndedEarly { kind: StopKind::Cancelled, .. }), "{error}");
    let (run, tally) = next.only_run().await;
    let sealed = run.sealed.unwrap();
    assert_eq!((sealed.chunks_total, sealed.rows_read), (BEYOND + 1, 100 * (BEYOND + 1)));
    assert_eq!(run.state, RunState::Cancelled, "every chunk of it is recorded");
    assert!(tally.accounts_for(sealed.rows_read), "{tally:?}");
}

/// A chunk of 100 rows from a predictor.
pub(crate) fn rejected_chunk(run: &Run, chunk: u64) -> ScoredChunk {
    let first_row = 100 * chunk + 1;
    let rejected = (first_row..first_row + 100).map(|row| RejectedRow {
        row,
        line: row + 1,
        reason: RejectReason::FieldCount,
        message: String::new(),
        raw: RawText::default(),
    });
    ScoredChunk {
        id: ChunkId { run_id: run.run_id.clone(), chunk },
        range: RowRange { first_row, rows: 100 },
        ids: run.settings.ids,
        lane: Lane::Batch,
        predicted_at: Utc::now().into(),
        predicted: Vec::new(),
        failed: Vec::new(),
        rejected: rejected.collect(),
        known: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_replaced_source_is_aborted_by_the_load_of_the_next_version() {
    let fixture = LoaderFixture::new(60_000);
    // One chunk at a time, so that no chunk is missing before the last recorded one.
    let dead = fixture.process(&["--row-batch-size", "100"], 1, true).await;
    dead.stopped_after(500).await;
    drop(dead);
    fixture.write("second and longer");
    let next = fixture.process(&[], 100, true).await;
    let ended = next.load().await.unwrap();
    assert_eq!(ended.run.state, RunState::Complete);
    let runs = next.dependencies.store.runs(None, 10).await.unwrap();
    let replaced = runs.iter().find(|run| run.run_id != ended.run.run_id).unwrap();
    let order = replaced.stop.as_ref().unwrap();
    assert_eq!(order.kind, StopKind::Aborted);
    assert!(order.reason.starts_with("its source was replaced"), "{}", order.reason);
    // As the writer's sweep does some seconds later.
    assert_eq!(next.dependencies.store.seal_stopped(&replaced.run_id).await.unwrap(), RunState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_invalid_rows_abort_a_run() {
    for (rows, invalid, budget, is_aborted) in
        [(20_000, 100, "0.004", true), (20_000, 100, "0.2", false), (20, 1, "0.04", true), (20, 1, "0.05", false)]
    {
        let fixture = LoaderFixture::new(rows);
        fixture.spoil(invalid);
        let process = fixture.process(&["--max-invalid-ratio", budget, "--row-batch-size", "1000"], 100, true).await;
        let ended = process.load().await;
        let (run, tally) = process.only_run().await;
        let rows_read = run.sealed.unwrap().rows_read;
        assert!(tally.accounts_for(rows_read), "{tally:?} of {rows_read}");
        if is_aborted {
            let error = ended.unwrap_err();
            assert!(error.to_string().contains(&format!("MAX_INVALID_RATIO={budget}")), "{error}");
            assert_eq!((exit(&error), run.state), (Exit::FailedRows, RunState::Failed));
            assert!(rows < 1_000 || rows_read < 10_000, "it is aborted early, not after {rows_read} rows");
        } else {
            assert_eq!(ended.unwrap().run.state, RunState::Complete);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_run_ends_the_wait_at_once() {
    let fixture = LoaderFixture::new(300);
    let process = fixture.process(&["--wait-timeout", "1h"], 100, false).await;
    let stall = async || {
        let (run, _) = process.only_run().await;
        let letter = assay_store::DeadLetter {
            queue: "transactions.batch".to_owned(),
            message_id: None,
            message_type: None,
            run_id: Some(run.run_id.to_string()),
            reason: "delivery_limit".to_owned(),
            attempt: 0,
            body: b"{".to_vec(),
            outcome: assay_store::DeadLetterOutcome::Unreadable,
        };
        assert!(process.dependencies.store.record_dead_letter(&letter).await.unwrap());
    };
    let error = process.load_and(300, stall).await.unwrap_err();
    assert!(matches!(error, LoadError::Stalled { letters: 1, .. }), "{error}");
    assert_eq!(exit(&error), Exit::FailedRows);
}
