//! Loads that are stopped and resumed.

use assay_loader::LoadError;
use assay_transaction::{Exit, RunState};

use crate::fixture::LoaderFixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_load_is_sealed_by_the_next_one() {
    let fixture = LoaderFixture::new(3_000);
    // With batches of one row, the reader sends after nearly every row: any of these may find the receiver dropped.
    let arguments = ["--row-batch-size", "1"];
    for stop_after in [100, 700, 1_500] {
        let process = fixture.process(&arguments, 4, true).await;
        let error = process.stopped_after(stop_after).await;
        assert!(matches!(error, LoadError::Stopped { .. }), "{error}");
        let store = &process.dependencies.store;
        for open in store.open_runs().await.unwrap() {
            let recorded = store.recorded_chunks(&open.run.run_id, 0, 1_000).await.unwrap();
            let prefix = recorded.iter().zip(0..).take_while(|(chunk, number)| chunk.chunk == *number).count();
            assert!(open.run.checkpoint.chunk <= prefix as u64, "what is passed is recorded");
        }
    }
    let process = fixture.process(&arguments, 4, true).await;
    let ended = process.load().await.unwrap();
    assert_eq!(ended.run.state, RunState::Complete);
    assert_eq!(ended.run.sealed.unwrap().rows_read, 3_000);
    let tally = ended.tally.unwrap();
    assert!(tally.accounts_for(3_000), "{tally:?}");
    assert_eq!((tally.failed, ended.exit()), (3_000, Exit::FailedRows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_lost_with_an_in_process_broker_are_published_again() {
    let fixture = LoaderFixture::new(1_000);
    // Without a consumer, the run is sealed, and its chunks are lost with the process.
    let first = fixture.process(&["--wait-timeout", "0s"], 100, false).await;
    let error = first.load().await.unwrap_err();
    assert!(error.to_string().ends_with("0 of 10 chunks are stored; no consumer on transactions.batch"), "{error}");
    drop(first);
    let second = fixture.process(&[], 100, true).await;
    let ended = second.load().await.unwrap();
    assert_eq!((ended.run.state, ended.already_loaded), (RunState::Complete, false));
    assert!(ended.tally.unwrap().accounts_for(1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_source_fails_its_run_and_keeps_its_rows() {
    let fixture = LoaderFixture::new(60_000);
    let process = fixture.process(&["--row-batch-size", "100"], 1, true).await;
    let error = process.load_and(500, async || fixture.write("second and longer")).await.unwrap_err();
    assert!(error.to_string().contains("was replaced while it was read"), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::SourceUnreadable);
    assert_eq!(process.dependencies.store.open_runs().await.unwrap(), [], "the run is closed");

    let again = process.load().await.unwrap();
    assert_eq!(
        (again.run.state, again.already_loaded),
        (RunState::Complete, false),
        "the new version has a run of its own"
    );
}
