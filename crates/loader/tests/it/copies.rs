//! Sources with the same content as an earlier run, under another name or at another time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use assay_loader::{LoadError, LoadSummary, run_many};
use assay_source::SourceUrl;
use assay_store::{AuditContext, RemovalStep, RunStart};
use assay_transaction::RunState;
use tokio_util::sync::CancellationToken;

use crate::fixture::{LEASE, LoaderFixture, LoaderProcess};

/// A process that is to load a copy of the fixture's file.
async fn copying(fixture: &LoaderFixture, name: &str, arguments: &[&str]) -> LoaderProcess {
    let path = fixture.folder.path().join(name);
    std::fs::copy(fixture.file(), &path).unwrap();
    let mut process = fixture.process(arguments, 100, true).await;
    process.url = SourceUrl::File(path);
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_recognised_with_any_settings() {
    let fixture = LoaderFixture::new(300);
    let first = fixture.process(&[], 100, true).await.load().await.unwrap();
    for arguments in [
        &[][..],
        &["--id-namespace=other", "--time-zone=Europe/Paris"],
        // With these settings, no row could be read.
        &["--delimiter=pipe"],
        &["--trailer=END;{rows}"],
    ] {
        let process = copying(&fixture, "copy.csv", arguments).await;
        let ended = process.load().await.unwrap();
        assert_eq!((ended.run.run_id, ended.already_loaded), (first.run.run_id.clone(), true), "{arguments:?}");
        assert_eq!(ended.copy, Some(process.url.to_string()));
    }
    // The same name, at another time.
    let file = std::fs::File::options().write(true).open(fixture.file()).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
    let process = fixture.process(&[], 100, true).await;
    assert!(process.load().await.unwrap().already_loaded);
    assert_eq!(process.only_run().await.0.run_id, first.run.run_id);

    let forced = copying(&fixture, "copy.csv", &["--force"]).await.load().await.unwrap();
    assert_eq!((forced.already_loaded, forced.copy), (false, None));
    fixture.write("second");
    assert!(!fixture.process(&[], 100, true).await.load().await.unwrap().already_loaded, "it is no copy of any");
}

/// Removes a run.
async fn remove(process: &LoaderProcess, ended: &LoadSummary) {
    let (store, run_id) = (&process.dependencies.store, &ended.run.run_id);
    store.begin_removal(run_id, &AuditContext { operator: "test".to_owned(), reason: None }).await.unwrap();
    let mut next = Some(RemovalStep::Start);
    while let Some(step) = next {
        next = store.removal_step(run_id, &step).await.unwrap().1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_run_was_removed_is_a_copy_of_what_was_loaded_since() {
    let fixture = LoaderFixture::new(30);
    let process = fixture.process(&[], 100, true).await;
    let first = process.load().await.unwrap();
    remove(&process, &first).await;
    let copy = copying(&fixture, "copy.csv", &[]).await.load().await.unwrap();
    assert!(!copy.already_loaded, "nothing of it is there any more");
    let ended = fixture.process(&[], 100, true).await.load().await.unwrap();
    assert_eq!((ended.run.run_id, ended.already_loaded), (copy.run.run_id, true));
}

/// The files of all days are equal, as they contain no date.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_values_distinguish_copies() {
    let fixture = LoaderFixture::new(30);
    let mapping = fixture.folder.path().join("m.toml");
    std::fs::write(&mapping, "timestamp = { template = \"{path:day} 10:00:00\" }\n").unwrap();
    let by_path = format!("--mapping={}", mapping.display());
    for day in ["2026-01-11", "2026-01-12"] {
        std::fs::create_dir(fixture.folder.path().join(format!("day={day}"))).unwrap();
        let name = format!("day={day}/part-0.csv");
        let ended = copying(&fixture, &name, &[&by_path]).await.load().await.unwrap();
        assert!(!ended.already_loaded, "{day}");
    }
    // In the same folder it is a copy; without such a folder, the load fails.
    let again = copying(&fixture, "day=2026-01-12/part-0 (1).csv", &[&by_path]).await.load().await.unwrap();
    assert!(again.already_loaded && again.copy.is_some());
    let error = copying(&fixture, "elsewhere.csv", &[&by_path]).await.load().await.unwrap_err();
    assert!(error.to_string().contains("`day`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_simultaneous_copies_is_loaded() {
    let fixture = LoaderFixture::new(20_000);
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    let names = ["a.csv", "b.csv", "c.csv", "d.csv"];
    let urls = names.map(|name| {
        let path = fixture.folder.path().join(name);
        std::fs::copy(fixture.file(), &path).unwrap();
        SourceUrl::File(path)
    });
    let (options, at_a_time) = (&process.options, NonZeroUsize::new(3).unwrap());
    let (progress, never) = (Arc::default(), CancellationToken::new());
    let loading =
        run_many(&process.dependencies, urls.into(), &options.load, &options.wait, at_a_time, &progress, &never);
    let ended: Vec<LoadSummary> = loading.await.into_iter().map(|source| source.ended.unwrap()).collect();
    let loaded: Vec<bool> = ended.iter().map(|ended| !ended.already_loaded).collect();
    assert_eq!(loaded.iter().filter(|is_loaded| **is_loaded).count(), 1, "{loaded:?}");
    assert!(ended.iter().all(|ended| ended.run.state == RunState::Complete));
    let (run, tally) = process.only_run().await;
    assert!(tally.accounts_for(20_000) && run.error.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_failed_run_is_loaded() {
    let fixture = LoaderFixture::new(300);
    let error = fixture.process(&["--expect-rows=301"], 100, true).await.load().await.unwrap_err();
    assert!(matches!(error, LoadError::ControlTotals(_)), "{error}");
    let ended = copying(&fixture, "copy.csv", &[]).await.load().await.unwrap();
    assert_eq!((ended.already_loaded, ended.run.state), (false, RunState::Complete));
}

/// A sealed run whose chunks were lost with their process can be completed only from its own source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_does_not_wait_for_lost_chunks() {
    let fixture = LoaderFixture::new(300);
    let lost = fixture.process(&["--wait-timeout", "0s"], 100, false).await;
    lost.load().await.unwrap_err();
    drop(lost);
    let mut process = copying(&fixture, "copy.csv", &[]).await;
    process.dependencies.lease_timeout = Duration::from_millis(300);
    let error = process.load().await.unwrap_err();
    let LoadError::CopyUnfinished { location, .. } = &error else { panic!("{error}") };
    assert_eq!(location, &fixture.file().display().to_string());
    assert!(error.to_string().contains("--force"), "{error}");
    process.url = SourceUrl::File(fixture.file());
    process.dependencies.lease_timeout = LEASE;
    assert_eq!(process.load().await.unwrap().run.state, RunState::Complete);
    let again = copying(&fixture, "copy.csv", &[]).await.load().await.unwrap();
    assert!(again.already_loaded && again.tally.is_none());
}

/// A loader of another machine holds the copy, and then dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_waits_for_a_copy_in_progress() {
    const TIME: Duration = Duration::from_millis(1_500);
    let fixture = LoaderFixture::new(3_000);
    let process = fixture.process(&["--row-batch-size", "100"], 2, true).await;
    process.stopped_after(500).await;
    let (run, _) = process.only_run().await;
    process.dependencies.store.take_lease(&run.run_id, "elsewhere/1/2/other", TIME).await.unwrap();
    let taken = std::time::Instant::now();
    let ended = copying(&fixture, "copy.csv", &[]).await.load().await.unwrap();
    assert!(taken.elapsed() >= TIME, "it began after {:?}", taken.elapsed());
    assert!(!ended.already_loaded && ended.run.run_id != run.run_id, "it may never have come to its end");
    let found = process.dependencies.store.copy_of("sha256:none").await.unwrap();
    assert!(!matches!(found, Some(RunStart::Copied(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_keeps_its_namespace_unless_another_is_named() {
    let fixture = LoaderFixture::new(10);
    let mut namespaces = Vec::new();
    for arguments in [&["--id-namespace=bank"][..], &[], &["--id-namespace=other"], &[]] {
        fixture.write(&format!("version {}", namespaces.len()));
        let ended = fixture.process(arguments, 100, true).await.load().await.unwrap();
        namespaces.push(ended.run.settings.namespace);
    }
    assert_eq!((namespaces[0], namespaces[2]), (namespaces[1], namespaces[3]));
    assert_ne!(namespaces[0], namespaces[2]);
}
