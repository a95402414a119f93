//! The ledger of live runs.

use assay_store::{ChunkOutcome, IdConflict, LiveCount, Numbering, StopOutcome, Store, UnnumberedMessage};
use assay_transaction::{Day, LiveId, LivePlacement, RunState, ScoredChunk, ScoredLive};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use crate::chunks::{begin, chunk_of_ids, run_id};
use crate::database::Database;

on_both! {
    a_message_keeps_its_place,
    places_are_consecutive_across_writers,
    a_name_belongs_to_one_message,
    a_message_after_the_seal_gets_a_place_today,
    a_counted_run_is_sealed_once_all_accepted_rows_have_a_place,
    a_run_of_a_file_is_not_live,
    an_uncounted_run_accepts_what_is_placed,
    a_live_run_is_not_stopped_before_its_day_is_over,
    a_past_day_with_lost_rows_ends_by_order,
    live_messages_are_numbered_and_written_at_once,
    what_cannot_be_numbered_and_written_at_once_changes_nothing,
    writers_number_and_write_each_message_once,
}

const DAY: &str = "2026-01-11";
const RUN: &str = "live_shop_20260111";

fn now() -> DateTime<Utc> {
    "2026-01-12T00:30:00Z".parse().unwrap()
}

fn id(message: &str, body: &[u8], counted: bool) -> LiveId {
    LiveId::new("shop".parse().unwrap(), DAY.parse().unwrap(), message.to_owned(), body, counted)
}

fn counted(message: &str) -> LiveId {
    id(message, message.as_bytes(), true)
}

async fn number(store: &dyn Store, messages: &[(&LiveId, u64)]) -> Vec<Numbering> {
    let arrivals: Vec<_> = messages.iter().map(|(id, rows)| UnnumberedMessage { id, rows: *rows }).collect();
    store.number(&arrivals, now()).await.unwrap()
}

/// The place of each message: its chunk and its first row.
fn places(numbered: &[Numbering]) -> Vec<(u64, u64)> {
    let place = |numbering: &Numbering| match numbering {
        Numbering::Place(LivePlacement { id, first_row }) => (id.chunk, *first_row),
        Numbering::Refused { reason } => panic!("{reason}"),
    };
    numbered.iter().map(place).collect()
}

async fn write(store: &dyn Store, chunk: ScoredChunk) {
    let written = store.write(&[chunk], IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes, [ChunkOutcome::Recorded]);
}

async fn keep(store: &dyn Store, process: &str, rows: u64, doubtful: u64, ended: bool) {
    let (producer, day) = ("shop".parse().unwrap(), DAY.parse().unwrap());
    let count = LiveCount { producer, day, process: process.to_owned(), messages: rows, rows, doubtful, ended };
    store.keep_count(&count).await.unwrap();
}

async fn a_message_keeps_its_place(database: &Database) {
    let store = &*database.store;
    let (first, second, third) = (counted("a"), counted("b"), counted("c"));
    assert_eq!(places(&number(store, &[(&first, 3), (&second, 1), (&first, 3)]).await), [(0, 1), (1, 4), (0, 1)]);
    assert_eq!(places(&number(store, &[(&third, 2), (&second, 1)]).await), [(2, 5), (1, 4)]);
    let run = store.run(&run_id(RUN)).await.unwrap().unwrap();
    assert_eq!(
        (run.state, run.source.location.as_str(), run.source.version.as_str()),
        (RunState::Loading, "live:shop", DAY)
    );
    let live = store.live_run(&run.run_id).await.unwrap().unwrap();
    assert_eq!((live.numbered, live.messages, live.accepted), (6, 3, Some(0)));
    assert_eq!(store.live_run(&run_id("unknown")).await.unwrap(), None);
}

async fn places_are_consecutive_across_writers(database: &Database) {
    let store = &*database.store;
    let ids: Vec<LiveId> = (0..24).map(|message| counted(&message.to_string())).collect();
    // Each twice, as after a redelivery.
    let all = join_all(ids.iter().chain(&ids).map(async |id| places(&number(store, &[(id, 2)]).await)[0])).await;
    assert_eq!(all[..24], all[24..]);
    let mut found = all[..24].to_vec();
    found.sort_unstable();
    assert_eq!(found, (0..24).map(|chunk| (chunk, 2 * chunk + 1)).collect::<Vec<_>>());
}

async fn a_name_belongs_to_one_message(database: &Database) {
    let store = &*database.store;
    let (first, other) = (id("7", b"one", false), id("7", b"two", false));
    let numbered = number(store, &[(&first, 1), (&other, 1)]).await;
    let [Numbering::Place(_), Numbering::Refused { reason }] = &numbered[..] else { panic!("{numbered:?}") };
    assert!(reason.contains("amqp_shop_20260111/7") && reason.contains("other content"), "{reason}");
    // On another day it may be used again.
    let tomorrow = LiveId { day: Day::of(now()), ..other };
    assert_eq!(places(&number(store, &[(&tomorrow, 1)]).await), [(0, 1)]);
}

async fn a_message_after_the_seal_gets_a_place_today(database: &Database) {
    let store = &*database.store;
    let (first, late) = (id("a", b"a", false), id("b", b"b", false));
    number(store, &[(&first, 1)]).await;
    write(store, chunk_of_ids("amqp_shop_20260111", 0, 1, &[1])).await;
    assert_eq!(store.seal_live(&first.run_id()).await.unwrap(), RunState::Complete);
    let numbered = number(store, &[(&first, 1), (&late, 1)]).await;
    let run_of = |at: usize| match &numbered[at] {
        Numbering::Place(place) => place.id.run_id.to_string(),
        Numbering::Refused { reason } => panic!("{reason}"),
    };
    assert_eq!([run_of(0), run_of(1)], ["amqp_shop_20260111", "amqp_shop_20260112"]);
    assert_eq!(numbered, number(store, &[(&first, 1), (&late, 1)]).await, "there it stays");
    // Also on a later day, and once that run is over as well.
    let arrival = [UnnumberedMessage { id: &late, rows: 1 }];
    let later = now() + chrono::TimeDelta::days(2);
    assert_eq!(store.number(&arrival, later).await.unwrap(), numbered[1..]);
    let today = LiveId { day: Day::of(now()), ..id("b", b"another", false) };
    assert_eq!(places(&number(store, &[(&today, 1)]).await), [(1, 2)], "its name is not taken");
    let live = store.live_run(&today.run_id()).await.unwrap().unwrap();
    assert_eq!((live.numbered, live.late), (2, 1));
}

async fn a_counted_run_is_sealed_once_all_accepted_rows_have_a_place(database: &Database) {
    let store = &*database.store;
    keep(store, "one", 1, 0, false).await;
    keep(store, "two", 1, 0, true).await;
    keep(store, "one", 2, 0, true).await;
    number(store, &[(&counted("a"), 2)]).await;
    write(store, chunk_of_ids(RUN, 0, 1, &[1, 2])).await;
    assert_eq!(store.seal_live(&run_id(RUN)).await.unwrap(), RunState::Loading, "one row is on its way, or lost");
    number(store, &[(&counted("b"), 1)]).await;
    assert_eq!(store.seal_live(&run_id(RUN)).await.unwrap(), RunState::Sealed, "it is not recorded yet");
    write(store, chunk_of_ids(RUN, 1, 3, &[3])).await;
    assert_eq!(store.close_run(&run_id(RUN)).await.unwrap(), RunState::Complete);
    let audit = store.audit(&run_id(RUN)).await.unwrap().unwrap();
    assert_eq!((audit.run.sealed.unwrap().rows_read, audit.breaches()), (3, Vec::new()));
}

async fn a_run_of_a_file_is_not_live(database: &Database) {
    let store = &*database.store;
    begin(store, RUN).await;
    let numbered = number(store, &[(&counted("a"), 1)]).await;
    let [Numbering::Refused { reason }] = &numbered[..] else { panic!("{numbered:?}") };
    assert!(reason.contains(RUN) && reason.contains("s3://"), "{reason}");
}

async fn an_uncounted_run_accepts_what_is_placed(database: &Database) {
    let store = &*database.store;
    let id = id("a", b"a", false);
    number(store, &[(&id, 2)]).await;
    let live = store.live_run(&id.run_id()).await.unwrap().unwrap();
    assert_eq!((live.counted, live.accepted, live.missing(), live.numbered), (false, None, 0, 2));
}

async fn a_live_run_is_not_stopped_before_its_day_is_over(database: &Database) {
    let store = &*database.store;
    let audit = assay_store::AuditContext { operator: "me".into(), reason: None };
    let kind = assay_transaction::StopKind::Cancelled;
    let today = LiveId { day: Day::of(Utc::now()), ..counted("today") };
    number(store, &[(&today, 1)]).await;
    let error = store.order_stop(&today.run_id(), kind, "mistake", &audit).await.unwrap_err().to_string();
    assert!(error.contains("stop its producer"), "{error}");
}

async fn a_past_day_with_lost_rows_ends_by_order(database: &Database) {
    let store = &*database.store;
    keep(store, "one", 3, 0, true).await;
    let (first, second) = (counted("a"), counted("b"));
    number(store, &[(&first, 1), (&second, 1)]).await;
    write(store, chunk_of_ids(RUN, 0, 1, &[1])).await;
    assert_eq!(store.seal_live(&run_id(RUN)).await.unwrap(), RunState::Loading, "one row is lost");
    let audit = assay_store::AuditContext { operator: "ada".into(), reason: Some("the disk is gone".into()) };
    let kind = assay_transaction::StopKind::Cancelled;
    let ordered = store.order_stop(&run_id(RUN), kind, "the disk is gone", &audit).await.unwrap();
    let StopOutcome::Ordered(run) = ordered else { panic!("{ordered:?}") };
    let sealed = run.sealed.unwrap();
    assert_eq!((run.state, sealed.rows_read, sealed.chunks_total), (RunState::Sealed, 2, 2));
    assert!(matches!(
        store.order_stop(&run_id(RUN), kind, "again", &audit).await.unwrap(),
        StopOutcome::AlreadyOrdered(_)
    ));
    // Placed messages keep their place, and later ones get a place in the run of their day.
    assert_eq!(places(&number(store, &[(&second, 1)]).await), [(1, 2)]);
    let late = counted("c");
    let numbered = number(store, &[(&late, 1)]).await;
    let [Numbering::Place(place)] = &numbered[..] else { panic!("{numbered:?}") };
    assert_ne!(place.id.run_id, run_id(RUN));
    write(store, chunk_of_ids(RUN, 1, 2, &[2])).await;
    assert_eq!(store.close_run(&run_id(RUN)).await.unwrap(), RunState::Cancelled);
    let live = store.live_run(&run_id(RUN)).await.unwrap().unwrap();
    assert_eq!((live.accepted, live.missing()), (Some(3), 1), "that it is missing still shows");
    let operations = store.operations(Some(&run_id(RUN)), 10).await.unwrap();
    let recorded: Vec<_> = operations.iter().map(|it| (it.action.as_str(), it.reason.as_deref())).collect();
    assert_eq!(recorded, [("cancel", Some("the disk is gone"))]);
}

/// A scored message of rows with these ids.
fn scored(id: &LiveId, rows: &[u128]) -> ScoredLive {
    let ScoredChunk { predicted_at, predicted, failed, rejected, .. } = chunk_of_ids(RUN, 0, 1, rows);
    ScoredLive { id: id.clone(), ids: assay_transaction::IdScheme::V8, predicted_at, predicted, failed, rejected }
}

async fn write_live(store: &dyn Store, messages: &[ScoredLive]) -> Option<Vec<(u64, u64, ChunkOutcome)>> {
    let (chunks, written) = store.write_live(messages, IdConflict::Fail).await.unwrap()?;
    let places = chunks.into_iter().map(|chunk| (chunk.id.chunk, chunk.range.first_row));
    Some(places.zip(written.outcomes).map(|((chunk, row), outcome)| (chunk, row, outcome)).collect())
}

async fn live_messages_are_numbered_and_written_at_once(database: &Database) {
    let store = &*database.store;
    let [a, b, c] = ["a", "b", "c"].map(|name| id(name, name.as_bytes(), false));
    let [first, second, third] = [scored(&a, &[1, 2]), scored(&b, &[3]), scored(&c, &[4, 1])];
    let written = write_live(store, &[first.clone(), second.clone(), first.clone()]).await.unwrap();
    let recorded = ChunkOutcome::Recorded;
    assert_eq!(written, [(0, 1, recorded.clone()), (1, 3, recorded.clone()), (0, 1, ChunkOutcome::AlreadyRecorded)]);
    assert_eq!(write_live(store, std::slice::from_ref(&second)).await, None, "nothing is new");
    assert_eq!(places(&number(store, &[(&b, 1)]).await), [(1, 3)]);
    let written = write_live(store, &[second, third]).await.unwrap();
    assert_eq!(written, [(1, 3, ChunkOutcome::AlreadyRecorded), (2, 4, recorded)]);
    assert_eq!(store.seal_live(&a.run_id()).await.unwrap(), RunState::Complete);
    let audit = store.audit(&a.run_id()).await.unwrap().unwrap();
    assert_eq!((audit.run.sealed.unwrap().rows_read, audit.breaches()), (5, Vec::new()));
    assert_eq!((audit.tally.predicted, audit.tally.duplicate), (4, 1));
}

async fn what_cannot_be_numbered_and_written_at_once_changes_nothing(database: &Database) {
    let store = &*database.store;
    let first = id("a", b"a", false);
    write_live(store, &[scored(&first, &[1])]).await.unwrap();
    let new = scored(&id("new", b"new", false), &[2]);
    let same_name = scored(&id("a", b"other content", false), &[3]);
    assert_eq!(write_live(store, &[new.clone(), same_name]).await, None);
    assert_eq!(store.live_run(&first.run_id()).await.unwrap().unwrap().numbered, 1);
    assert_eq!(store.seal_live(&first.run_id()).await.unwrap(), RunState::Complete);
    let today = LiveId { day: Day::of(now()), ..id("b", b"b", false) };
    assert_eq!(write_live(store, &[scored(&today, &[4]), new]).await, None, "one of them is too late");
    assert_eq!(store.live_run(&today.run_id()).await.unwrap(), None);
}

async fn writers_number_and_write_each_message_once(database: &Database) {
    let store = &*database.store;
    let messages: Vec<ScoredLive> =
        (0..12).map(|message| scored(&id(&message.to_string(), &[], false), &[2 * message, 2 * message + 1])).collect();
    // Each twice, as after a redelivery.
    let all = messages.iter().chain(&messages);
    let written = join_all(all.map(async |message| write_live(store, std::slice::from_ref(message)).await)).await;
    let mut places: Vec<_> = written.into_iter().flatten().flatten().map(|(chunk, row, _)| (chunk, row)).collect();
    places.sort_unstable();
    assert_eq!(places, (0..12).map(|chunk| (chunk, 2 * chunk + 1)).collect::<Vec<_>>());
    assert_eq!(store.seal_live(&messages[0].id.run_id()).await.unwrap(), RunState::Complete);
}
