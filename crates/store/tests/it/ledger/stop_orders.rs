//! Orders to end a run early.

use std::time::Duration;

use assay_store::{
    ChunkOutcome, IdConflict, Lease, LeaseAttempt, LeaseRenewal, OperationRecord, RunStart, StopOutcome,
};
use assay_transaction::{Checkpoint, Position, RunState, SealedTotals, StopKind};

use crate::chunks::{LEASE, OWNER, audit_context, begin, chunk_of_ids, lease, new_run, run_id};
use crate::database::Database;

on_both! {
    an_order_is_given_once,
    a_sealed_run_ends_with_its_last_chunk,
    an_error_of_the_source_is_kept,
    a_finished_run_is_not_stopped,
    the_loader_seals_a_stopped_run,
    a_stopped_run_without_a_loader_is_sealed,
    only_a_stopped_run_without_a_loader_is_sealed,
    chunks_beyond_a_stopped_run_are_dropped,
    open_runs_name_their_lease_owners,
    an_order_concurrent_with_the_last_chunk,
}

async fn an_order_is_given_once(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    assert_eq!(store.renew_lease(&lease("a"), LEASE).await.unwrap(), LeaseRenewal::Kept(None));
    let StopOutcome::Ordered(run) =
        store.order_stop(&run_id("a"), StopKind::Cancelled, "wrong\0 file", &audit_context()).await.unwrap()
    else {
        panic!("it was loading")
    };
    let order = run.stop.clone().unwrap();
    let reason = order.reason.replace('\u{fffd}', "\0");
    assert_eq!((order.kind, reason.as_str()), (StopKind::Cancelled, "wrong\0 file"));
    assert!(order.at >= run.started_at);
    assert_eq!((run.state, &run.error), (RunState::Loading, &None));
    assert_eq!(store.renew_lease(&lease("a"), LEASE).await.unwrap(), LeaseRenewal::Kept(Some(order)));
    assert_eq!(store.run(&run_id("a")).await.unwrap().as_ref(), Some(&run));

    let again = store.order_stop(&run_id("a"), StopKind::Aborted, "other", &audit_context()).await.unwrap();
    assert_eq!(again, StopOutcome::AlreadyOrdered(run.clone()));
    // It keeps its source until it is sealed: the next loader finds it, and the order.
    let found = store.begin_run(&new_run("b", &run.source.location)).await.unwrap();
    assert_eq!(found, RunStart::Resumed(run, Lease { epoch: 2, ..lease("a") }));

    let operations = store.operations(None, 10).await.unwrap();
    let [OperationRecord { operator, action, run_id: of, reason, details: None, .. }] = &operations[..] else {
        panic!("{operations:?}")
    };
    assert_eq!((operator.as_str(), action.as_str(), of), ("ada", "cancel", &Some(run_id("a"))));
    assert_eq!(reason.as_deref(), Some("as agreed"));

    let error = store.order_stop(&run_id("unknown"), StopKind::Cancelled, "x", &audit_context()).await.unwrap_err();
    assert_eq!(error.exit(), assay_transaction::Exit::Usage);
    assert!(error.to_string().starts_with("run unknown is not in the ledger"), "{error}");
    assert_eq!(store.renew_lease(&lease("unknown"), LEASE).await.unwrap(), LeaseRenewal::Lost { by: None });
}

async fn a_sealed_run_ends_with_its_last_chunk(database: &Database) {
    let store = &*database.store;
    let kinds = [(StopKind::Cancelled, "cancel", RunState::Cancelled), (StopKind::Aborted, "abort", RunState::Failed)];
    for (number, (kind, action, end)) in (1..).zip(kinds) {
        let name = format!("run-{number}");
        let id = run_id(&name);
        let run = begin(store, &name).await;
        store.seal(&lease(&name), SealedTotals { rows_read: 2, chunks_total: 2, amount: None }, None).await.unwrap();
        store.write(&[chunk_of_ids(&name, 0, 1, &[10 * number])], IdConflict::Fail).await.unwrap();
        let StopOutcome::Ordered(stopped) = store.order_stop(&id, kind, "enough", &audit_context()).await.unwrap()
        else {
            panic!("it was sealed")
        };
        assert_eq!((stopped.state, stopped.error.as_deref()), (RunState::Sealed, Some("enough")));
        assert_eq!(store.operations(Some(&id), 10).await.unwrap()[0].action, action);
        let again = new_run(&format!("again-{number}"), &run.source.location);
        assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::Started(..)), "its source is free");
        assert_eq!(store.close_run(&id).await.unwrap(), RunState::Sealed);
        store.write(&[chunk_of_ids(&name, 1, 2, &[10 * number + 1])], IdConflict::Fail).await.unwrap();
        for _ in 0..2 {
            assert_eq!(store.close_run(&id).await.unwrap(), end);
        }
        let run = store.run(&id).await.unwrap().unwrap();
        assert_eq!((run.error.as_deref(), run.finished_at.is_some()), (Some("enough"), true));
        assert!(store.audit(&id).await.unwrap().unwrap().breaches().is_empty());
    }
}

async fn an_error_of_the_source_is_kept(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    store
        .seal(&lease("a"), SealedTotals { rows_read: 1, chunks_total: 1, amount: None }, Some("it changed"))
        .await
        .unwrap();
    store.order_stop(&run_id("a"), StopKind::Cancelled, "enough", &audit_context()).await.unwrap();
    store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&run_id("a")).await.unwrap(), RunState::Cancelled);
    assert_eq!(store.run(&run_id("a")).await.unwrap().unwrap().error.as_deref(), Some("it changed"));
}

async fn a_finished_run_is_not_stopped(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    assert_eq!(crate::chunks::finish(store, "a", 0, 0).await, RunState::Complete);
    let run = store.run(&run_id("a")).await.unwrap().unwrap();
    let stopping = store.order_stop(&run_id("a"), StopKind::Cancelled, "late", &audit_context()).await.unwrap();
    assert_eq!(stopping, StopOutcome::Finished(run.clone()));
    assert_eq!(store.run(&run_id("a")).await.unwrap(), Some(run));
    assert!(store.operations(None, 10).await.unwrap().is_empty());
}

async fn the_loader_seals_a_stopped_run(database: &Database) {
    let store = &*database.store;
    let cases = [("a", None, "enough"), ("b", Some("row 7: gone"), "row 7: gone")];
    for (number, (name, error, expected)) in (1..).zip(cases) {
        let id = run_id(name);
        let run = begin(store, name).await;
        store.order_stop(&id, StopKind::Cancelled, "enough", &audit_context()).await.unwrap();
        store.write(&[chunk_of_ids(name, 0, 1, &[number])], IdConflict::Fail).await.unwrap();
        let sealed = SealedTotals { rows_read: 1, chunks_total: 1, amount: None };
        for _ in 0..2 {
            store.seal(&lease(name), sealed, error).await.unwrap();
        }
        let begun = store.begin_run(&new_run(&format!("again-{name}"), &run.source.location)).await.unwrap();
        assert!(matches!(begun, RunStart::Started(..)), "{begun:?}");
        assert_eq!(store.seal_stopped(&id).await.unwrap(), RunState::Sealed, "it is not loading any more");
        assert_eq!(store.close_run(&id).await.unwrap(), RunState::Cancelled);
        let run = store.run(&id).await.unwrap().unwrap();
        assert_eq!((run.sealed, run.error.as_deref()), (Some(sealed), Some(expected)));
    }
}

async fn a_stopped_run_without_a_loader_is_sealed(database: &Database) {
    let store = &*database.store;
    let at = |chunk: u64, row| Checkpoint { chunk, ..Checkpoint::first(Position { row, line: row + 1, offset: 99 }) };
    // The checkpoint, the recorded chunks, and where the run ends.
    let cases = [
        (None, vec![], (0, 0), RunState::Cancelled),
        (Some(at(2, 4)), vec![(0, 1, 2), (1, 3, 1)], (3, 2), RunState::Cancelled),
        (Some(at(2, 4)), vec![], (3, 2), RunState::Sealed),
        (Some(at(1, 3)), vec![(0, 1, 2), (1, 3, 3), (2, 6, 1)], (6, 3), RunState::Cancelled),
        (Some(at(1, 3)), vec![(0, 1, 2), (2, 6, 1)], (6, 3), RunState::Sealed),
    ];
    for (number, (checkpoint, chunks, (rows_read, chunks_total), state)) in (1..).zip(cases) {
        let name = format!("run-{number}");
        let id = run_id(&name);
        let run = begin(store, &name).await;
        if let Some(checkpoint) = checkpoint {
            store.checkpoint(&lease(&name), checkpoint).await.unwrap();
        }
        for (chunk, first_row, rows) in chunks {
            let ids: Vec<u128> = (0..rows).map(|at| number * 100 + u128::from(first_row) + at).collect();
            store.write(&[chunk_of_ids(&name, chunk, first_row, &ids)], IdConflict::Fail).await.unwrap();
        }
        store.order_stop(&id, StopKind::Cancelled, "enough", &audit_context()).await.unwrap();
        assert_eq!(store.seal_stopped(&id).await.unwrap(), RunState::Loading, "its loader lives");
        // The loader releases its lease, lets it run out, or is known to be gone.
        match number % 3 {
            0 => store.release_lease(&lease(&name)).await.unwrap(),
            1 => assert!(matches!(
                store.renew_lease(&lease(&name), Duration::ZERO).await.unwrap(),
                LeaseRenewal::Kept(Some(_))
            )),
            _ => store.evict(&id, OWNER).await.unwrap(),
        }
        for _ in 0..2 {
            assert_eq!(store.seal_stopped(&id).await.unwrap(), state, "{name}");
        }
        let sealed = store.run(&id).await.unwrap().unwrap();
        let end = sealed.sealed.unwrap();
        assert_eq!((end.rows_read, end.chunks_total), (rows_read, chunks_total), "{name}");
        assert_eq!(sealed.error.as_deref(), Some("enough"));
        let again = new_run(&format!("again-{number}"), &run.source.location);
        assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::Started(..)));
        if state.is_finished() {
            assert!(store.audit(&id).await.unwrap().unwrap().breaches().is_empty());
        }
    }
}

async fn only_a_stopped_run_without_a_loader_is_sealed(database: &Database) {
    let store = &*database.store;
    let run = begin(store, "a").await;
    store.release_lease(&lease("a")).await.unwrap();
    assert_eq!(store.seal_stopped(&run_id("a")).await.unwrap(), RunState::Loading);
    assert_eq!(store.run(&run_id("a")).await.unwrap(), Some(run));
    assert_eq!(store.seal_stopped(&run_id("unknown")).await.unwrap(), RunState::Loading);
    let LeaseAttempt::Granted(_, lease) = store.take_lease(&run_id("a"), OWNER, LEASE).await.unwrap() else {
        panic!("free")
    };
    store.seal(&lease, SealedTotals { rows_read: 0, chunks_total: 0, amount: None }, None).await.unwrap();
    assert_eq!(store.close_run(&run_id("a")).await.unwrap(), RunState::Complete);
    assert_eq!(store.seal_stopped(&run_id("a")).await.unwrap(), RunState::Complete);
}

async fn chunks_beyond_a_stopped_run_are_dropped(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let first = chunk_of_ids("a", 0, 1, &[1, 2]);
    store.write(std::slice::from_ref(&first), IdConflict::Fail).await.unwrap();
    store.order_stop(&run_id("a"), StopKind::Aborted, "enough", &audit_context()).await.unwrap();
    // Until it is sealed, its end is unknown.
    let second = chunk_of_ids("a", 1, 3, &[3]);
    let written = store.write(std::slice::from_ref(&second), IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes, [ChunkOutcome::Recorded]);
    store.release_lease(&lease("a")).await.unwrap();
    assert_eq!(store.seal_stopped(&run_id("a")).await.unwrap(), RunState::Failed);
    let beyond = chunk_of_ids("a", 2, 4, &[4, 5]);
    begin(store, "other").await;
    let chunks = [beyond.clone(), first, chunk_of_ids("other", 2, 4, &[6]), beyond, second];
    let written = store.write(&chunks, IdConflict::Fail).await.unwrap();
    let expected = [
        ChunkOutcome::Dropped,
        ChunkOutcome::AlreadyRecorded,
        ChunkOutcome::Recorded,
        ChunkOutcome::Dropped,
        ChunkOutcome::AlreadyRecorded,
    ];
    assert_eq!((&written.outcomes[..], written.transactions), (&expected[..], 1));
    assert_eq!(database.count("SELECT count(*) FROM transactions WHERE run_id = 'a'").await, 3);
    assert!(store.audit(&run_id("a")).await.unwrap().unwrap().breaches().is_empty());
}

async fn open_runs_name_their_lease_owners(database: &Database) {
    let store = &*database.store;
    for name in ["a", "b", "c", "d", "e"] {
        begin(store, name).await;
    }
    store.seal(&lease("b"), SealedTotals { rows_read: 1, chunks_total: 1, amount: None }, None).await.unwrap();
    crate::chunks::finish(store, "c", 0, 0).await;
    store.release_lease(&lease("d")).await.unwrap();
    store.renew_lease(&lease("e"), Duration::ZERO).await.unwrap();
    let open = store.open_runs().await.unwrap();
    let found: Vec<_> =
        open.iter().map(|open| (open.run.run_id.as_str(), open.run.state, open.held_by.as_deref())).collect();
    let expected = [
        ("a", RunState::Loading, Some(OWNER)),
        ("b", RunState::Sealed, None),
        ("d", RunState::Loading, None),
        ("e", RunState::Loading, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(open[2].run, store.run(&run_id("d")).await.unwrap().unwrap());
}

async fn an_order_concurrent_with_the_last_chunk(database: &Database) {
    let other = database.another().await;
    for number in 0..10 {
        let name = format!("run-{number}");
        let id = run_id(&name);
        begin(&*database.store, &name).await;
        database
            .store
            .seal(&lease(&name), SealedTotals { rows_read: 1, chunks_total: 1, amount: None }, None)
            .await
            .unwrap();
        let last = async {
            database.store.write(&[chunk_of_ids(&name, 0, 1, &[number])], IdConflict::Fail).await.unwrap();
            database.store.close_run(&id).await.unwrap()
        };
        let audit = audit_context();
        let (state, stopping) = tokio::join!(last, other.order_stop(&id, StopKind::Cancelled, "enough", &audit));
        let expected = match stopping.unwrap() {
            StopOutcome::Ordered(_) => RunState::Cancelled,
            StopOutcome::Finished(_) => RunState::Complete,
            StopOutcome::AlreadyOrdered(run) => panic!("{run:?}"),
        };
        assert_eq!(state, expected);
        assert_eq!(database.store.run(&id).await.unwrap().unwrap().state, expected);
    }
}
