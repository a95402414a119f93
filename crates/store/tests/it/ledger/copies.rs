//! One content under several names: only one of its runs begins.

use std::time::Duration;

use assay_store::{NewRun, RunStart, connect, migrate};
use assay_transaction::{RunState, SealedTotals, StopKind};
use futures_util::future::join_all;

use crate::chunks::{audit_context, finish, lease, new_run, run_id};
use crate::database::{Database, STARTUP, empty_sqlite};

on_both! {
    a_copy_is_known_once_its_content_is_loaded,
    a_copy_waits_for_a_live_loader,
    failed_and_cancelled_runs_are_no_copies,
    a_forced_copy_begins,
    one_of_many_copies_begins,
}

/// A source of this name; all have the same content.
fn copy(name: &str) -> NewRun {
    NewRun { fingerprint: Some("sha256:ab".into()), ..new_run(name, &format!("/bank/{name}.csv")) }
}

async fn a_copy_is_known_once_its_content_is_loaded(database: &Database) {
    let store = &*database.store;
    assert_eq!(store.copy_of("sha256:ab").await.unwrap(), None);
    let RunStart::Started(..) = store.begin_run(&copy("a")).await.unwrap() else { panic!("no run has it") };
    let other = NewRun { fingerprint: Some("sha256:cd".into()), ..new_run("other", "/bank/other.csv") };
    assert!(matches!(store.begin_run(&other).await.unwrap(), RunStart::Started(..)));
    let unknown = NewRun { fingerprint: None, ..copy("unknown") };
    assert!(matches!(store.begin_run(&unknown).await.unwrap(), RunStart::Started(..)));
    let expected = [RunState::Sealed, RunState::Complete];
    store.seal(&lease("a"), SealedTotals { rows_read: 0, chunks_total: 0, amount: None }, None).await.unwrap();
    for state in expected {
        for begun in [store.copy_of("sha256:ab").await.unwrap(), Some(store.begin_run(&copy("b")).await.unwrap())] {
            let Some(RunStart::Copied(run)) = begun else { panic!("{begun:?}") };
            assert_eq!((run.run_id, run.state), (run_id("a"), state));
        }
        // A source is no copy of itself.
        let again = NewRun { run_id: run_id("again"), ..copy("a") };
        assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::AlreadyLoaded(_)));
        store.close_run(&run_id("a")).await.unwrap();
    }
    // The same name and bytes at another time.
    let mut touched = NewRun { run_id: run_id("touched"), ..copy("a") };
    touched.source.version = "etag-2".into();
    assert!(matches!(store.begin_run(&touched).await.unwrap(), RunStart::Copied(_)));
    assert_eq!(database.count("SELECT count(*) FROM runs").await, 3);
}

async fn a_copy_waits_for_a_live_loader(database: &Database) {
    let store = &*database.store;
    store.begin_run(&copy("a")).await.unwrap();
    let RunStart::Held { run, by, remaining } = store.begin_run(&copy("b")).await.unwrap() else { panic!("it lives") };
    assert_eq!((run.run_id, by), (run_id("a"), crate::chunks::OWNER.to_owned()));
    assert!(remaining > Duration::from_mins(50), "{remaining:?}");
    assert!(matches!(store.copy_of("sha256:ab").await.unwrap(), Some(RunStart::Held { .. })));
    // Its loader is gone: it may never end.
    store.release_lease(&lease("a")).await.unwrap();
    assert_eq!(store.copy_of("sha256:ab").await.unwrap(), None);
    assert!(matches!(store.begin_run(&copy("b")).await.unwrap(), RunStart::Started(..)));
    let expired = NewRun { lease: Duration::from_millis(1), ..copy("c") };
    store.release_lease(&lease("b")).await.unwrap();
    assert!(matches!(store.begin_run(&expired).await.unwrap(), RunStart::Started(..)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(matches!(store.begin_run(&copy("d")).await.unwrap(), RunStart::Started(..)));
}

async fn failed_and_cancelled_runs_are_no_copies(database: &Database) {
    let store = &*database.store;
    store.begin_run(&copy("failed")).await.unwrap();
    let end = SealedTotals { rows_read: 0, chunks_total: 0, amount: None };
    store.seal(&lease("failed"), end, Some("no row of it is valid")).await.unwrap();
    assert_eq!(store.copy_of("sha256:ab").await.unwrap(), None, "before it is closed");
    assert_eq!(store.close_run(&run_id("failed")).await.unwrap(), RunState::Failed);
    assert!(matches!(store.begin_run(&copy("cancelled")).await.unwrap(), RunStart::Started(..)));
    store.order_stop(&run_id("cancelled"), StopKind::Cancelled, "by mistake", &audit_context()).await.unwrap();
    assert_eq!(store.copy_of("sha256:ab").await.unwrap(), None, "while it still loads");
    store.seal(&lease("cancelled"), end, Some("by mistake")).await.unwrap();
    assert_eq!(store.close_run(&run_id("cancelled")).await.unwrap(), RunState::Cancelled);
    assert!(matches!(store.begin_run(&copy("next")).await.unwrap(), RunStart::Started(..)));
}

async fn a_forced_copy_begins(database: &Database) {
    let store = &*database.store;
    store.begin_run(&copy("a")).await.unwrap();
    assert_eq!(finish(store, "a", 0, 0).await, RunState::Complete);
    let forced = NewRun { force: true, ..copy("b") };
    assert!(matches!(store.begin_run(&forced).await.unwrap(), RunStart::Started(..)));
}

async fn one_of_many_copies_begins(database: &Database) {
    let other = database.another().await;
    let try_one = |number: usize| {
        let store = if number.is_multiple_of(2) { &database.store } else { &other };
        let mut new = copy(&format!("copy-{number}"));
        new.owner = format!("host/{number}");
        async move { store.begin_run(&new).await.unwrap() }
    };
    let begun = join_all((0..8).map(try_one)).await;
    let started = begun.iter().filter(|begun| matches!(begun, RunStart::Started(..))).count();
    let held = begun.iter().filter(|begun| matches!(begun, RunStart::Held { .. })).count();
    assert_eq!((started, held), (1, 7), "{begun:?}");
    assert_eq!(database.count("SELECT count(*) FROM runs").await, 1);
}

/// Concurrent programs without a database: one creates it, and each of them works.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_is_created_once_by_concurrent_programs() {
    for round in 0..10 {
        let (options, _place) = empty_sqlite();
        let options = &options;
        let one = |number: usize| async move {
            let migrated = migrate(options, STARTUP).await.unwrap();
            let store = connect(options, "test", STARTUP).await.unwrap();
            let name = format!("run-{number}");
            let begun = store.begin_run(&new_run(&name, &format!("/bank/{name}.csv"))).await.unwrap();
            assert!(matches!(begun, RunStart::Started(..)), "{begun:?}");
            assert_eq!(finish(&*store, &name, 0, 0).await, RunState::Complete);
            store.close().await;
            migrated.applied
        };
        let applied = join_all((0..6).map(one)).await;
        assert_eq!(applied.iter().filter(|applied| **applied > 0).count(), 1, "round {round}: {applied:?}");
    }
}
