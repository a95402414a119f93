//! Leases: which loader owns a run, and what the others learn.

use std::time::Duration;

use assay_store::{ErrorClass, Lease, LeaseAttempt, LeaseRenewal, NewRun, RunStart, StoreError};
use assay_transaction::{Checkpoint, Exit, Position, RunState, SealedTotals};
use futures_util::future::join_all;

use crate::chunks::{LEASE, OWNER, begin, lease, new_run, run_id};
use crate::database::{Database, STARTUP};

on_both! {
    a_second_loader_learns_the_owner,
    an_expired_lease_is_free,
    a_paused_loader_changes_nothing,
    a_released_lease_is_free_at_once,
    an_owner_that_asks_again_gets_a_new_lease,
    one_of_many_takes_a_run_over,
    a_sealed_run_has_no_owner,
}

const OTHER: &str = "host/2/bob";
const SEALED: SealedTotals = SealedTotals { rows_read: 2, chunks_total: 1, amount: None };

fn by_other(name: &str) -> NewRun {
    NewRun { owner: OTHER.into(), ..new_run("other", &format!("s3://bank/{name}.csv")) }
}

fn at(chunk: u64) -> Checkpoint {
    Checkpoint { chunk, ..Checkpoint::first(Position { row: chunk + 1, line: chunk + 2, offset: chunk * 10 }) }
}

/// The whole row, as it is stored.
async fn stored(database: &Database) -> Vec<String> {
    database
        .texts(
            "SELECT run_id || state || checkpoint_chunk || coalesce(lease_holder, '-') || lease_epoch || \
             coalesce(CAST(lease_until AS text), '-') || coalesce(CAST(rows_read AS text), '-') || coalesce(error, '-') \
             FROM runs ORDER BY run_id",
        )
        .await
}

/// Takes a run over once its lease has run out.
async fn take_over(database: &Database, name: &str) -> Lease {
    let store = &*database.store;
    let taken = async {
        loop {
            match store.take_lease(&run_id(name), OTHER, LEASE).await.unwrap() {
                LeaseAttempt::Granted(_, lease) => return lease,
                LeaseAttempt::Held { remaining, .. } => tokio::time::sleep(remaining).await,
                LeaseAttempt::NotLoading(run) => panic!("{run:?}"),
            }
        }
    };
    tokio::time::timeout(STARTUP, taken).await.expect("a lease runs out")
}

async fn a_second_loader_learns_the_owner(database: &Database) {
    let store = &*database.store;
    let run = begin(store, "a").await;
    let before = stored(database).await;
    for _ in 0..2 {
        let RunStart::Held { run: held, by, remaining } = store.begin_run(&by_other("a")).await.unwrap() else {
            panic!("it is held")
        };
        assert_eq!((&held, by.as_str()), (&run, OWNER));
        assert!(remaining <= LEASE && remaining > LEASE / 2, "{remaining:?}");
        let taken = store.take_lease(&run_id("a"), OTHER, LEASE).await.unwrap();
        assert!(matches!(taken, LeaseAttempt::Held { run: held, by, .. } if held == run && by == OWNER));
    }
    assert_eq!(stored(database).await, before, "asking changes nothing");
    let error = store.take_lease(&run_id("unknown"), OTHER, LEASE).await.unwrap_err();
    assert!(error.to_string().starts_with("run unknown is not in the ledger"), "{error}");
}

async fn an_expired_lease_is_free(database: &Database) {
    let store = &*database.store;
    let run = begin(store, "a").await;
    store.checkpoint(&lease("a"), at(3)).await.unwrap();
    let short = Duration::from_millis(300);
    assert_eq!(store.renew_lease(&lease("a"), short).await.unwrap(), LeaseRenewal::Kept(None));
    let LeaseAttempt::Held { remaining, .. } = store.take_lease(&run_id("a"), OTHER, LEASE).await.unwrap() else {
        panic!("it is held for so long")
    };
    assert!(remaining <= short, "{remaining:?}");
    assert_eq!(take_over(database, "a").await, Lease { run_id: run.run_id, owner: OTHER.into(), epoch: 2 });

    // An expired lease that no other loader took can still be renewed.
    begin(store, "b").await;
    assert_eq!(store.renew_lease(&lease("b"), Duration::ZERO).await.unwrap(), LeaseRenewal::Kept(None));
    store.checkpoint(&lease("b"), at(3)).await.unwrap();
    assert_eq!(store.renew_lease(&lease("b"), LEASE).await.unwrap(), LeaseRenewal::Kept(None));
    assert!(matches!(store.begin_run(&by_other("b")).await.unwrap(), RunStart::Held { .. }));
    assert_eq!(store.renew_lease(&lease("b"), Duration::ZERO).await.unwrap(), LeaseRenewal::Kept(None));
    let RunStart::Resumed(run, granted) = store.begin_run(&by_other("b")).await.unwrap() else { panic!("it is free") };
    assert_eq!((run.checkpoint, granted), (at(3), Lease { owner: OTHER.into(), epoch: 2, ..lease("b") }));
}

#[track_caller]
fn is_lost<T: std::fmt::Debug>(result: Result<T, StoreError>, by: &str) {
    let error = result.unwrap_err();
    assert!(error.is_lease_lost() && !error.is_transient() && error.class() == ErrorClass::LeaseLost);
    assert_eq!(
        (error.to_string(), error.exit()),
        (format!("run a has been taken over{by}"), Exit::DependencyUnavailable)
    );
}

async fn a_paused_loader_changes_nothing(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let paused = lease("a");
    store.checkpoint(&paused, at(3)).await.unwrap();
    store.renew_lease(&paused, Duration::ZERO).await.unwrap();
    let next = take_over(database, "a").await;
    store.checkpoint(&next, at(5)).await.unwrap();
    let before = stored(database).await;
    for checkpoint in [at(2), at(4), at(5), at(9)] {
        is_lost(store.checkpoint(&paused, checkpoint).await, " by host/2/bob");
    }
    for error in [None, Some("it broke off")] {
        is_lost(store.seal(&paused, SEALED, error).await, " by host/2/bob");
    }
    assert_eq!(store.renew_lease(&paused, LEASE).await.unwrap(), LeaseRenewal::Lost { by: Some(OTHER.into()) });
    store.release_lease(&paused).await.unwrap();
    store.evict(&run_id("a"), OWNER).await.unwrap();
    assert_eq!(stored(database).await, before);

    store.seal(&next, SEALED, None).await.unwrap();
    let before = stored(database).await;
    is_lost(store.checkpoint(&paused, at(9)).await, "");
    is_lost(store.seal(&paused, SealedTotals { rows_read: 9, ..SEALED }, None).await, "");
    // It has read the same rows: there is no error.
    store.seal(&paused, SEALED, None).await.unwrap();
    assert_eq!(store.renew_lease(&paused, LEASE).await.unwrap(), LeaseRenewal::Lost { by: None });
    assert_eq!(stored(database).await, before);
}

async fn a_released_lease_is_free_at_once(database: &Database) {
    let store = &*database.store;
    for (number, by_force) in [(1, false), (2, true)] {
        let name = format!("run-{number}");
        begin(store, &name).await;
        if by_force {
            store.evict(&run_id(&name), "host/3/somebody else").await.unwrap();
            assert!(matches!(store.begin_run(&by_other(&name)).await.unwrap(), RunStart::Held { .. }));
            store.evict(&run_id(&name), OWNER).await.unwrap();
        } else {
            store.release_lease(&lease(&name)).await.unwrap();
        }
        // Without the lease nothing is written, even if the run has no owner.
        assert!(store.checkpoint(&lease(&name), at(1)).await.unwrap_err().is_lease_lost());
        assert!(store.seal(&lease(&name), SEALED, None).await.unwrap_err().is_lease_lost());
        let begun = store.begin_run(&by_other(&name)).await.unwrap();
        assert!(
            matches!(begun, RunStart::Resumed(run, lease) if run.checkpoint == Checkpoint::START && lease.epoch == 2)
        );
    }
}

async fn an_owner_that_asks_again_gets_a_new_lease(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let RunStart::Resumed(_, second) = store.begin_run(&new_run("b", "s3://bank/a.csv")).await.unwrap() else {
        panic!("it is the owner's own")
    };
    assert_eq!(second, Lease { epoch: 2, ..lease("a") });
    is_lost(store.checkpoint(&lease("a"), at(1)).await, &format!(" by {OWNER}"));
    store.checkpoint(&second, at(1)).await.unwrap();
}

async fn one_of_many_takes_a_run_over(database: &Database) {
    let other = database.another().await;
    begin(&*database.store, "a").await;
    database.store.release_lease(&lease("a")).await.unwrap();
    let try_one = |number: usize| {
        let store = if number.is_multiple_of(2) { &database.store } else { &other };
        async move { store.take_lease(&run_id("a"), &format!("host/{number}/x"), LEASE).await.unwrap() }
    };
    let taken = join_all((0..8).map(try_one)).await;
    let granted: Vec<_> = taken
        .iter()
        .filter_map(|taken| match taken {
            LeaseAttempt::Granted(_, lease) => Some(lease),
            _ => None,
        })
        .collect();
    let [winner] = granted[..] else { panic!("{granted:?}") };
    assert_eq!(winner.epoch, 2);
    for held in taken.iter().filter(|taken| !matches!(taken, LeaseAttempt::Granted(..))) {
        assert!(matches!(held, LeaseAttempt::Held { by, .. } if *by == winner.owner), "{held:?}");
    }
}

async fn a_sealed_run_has_no_owner(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    for _ in 0..2 {
        store.seal(&lease("a"), SEALED, None).await.unwrap();
    }
    // A checkpoint after the seal changes nothing.
    store.checkpoint(&lease("a"), at(1)).await.unwrap();
    let LeaseAttempt::NotLoading(run) = store.take_lease(&run_id("a"), OTHER, LEASE).await.unwrap() else {
        panic!("it is sealed")
    };
    assert_eq!((run.state, run.checkpoint), (RunState::Sealed, Checkpoint::START));
    assert!(matches!(store.begin_run(&by_other("a")).await.unwrap(), RunStart::AlreadyLoaded(_)));
    assert_eq!(database.count("SELECT count(*) FROM runs WHERE lease_holder IS NOT NULL").await, 0);
}
