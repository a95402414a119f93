//! The ledger of runs.

use assay_store::{
    ChunkOutcome, IdConflict, Lease, NewRun, RecordedProgress, RunStart, SealOutcome, SourceState, Store,
};
use assay_transaction::{Checkpoint, CheckpointCounts, Position, RunState, SealedTotals, SourceIdentity};
use futures_util::future::join_all;

use crate::chunks::{begin, chunk_of_ids, finish, lease, new_run, run_id};
use crate::database::Database;

on_both! {
    a_run_begins_resumes_and_ends,
    another_version_is_another_run,
    force_begins_a_new_run,
    a_chosen_id_belongs_to_one_source,
    one_of_many_concurrent_loaders_starts,
    a_checkpoint_never_moves_back,
    a_run_closes_once_all_its_chunks_are_recorded,
    the_writer_of_the_last_chunk_closes_the_run,
    the_first_seal_counts,
    a_run_is_not_sealed_below_its_chunks,
    nothing_is_recorded_beyond_the_end,
    a_failed_source_can_be_loaded_again,
    a_long_location_works,
    an_empty_source_is_complete_at_once,
    recorded_chunks_come_in_order,
    a_run_of_a_newer_version_is_skipped,
    sources_without_a_run_are_found,
    unread_sources_are_found,
    a_remembered_gap_may_change,
    rows_of_a_run_that_never_began_are_refused,
}

async fn a_run_begins_resumes_and_ends(database: &Database) {
    let store = &*database.store;
    let mut new = new_run("first", "s3://bank/a.csv");
    new.settings.ids = store.ids();
    let RunStart::Started(run, lease) = store.begin_run(&new).await.unwrap() else { panic!("it is new") };
    assert_eq!((&run.run_id, &run.source, run.state), (&new.run_id, &new.source, RunState::Loading));
    assert_eq!((run.settings.clone(), run.checkpoint, run.sealed), (new.settings.clone(), Checkpoint::START, None));
    assert_eq!(store.run(&new.run_id).await.unwrap(), Some(run.clone()));
    assert_eq!(store.run(&run_id("unknown")).await.unwrap(), None);

    let mut again = NewRun { run_id: run_id("second"), ..new.clone() };
    again.settings.chunk_rows = 7.try_into().unwrap();
    let next = Lease { epoch: 2, ..lease };
    assert_eq!(
        store.begin_run(&again).await.unwrap(),
        RunStart::Resumed(run, next.clone()),
        "the frozen settings hold"
    );

    let sealed = SealedTotals { rows_read: 0, chunks_total: 1, amount: None };
    store.seal(&next, sealed, None).await.unwrap();
    let RunStart::AlreadyLoaded(run) = store.begin_run(&again).await.unwrap() else { panic!("it was read to its end") };
    assert_eq!((run.run_id, run.state, run.sealed), (new.run_id, RunState::Sealed, Some(sealed)));
}

async fn another_version_is_another_run(database: &Database) {
    begin(&*database.store, "a").await;
    let mut newer = new_run("b", "s3://bank/a.csv");
    newer.source.version = "etag-2".into();
    assert!(matches!(database.store.begin_run(&newer).await.unwrap(), RunStart::Started(..)));
}

async fn force_begins_a_new_run(database: &Database) {
    let store = &*database.store;
    let first = begin(store, "a").await;
    let forced = NewRun { force: true, ..new_run("b", &first.source.location) };
    assert!(matches!(store.begin_run(&forced).await.unwrap(), RunStart::Started(..)));
    let third = new_run("c", &first.source.location);
    let found = store.begin_run(&third).await.unwrap();
    assert!(matches!(found, RunStart::Resumed(run, _) if run == first), "the natural key stays with the first");
    let resumed = NewRun { explicit_id: true, ..forced };
    assert!(matches!(store.begin_run(&resumed).await.unwrap(), RunStart::Resumed(..)), "by its name it can be resumed");
    store
        .seal(&Lease { epoch: 2, ..lease("b") }, SealedTotals { rows_read: 0, chunks_total: 0, amount: None }, None)
        .await
        .unwrap();
    assert_eq!(store.close_run(&run_id("b")).await.unwrap(), RunState::Complete);
    let error = store.begin_run(&resumed).await.unwrap_err().to_string();
    assert!(error.contains("run b is complete") && error.contains("BATCH_RUN_ID"), "{error}");
}

async fn a_chosen_id_belongs_to_one_source(database: &Database) {
    let store = &*database.store;
    let nightly = NewRun { explicit_id: true, ..new_run("nightly", "s3://bank/a.csv") };
    store.begin_run(&nightly).await.unwrap();
    let other = NewRun { explicit_id: true, ..new_run("nightly", "s3://bank/b.csv") };
    let error = store.begin_run(&other).await.unwrap_err();
    assert_eq!(error.exit(), assay_transaction::Exit::Usage);
    for part in ["nightly", "s3://bank/a.csv", "BATCH_RUN_ID"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let generated = NewRun { explicit_id: false, ..other };
    assert!(store.begin_run(&generated).await.unwrap_err().is_transient(), "another name will do");
}

async fn one_of_many_concurrent_loaders_starts(database: &Database) {
    let other = database.another().await;
    let try_one = |number: usize| {
        let store = if number.is_multiple_of(2) { &database.store } else { &other };
        async move { store.begin_run(&new_run(&format!("run-{number}"), "s3://bank/a.csv")).await.unwrap() }
    };
    let begun = join_all((0..8).map(try_one)).await;
    let started = begun.iter().filter(|begun| matches!(begun, RunStart::Started(..))).count();
    let resumed = begun.iter().filter(|begun| matches!(begun, RunStart::Resumed(..))).count();
    assert_eq!((started, resumed), (1, 7));
    assert_eq!(database.count("SELECT count(*) FROM runs").await, 1);
}

async fn a_checkpoint_never_moves_back(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let at = |chunk| Checkpoint {
        chunk,
        at: Position { row: chunk * 100 + 1, line: chunk * 101 + 2, offset: chunk * 5_000_000_000 },
        counted: CheckpointCounts {
            invalid: chunk,
            amount: format!("-{chunk}000000000000000000000.0001").parse().unwrap(),
            other_reading: chunk + 1,
        },
    };
    for (given, expected) in [(3, 3), (2, 3), (3, 3), (7, 7)] {
        store.checkpoint(&lease("a"), at(given)).await.unwrap();
        assert_eq!(store.run(&run_id("a")).await.unwrap().unwrap().checkpoint, at(expected));
    }
}

async fn a_run_closes_once_all_its_chunks_are_recorded(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    assert_eq!(store.close_run(&a).await.unwrap(), RunState::Loading);
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 2, 5, &[5])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&a).await.unwrap(), RunState::Loading);
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    store.seal(&lease("a"), SealedTotals { rows_read: 5, chunks_total: 3, amount: None }, None).await.unwrap();
    assert_eq!(store.close_run(&a).await.unwrap(), RunState::Sealed);
    let open = store.open_runs().await.unwrap();
    assert_eq!((open.len(), &open[0].run.run_id, &open[0].held_by), (1, &a, &None));
    store.write(&[chunk_of_ids("a", 1, 3, &[3, 4])], IdConflict::Fail).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.close_run(&a).await.unwrap(), RunState::Complete);
    }
    let run = store.run(&a).await.unwrap().unwrap();
    assert!(run.state == RunState::Complete && run.finished_at.unwrap() >= run.started_at && run.error.is_none());
    assert!(store.open_runs().await.unwrap().is_empty());
}

async fn the_writer_of_the_last_chunk_closes_the_run(database: &Database) {
    const CHUNKS: u64 = 12;
    let other = database.another().await;
    begin(&*database.store, "a").await;
    let part = |number: u64| {
        let store = if number.is_multiple_of(2) { &database.store } else { &other };
        async move {
            if number == CHUNKS {
                let sealed = SealedTotals { rows_read: CHUNKS, chunks_total: CHUNKS, amount: None };
                store.seal(&lease("a"), sealed, None).await.unwrap();
            } else {
                let chunk = chunk_of_ids("a", number, number + 1, &[u128::from(number)]);
                store.write(&[chunk], IdConflict::Fail).await.unwrap();
            }
            store.close_run(&run_id("a")).await.unwrap()
        }
    };
    let states = join_all((0..=CHUNKS).rev().map(part)).await;
    assert!(states.contains(&RunState::Complete), "no call closed it: {states:?}");
}

async fn the_first_seal_counts(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let sealed = SealedTotals { rows_read: 2, chunks_total: 1, amount: None };
    store.seal(&lease("a"), sealed, None).await.unwrap();
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    for state in [RunState::Sealed, RunState::Complete] {
        assert_eq!(store.seal(&lease("a"), sealed, None).await.unwrap(), SealOutcome::Done);
        for other in [SealedTotals { rows_read: 1, ..sealed }, SealedTotals { chunks_total: 2, ..sealed }] {
            let reason = "run a was sealed at 2 rows in 1 chunks by another loader".to_owned();
            let sealing = store.seal(&lease("a"), other, Some("lost")).await.unwrap();
            assert_eq!(sealing, SealOutcome::Elsewhere { reason });
        }
        let run = store.run(&run_id("a")).await.unwrap().unwrap();
        assert_eq!((run.sealed, run.error, run.state), (Some(sealed), None, state));
        store.close_run(&run_id("a")).await.unwrap();
    }
    assert!(store.seal(&lease("unknown"), sealed, None).await.is_err());
}

async fn a_run_is_not_sealed_below_its_chunks(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2]), chunk_of_ids("a", 2, 5, &[5, 6])], IdConflict::Fail).await.unwrap();
    for (rows_read, chunks_total) in [(9, 2), (2, 1), (5, 3)] {
        let sealed = SealedTotals { rows_read, chunks_total, amount: None };
        let reason = format!(
            "run a cannot be sealed: chunk a/2 lies beyond the end of its run: {rows_read} rows in {chunks_total} chunks"
        );
        assert_eq!(store.seal(&lease("a"), sealed, None).await.unwrap(), SealOutcome::RecordedBeyond { reason });
        assert_eq!(store.run(&run_id("a")).await.unwrap().unwrap().state, RunState::Loading);
    }
    store.seal(&lease("a"), SealedTotals { rows_read: 6, chunks_total: 3, amount: None }, None).await.unwrap();
}

async fn nothing_is_recorded_beyond_the_end(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let first = chunk_of_ids("a", 0, 1, &[1, 2]);
    store.write(std::slice::from_ref(&first), IdConflict::Fail).await.unwrap();
    store.seal(&lease("a"), SealedTotals { rows_read: 3, chunks_total: 2, amount: None }, None).await.unwrap();
    let last = chunk_of_ids("a", 1, 3, &[3]);
    begin(store, "other").await;
    for state in [RunState::Sealed, RunState::Complete] {
        let beyond = [chunk_of_ids("a", 2, 4, &[14]), chunk_of_ids("a", 7, 9, &[15])];
        let mut chunks = vec![first.clone(), chunk_of_ids("other", 7, 9, &[100])];
        chunks.extend(beyond);
        if state == RunState::Sealed {
            chunks.push(chunk_of_ids("a", 1, 3, &[3, 16]));
        }
        let outcomes = store.write(&chunks, IdConflict::Fail).await.unwrap().outcomes;
        assert_eq!(outcomes[0], ChunkOutcome::AlreadyRecorded);
        assert!(!matches!(outcomes[1], ChunkOutcome::Refused { .. }), "a run that is loading has no end");
        for (chunk, outcome) in chunks.iter().zip(&outcomes).skip(2) {
            let id = &chunk.id;
            let expected = format!("chunk {id} lies beyond the end of its run: 3 rows in 2 chunks");
            assert_eq!(*outcome, ChunkOutcome::Refused { reason: expected });
        }
        store.write(std::slice::from_ref(&last), IdConflict::Fail).await.unwrap();
        assert_eq!(store.close_run(&run_id("a")).await.unwrap(), RunState::Complete);
        assert!(store.tally(&run_id("a")).await.unwrap().accounts_for(3));
    }
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 4);
}

async fn a_failed_source_can_be_loaded_again(database: &Database) {
    let store = &*database.store;
    let first = begin(store, "a").await;
    let why = "row 3: the object changed\0 while it was read";
    store.seal(&lease("a"), SealedTotals { rows_read: 2, chunks_total: 1, amount: None }, Some(why)).await.unwrap();
    let again = new_run("b", &first.source.location);
    assert!(
        matches!(store.begin_run(&again).await.unwrap(), RunStart::Started(..)),
        "its last chunk is still on its way"
    );
    assert_eq!(store.close_run(&run_id("a")).await.unwrap(), RunState::Sealed);
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&run_id("a")).await.unwrap(), RunState::Failed);
    let run = store.run(&run_id("a")).await.unwrap().unwrap();
    assert_eq!(run.error.unwrap().replace('\u{fffd}', "\0"), why);
    assert!(store.tally(&run_id("a")).await.unwrap().accounts_for(2));

    let by_the_same_name = NewRun { explicit_id: true, force: true, run_id: run_id("a"), ..again.clone() };
    let error = store.begin_run(&by_the_same_name).await.unwrap_err().to_string();
    assert!(error.contains("run a is failed") && error.contains("BATCH_RUN_ID"), "{error}");
    assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::Resumed(run, _) if run.run_id == again.run_id));
}

async fn a_long_location_works(database: &Database) {
    // Longer than PostgreSQL's indexes allow, and incompressible.
    let noise: String =
        (0..200_u128).map(|number| uuid::Uuid::new_v5(&uuid::Uuid::from_u128(number), b"noise").to_string()).collect();
    let new = new_run("a", &noise);
    assert!(matches!(database.store.begin_run(&new).await.unwrap(), RunStart::Started(..)));
    assert!(matches!(database.store.begin_run(&new).await.unwrap(), RunStart::Resumed(..)));
}

async fn an_empty_source_is_complete_at_once(database: &Database) {
    begin(&*database.store, "a").await;
    assert_eq!(finish(&*database.store, "a", 0, 0).await, RunState::Complete);
    assert!(database.store.tally(&run_id("a")).await.unwrap().accounts_for(0));
}

async fn recorded_chunks_come_in_order(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let chunks = [chunk_of_ids("a", 3, 31, &[1]), chunk_of_ids("a", 0, 1, &[2, 3]), chunk_of_ids("a", 2, 21, &[4])];
    store.write(&chunks, IdConflict::Fail).await.unwrap();
    let numbers = async |from, limit| {
        let recorded = store.recorded_chunks(&run_id("a"), from, limit).await.unwrap();
        recorded.iter().map(|chunk| (chunk.chunk, chunk.range.first_row, chunk.range.rows)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 10).await, [(0, 1, 2), (2, 21, 1), (3, 31, 1)]);
    assert_eq!(numbers(1, 1).await, [(2, 21, 1)]);
    assert!(numbers(4, 10).await.is_empty());
    let progress = store.progress(&run_id("a")).await.unwrap();
    assert_eq!((progress.chunks_recorded, progress.rows_recorded), (3, 4));
    assert_eq!(store.progress(&run_id("b")).await.unwrap(), RecordedProgress::default());
}

async fn a_run_of_a_newer_version_is_skipped(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    begin(store, "b").await;
    store.write(&[chunk_of_ids("b", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    store.seal(&lease("b"), SealedTotals { rows_read: 1, chunks_total: 1, amount: None }, None).await.unwrap();
    database
        .execute("UPDATE runs SET settings = '{\"ids\":8,\"chunk_rows\":\"as many as fit\"}' WHERE run_id = 'b'")
        .await;
    let names = |runs: Vec<assay_transaction::Run>| runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>();
    assert_eq!(names(store.runs(None, 10).await.unwrap()), [run_id("a")]);
    assert_eq!(names(store.open_runs().await.unwrap().into_iter().map(|open| open.run).collect()), [run_id("a")]);
    let error = store.run(&run_id("b")).await.unwrap_err();
    assert!(error.to_string().contains("run b has settings that this version cannot read"), "{error}");
    assert_eq!(store.close_run(&run_id("b")).await.unwrap(), RunState::Complete, "it is closed all the same");
}

async fn without_run(store: &dyn Store, sources: &[SourceIdentity]) -> Vec<bool> {
    store.source_states(sources).await.unwrap().into_iter().map(|known| known == SourceState::Not).collect()
}

async fn unread(store: &dyn Store, sources: &[SourceIdentity]) -> Vec<bool> {
    store.source_states(sources).await.unwrap().into_iter().map(|known| known != SourceState::Read).collect()
}

async fn sources_without_a_run_are_found(database: &Database) {
    let store = &*database.store;
    let source = |name: &str, version: &str| SourceIdentity {
        location: format!("s3://bank/{name}.csv"),
        version: version.to_owned(),
    };
    assert_eq!(without_run(store, &[]).await, [false; 0]);
    begin(store, "loading").await;
    begin(store, "complete").await;
    finish(store, "complete", 0, 0).await;
    begin(store, "failed").await;
    store
        .seal(&lease("failed"), SealedTotals { rows_read: 0, chunks_total: 0, amount: None }, Some("no header"))
        .await
        .unwrap();
    store.begin_run(&NewRun { force: true, ..new_run("forced", "s3://bank/é \"quoted\" 100%'.csv") }).await.unwrap();
    let sources = [
        (source("loading", "etag-1"), false),
        (source("loading", "etag-2"), true),
        (source("new", "etag-1"), true),
        (source("complete", "etag-1"), false),
        (source("failed", "etag-1"), false),
        (source("é \"quoted\" 100%'", "etag-1"), false),
        (source("complete", "etag-1"), false),
    ];
    let (asked, expected): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
    assert_eq!(without_run(store, &asked).await, expected);
}

async fn unread_sources_are_found(database: &Database) {
    let store = &*database.store;
    assert!(unread(store, &[]).await.is_empty());
    let loading = begin(store, "loading").await.source;
    let [complete, failed, sealed, odd] = ["complete", "failed", "sealed", "s3://bank/é \"x\"\\.csv"].map(|location| {
        let name = if location.starts_with("s3") { "odd" } else { location };
        (name, new_run(name, location))
    });
    for (name, new) in [&complete, &failed, &sealed, &odd] {
        store.begin_run(new).await.unwrap();
        let error = (*name == "failed").then_some("it broke off");
        let chunks_total = u64::from(*name == "sealed");
        store.seal(&lease(name), SealedTotals { rows_read: 0, chunks_total, amount: None }, error).await.unwrap();
        store.close_run(&run_id(name)).await.unwrap();
    }
    let mut newer = complete.1.source.clone();
    newer.version = "etag-2".into();
    let [complete, failed, sealed, odd] = [complete, failed, sealed, odd].map(|(_, new)| new.source);
    let other = new_run("other", "other").source;
    let asked = [complete.clone(), other.clone(), failed, loading, newer, sealed, odd, other, complete];
    let expected = [false, true, false, true, true, false, false, true, false];
    assert_eq!(unread(store, &asked).await, expected);
}

/// Like a restored database: chunks that were recorded at the last look are missing now.
async fn a_remembered_gap_may_change(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    begin(store, "a").await;
    let chunk = |number: u64| chunk_of_ids("a", number, number + 1, &[u128::from(number)]);
    store.seal(&lease("a"), SealedTotals { rows_read: 10, chunks_total: 10, amount: None }, None).await.unwrap();
    for number in [0, 1, 2, 4, 5, 9] {
        store.write(&[chunk(number)], IdConflict::Fail).await.unwrap();
        assert_eq!(store.close_run(&a).await.unwrap(), RunState::Sealed, "after {number}");
    }
    database.execute("DELETE FROM chunks WHERE chunk = 1; DELETE FROM transactions WHERE row_number = 2").await;
    for number in [8, 3, 6, 7] {
        store.write(&[chunk(number)], IdConflict::Fail).await.unwrap();
        assert_eq!(store.close_run(&a).await.unwrap(), RunState::Sealed, "after {number}");
    }
    store.write(&[chunk(1)], IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&a).await.unwrap(), RunState::Complete);
    assert_eq!(store.audit(&a).await.unwrap().unwrap().breaches(), []);
}

async fn rows_of_a_run_that_never_began_are_refused(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let chunks =
        [chunk_of_ids("unknown", 0, 1, &[1]), chunk_of_ids("a", 0, 1, &[2]), chunk_of_ids("unknown", 7, 8, &[3])];
    for repeated in [ChunkOutcome::Recorded, ChunkOutcome::AlreadyRecorded] {
        let outcomes = store.write(&chunks, IdConflict::Fail).await.unwrap().outcomes;
        assert_eq!(outcomes[1], repeated);
        for (chunk, outcome) in [(0, &outcomes[0]), (7, &outcomes[2])] {
            let expected = format!("chunk unknown/{chunk} belongs to no run: no loader and no producer began unknown");
            assert_eq!(*outcome, ChunkOutcome::Refused { reason: expected });
        }
    }
    assert_eq!(database.texts("SELECT run_id FROM chunks UNION ALL SELECT run_id FROM transactions").await, ["a", "a"]);
    // Chunks that were recorded while their run existed still count as recorded.
    database.execute("DELETE FROM runs").await;
    assert_eq!(store.write(&chunks[1..2], IdConflict::Fail).await.unwrap().outcomes, [ChunkOutcome::AlreadyRecorded]);
}
