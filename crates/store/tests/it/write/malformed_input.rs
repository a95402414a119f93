//! Chunks that can be decoded but that no program of ours wrote: each is refused or recorded as a whole. An error
//! would return with every attempt and keep the writer from all other chunks.

use assay_store::{ChunkOutcome, IdConflict};
use assay_transaction::ScoredChunk;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::chunks::{Row, chunk, chunk_of_ids, run_id, scored, transaction};
use crate::database::Database;
use crate::law::play;

/// Values that are unexpected in their place.
fn values() -> impl Strategy<Value = Value> {
    let values = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MAX as u64 + 1),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(1e308),
        json!(-0.0),
        json!(0.1),
        json!(9_999_999_999_999_999_u64),
        json!(""),
        json!(" "),
        json!("\0"),
        json!("a\0b"),
        json!("\u{feff}\u{202e}\u{10ffff}\u{fffe}"),
        json!("x".repeat(100_000)),
        json!("'; DROP TABLE runs; --"),
        json!("00000000-0000-0000-0000-000000000000"),
        json!("0000-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59.999999Z"),
        json!("9999-12-31T23:59:59-18:59"),
        json!("-0.0001"),
        json!("fraud"),
        json!([]),
        json!({}),
        json!({ "text": "\0" }),
        json!({ "base64": "AP8=" }),
        json!({ "\0": "\0" }),
        json!({ "": "", "a": "\\u0000" }),
    ];
    prop::sample::select(values)
}

/// All positions in a document: fields, elements, and those within them.
fn places(value: &Value, place: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let place = format!("{place}/{name}");
            into.push(place.clone());
            places(value, &place, into);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| {
            let place = format!("{place}/{at}");
            into.push(place.clone());
            places(value, &place, into);
        }),
        _ => {}
    }
}

/// Changes to a chunk: values replaced, or removed.
type Changes = Vec<(Index, Option<Value>)>;

fn changed(chunk: &ScoredChunk, changes: &Changes) -> Option<ScoredChunk> {
    let mut document: Value = serde_json::from_slice(&chunk.encode().unwrap()).unwrap();
    for (at, by) in changes {
        let mut all = Vec::new();
        places(&document, "", &mut all);
        let place = at.get(&all);
        let (parent, name) = place.rsplit_once('/')?;
        match by {
            Some(value) => *document.pointer_mut(place)? = value.clone(),
            None => match document.pointer_mut(parent)? {
                Value::Object(fields) => drop(fields.remove(name)),
                Value::Array(items) => drop(items.remove(name.parse().ok()?)),
                _ => {}
            },
        }
    }
    ScoredChunk::decode(document.to_string().as_bytes()).ok()
}

async fn is_refused_or_recorded(database: &Database, case: u128, changes: &Changes) -> bool {
    let (name, first_id) = (format!("changed-{case}"), case * 10);
    let rows = [
        scored(first_id, "1"),
        scored(first_id + 3, "2"),
        Row::Failed(transaction(first_id + 4, "1")),
        Row::Invalid(b"\xff\0"),
    ];
    let Some(malformed) = changed(&chunk(&name, 0, 1, &rows), changes) else { return false };
    let intact = chunk_of_ids(&format!("intact-{case}"), 0, 1, &[first_id + 5]);
    let written = database.write(&[malformed.clone(), intact], IdConflict::Fail).await;
    let written = written.unwrap_or_else(|error| panic!("{error}\n{malformed:?}"));
    assert_eq!(written.outcomes[1], ChunkOutcome::Recorded, "the intact one is recorded");
    if written.outcomes[0] == ChunkOutcome::Recorded {
        let tally = database.store.tally(&malformed.id.run_id).await.unwrap();
        assert!(tally.accounts_for(malformed.range.rows), "{tally:?} of {malformed:?}");
    }
    let tally = database.store.tally(&run_id(&format!("intact-{case}"))).await.unwrap();
    assert!(tally.accounts_for(1));
    true
}

fn holds(database: impl AsyncFnOnce() -> Database, cases: u32) {
    let read = std::cell::Cell::new(0);
    let changes = prop::collection::vec((any::<Index>(), prop::option::weighted(0.9, values())), 1..4);
    play(database, cases, changes, &async |database: &Database, case, changes: &Changes| {
        read.set(read.get() + u32::from(is_refused_or_recorded(database, case, changes).await));
    });
    assert!(read.get() > cases / 10, "{} of {cases} changed chunks could be read", read.get());
}

#[test]
fn a_changed_chunk_is_refused_or_recorded_in_postgres() {
    holds(Database::postgres, 600);
}

#[test]
fn a_changed_chunk_is_refused_or_recorded_in_sqlite() {
    holds(Database::sqlite, 1_500);
}
