//! Repairs of runs that lack chunks.

use std::num::NonZeroUsize;
use std::sync::Arc;

use assay_loader::{LoadError, RepairCounts, RepairOptions, repair};
use assay_store::Store;
use assay_transaction::{Exit, Run, RunState, SealedTotals};
use tokio_util::sync::CancellationToken;

use crate::fixture::{LoaderFixture, LoaderProcess, TEST_TIMEOUT};

async fn repaired(process: &LoaderProcess, run: &Run, dry_run: bool) -> Result<RepairCounts, LoadError> {
    let options = RepairOptions { row_batch_size: NonZeroUsize::new(70).unwrap(), dry_run };
    repair(&process.dependencies, run, &options, &Arc::default(), &CancellationToken::new()).await
}

async fn until_finished(store: &dyn Store, run: &Run) -> Run {
    let finished = async {
        loop {
            let run = store.run(&run.run_id).await.unwrap().unwrap();
            if run.state.is_finished() {
                return run;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, finished).await.expect("the run is finished")
}

/// A sealed run whose queue was lost with its process, and a new process with a broker and a consumer.
async fn lost_queue(fixture: &LoaderFixture) -> (LoaderProcess, Run) {
    let first = fixture.process(&["--wait-timeout", "0s"], 100, false).await;
    first.load().await.unwrap_err();
    drop(first);
    let next = fixture.process(&[], 100, true).await;
    let (run, _) = next.only_run().await;
    assert_eq!(run.state, RunState::Sealed);
    (next, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_missing_chunks_are_published() {
    let fixture = LoaderFixture::new(1_000);
    let (process, run) = lost_queue(&fixture).await;
    let store = &*process.dependencies.store;
    let all = RepairCounts {
        chunks_missing: 10,
        rows_missing: 1_000,
        is_published: true,
        sealed: SealedTotals { rows_read: 1_000, chunks_total: 10, amount: Some("1500".parse().unwrap()) },
    };
    assert_eq!(repaired(&process, &run, true).await.unwrap(), RepairCounts { is_published: false, ..all });
    assert_eq!(store.progress(&run.run_id).await.unwrap().chunks_recorded, 0, "a dry run publishes nothing");
    assert_eq!(repaired(&process, &run, false).await.unwrap(), all);
    let run = until_finished(store, &run).await;
    assert_eq!(run.state, RunState::Complete);
    assert!(store.tally(&run.run_id).await.unwrap().accounts_for(1_000));
    let nothing = RepairCounts { chunks_missing: 0, rows_missing: 0, ..all };
    assert_eq!(repaired(&process, &run, false).await.unwrap(), nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_loader_died_is_sealed_by_its_repair() {
    let fixture = LoaderFixture::new(3_000);
    let dead = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    dead.stopped_after(500).await;
    let (run, _) = dead.only_run().await;
    drop(dead);
    let next = fixture.process(&[], 100, true).await;
    let repaired = repaired(&next, &run, false).await.unwrap();
    assert!(repaired.chunks_missing < 30, "{repaired:?}");
    assert_eq!(repaired.sealed.rows_read, 3_000);
    let run = until_finished(&*next.dependencies.store, &run).await;
    assert_eq!(run.state, RunState::Complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_source_repairs_nothing() {
    let fixture = LoaderFixture::new(300);
    let (process, run) = lost_queue(&fixture).await;
    fixture.write("second and longer");
    let error = repaired(&process, &run, false).await.unwrap_err();
    assert!(matches!(error, LoadError::SourceReplaced { .. }), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::SourceUnreadable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_does_not_delay_a_shutdown() {
    let fixture = LoaderFixture::new(1_000);
    let (process, run) = lost_queue(&fixture).await;
    // From here on, every query fails and is retried.
    process.dependencies.store.close().await;
    for dry_run in [true, false] {
        let (options, shutdown) =
            (RepairOptions { row_batch_size: NonZeroUsize::new(70).unwrap(), dry_run }, CancellationToken::new());
        let progress = Arc::default();
        let repairing = repair(&process.dependencies, &run, &options, &progress, &shutdown);
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            shutdown.cancel();
        };
        let both = async { tokio::join!(repairing, stop).0 };
        let ended = tokio::time::timeout(TEST_TIMEOUT / 3, both).await.expect("it ends");
        assert!(ended.is_err(), "{ended:?}");
    }
}
