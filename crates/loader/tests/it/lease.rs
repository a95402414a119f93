//! Loaders that compete for a run: one holds the lease, the others wait; a loader that has lost it stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_loader::{LoadError, RepairOptions, repair};
use assay_store::{Lease, LeaseAttempt};
use assay_transaction::{Exit, RunState};
use tokio_util::sync::CancellationToken;

use crate::fixture::{LEASE, LoaderFixture, LoaderProcess};

/// A loader of another machine.
const OTHER: &str = "elsewhere/1/2/other";

async fn take(process: &LoaderProcess, time: Duration) -> Lease {
    let (run, _) = process.only_run().await;
    match process.dependencies.store.take_lease(&run.run_id, OTHER, time).await.unwrap() {
        LeaseAttempt::Granted(_, lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_waits_until_the_lease_of_another_has_expired() {
    const TIME: Duration = Duration::from_millis(1_500);
    let fixture = LoaderFixture::new(3_000);
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    process.stopped_after(500).await;
    let taken = Instant::now();
    take(&process, TIME).await;
    let ended = process.load().await.unwrap();
    assert!(taken.elapsed() >= TIME, "it began after {:?}", taken.elapsed());
    assert_eq!((ended.run.state, ended.already_loaded), (RunState::Complete, false));
    assert!(ended.tally.unwrap().accounts_for(3_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_waits_can_be_stopped_and_a_repair_does_not_wait() {
    let fixture = LoaderFixture::new(3_000);
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    process.stopped_after(500).await;
    take(&process, LEASE).await;
    let (run, _) = process.only_run().await;
    let shutdown = CancellationToken::new();
    let progress = Arc::default();
    let (error, ()) = tokio::join!(process.load_with(&progress, &shutdown), async { shutdown.cancel() });
    assert!(matches!(error, Err(LoadError::StoppedBeforeStart)), "{error:?}");
    let options = RepairOptions { row_batch_size: 100.try_into().unwrap(), dry_run: false };
    let repaired = repair(&process.dependencies, &run, &options, &progress, &CancellationToken::new()).await;
    let error = repaired.unwrap_err();
    assert!(matches!(&error, LoadError::Held { by, .. } if by == OTHER), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::DependencyUnavailable);
    let (unchanged, _) = process.only_run().await;
    assert_eq!(unchanged, run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_has_lost_its_run_leaves_it_alone() {
    let fixture = LoaderFixture::new(60_000);
    // A short queue, so that the loader cannot finish before it notices.
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    let store = &process.dependencies.store;
    let mut taken = None;
    let take_it = async || {
        let (run, _) = process.only_run().await;
        store.evict(&run.run_id, &process.dependencies.lease_owner.to_string()).await.unwrap();
        taken = Some(take(&process, LEASE).await);
    };
    let error = process.load_and(500, take_it).await.unwrap_err();
    // It may notice that it was evicted before the other has taken the run.
    let LoadError::TakenOver { by, .. } = &error else { panic!("{error}") };
    assert!(by.as_deref().is_none_or(|by| by == OTHER), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::DependencyUnavailable);
    let open = store.open_runs().await.unwrap();
    assert_eq!((open[0].run.state, open[0].held_by.as_deref()), (RunState::Loading, Some(OTHER)));

    store.release_lease(&taken.unwrap()).await.unwrap();
    let ended = process.load().await.unwrap();
    assert_eq!(ended.run.run_id, open[0].run.run_id);
    assert!(ended.tally.unwrap().accounts_for(60_000));
}
