//! Live runs: the places of their messages, and the counts of their producers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use assay_transaction::{ChunkId, Day, LiveId, LivePlacement, LiveRun, RunId, RunSettings, RunState, SealedTotals};
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::dialect::{Connection, Pool, WRITING, as_json, for_update, json_elements, key};
use super::migrations::ids;
use super::runs;
use crate::ledger::begin::source_key;
use crate::values::{signed, to_json, unsigned};
use crate::{LiveCount, Numbering, StoreError, UnnumberedMessage};

const BEGIN: &str = concat!(
    "INSERT INTO runs (run_id, source_location, source_version, source_key, settings) VALUES ($1, $2, $3, $4, ",
    as_json!("$5"),
    ") ON CONFLICT DO NOTHING"
);
const BEGIN_LIVE: &str =
    "INSERT INTO live_runs (run_id, producer, day, counted) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const NEXT: &str = concat!("SELECT next_chunk, next_row FROM live_runs WHERE run_id = $1", for_update!());
const STATE: &str = "SELECT state, source_location FROM runs WHERE run_id = $1";
const PLACES: &str = concat!(
    "SELECT message, digest, chunk, first_row, rows FROM live_messages WHERE run_id = $1 AND message IN (SELECT ",
    "element.value->>0 FROM ",
    json_elements!(as_json!("$2")),
    ")"
);
const PLACE: &str = concat!(
    "INSERT INTO live_messages (run_id, message, digest, chunk, first_row, rows) SELECT $1, element.value->>0, ",
    "element.value->>1, CAST(element.value->>2 AS bigint), CAST(element.value->>3 AS bigint), ",
    "CAST(element.value->>4 AS bigint) FROM ",
    json_elements!(as_json!("$2"))
);
const ADVANCE: &str =
    "UPDATE live_runs SET next_chunk = $2, next_row = $3, late_rows = late_rows + $4 WHERE run_id = $1";
const COUNT: &str = "INSERT INTO live_counts (run_id, process, messages, rows, doubtful, ended) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (run_id, process) DO UPDATE SET messages = excluded.messages, \
     rows = excluded.rows, doubtful = excluded.doubtful, ended = excluded.ended";
const RUN: &str = "SELECT producer, day, counted, next_row, next_chunk, late_rows FROM live_runs WHERE run_id = $1";
const COUNTED: &str = "SELECT CAST(coalesce(sum(rows), 0) AS bigint), CAST(coalesce(sum(doubtful), 0) AS bigint), \
     count(CASE WHEN NOT ended THEN 1 END) FROM live_counts WHERE run_id = $1";

/// The place of a message in its run.
struct MessagePlace {
    digest: String,
    chunk: u64,
    first_row: u64,
    rows: u64,
}

/// The next place in a run.
struct NextPlace {
    chunk: u64,
    row: u64,
}

/// For how many days a late message is searched in later runs.
const LATE_DAYS: usize = 31;

/// A message of the call, with the identity that it gets a place by.
struct UnplacedMessage<'a> {
    at: usize,
    id: Cow<'a, LiveId>,
    rows: u64,
}

pub(crate) async fn number(
    pool: &Pool,
    messages: &[UnnumberedMessage<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<Numbering>, StoreError> {
    let mut answers: Vec<Option<Numbering>> = messages.iter().map(|_| None).collect();
    let mut left = unplaced(messages);
    // First each in its own run. A message too late for that is searched in the runs of the days since, and placed
    // today.
    for step in 0..=LATE_DAYS {
        let is_late = step > 0;
        if left.is_empty() {
            break;
        }
        let mut transaction = pool.begin_with(WRITING).await?;
        for (run_id, pending) in by_run(std::mem::take(&mut left)) {
            let is_today = pending.first().is_some_and(|first| first.id.day >= Day::of(now));
            let refused =
                number_in(&mut transaction, &run_id, pending, !is_late || is_today, is_late, &mut answers).await?;
            for pending in refused {
                if pending.id.day >= Day::of(now) || step == LATE_DAYS {
                    let reason = format!("message {} gets no place: run {run_id} is over", messages[pending.at].id);
                    answers[pending.at] = Some(Numbering::Refused { reason });
                } else {
                    let id = messages[pending.at].id.late(pending.id.day.next());
                    left.push(UnplacedMessage { id: Cow::Owned(id), ..pending });
                }
            }
        }
        transaction.commit().await?;
    }
    let unanswered = || StoreError::transient("a live message got no place");
    answers.into_iter().map(|answer| answer.ok_or_else(unanswered)).collect()
}

/// Numbers messages, each in its own run, within an open transaction; `None` if one of them gets no place there.
pub(crate) async fn number_in_own_runs(
    connection: &mut Connection,
    messages: &[UnnumberedMessage<'_>],
) -> Result<Option<Vec<LivePlacement>>, StoreError> {
    let mut answers: Vec<Option<Numbering>> = messages.iter().map(|_| None).collect();
    for (run_id, pending) in by_run(unplaced(messages)) {
        number_in(connection, &run_id, pending, true, false, &mut answers).await?;
    }
    let place = |answer| match answer {
        Some(Numbering::Place(place)) => Some(place),
        Some(Numbering::Refused { .. }) | None => None,
    };
    Ok(answers.into_iter().map(place).collect())
}

fn unplaced<'a>(messages: &[UnnumberedMessage<'a>]) -> Vec<UnplacedMessage<'a>> {
    let pending = |(at, message): (usize, &UnnumberedMessage<'a>)| UnplacedMessage {
        at,
        id: Cow::Borrowed(message.id),
        rows: message.rows,
    };
    messages.iter().enumerate().map(pending).collect()
}

/// In the order of their runs, which stay locked until the commit: two writers cannot deadlock.
fn by_run(messages: Vec<UnplacedMessage<'_>>) -> BTreeMap<RunId, Vec<UnplacedMessage<'_>>> {
    let mut by_run: BTreeMap<RunId, Vec<UnplacedMessage<'_>>> = BTreeMap::new();
    for pending in messages {
        by_run.entry(pending.id.run_id()).or_default().push(pending);
    }
    by_run
}

/// Numbers messages in one run. With `may_begin`, the run begins with them, and new ones get a place while it is
/// open; all others are returned.
async fn number_in<'a>(
    connection: &mut Connection,
    run_id: &RunId,
    pending: Vec<UnplacedMessage<'a>>,
    may_begin: bool,
    is_late: bool,
    answers: &mut [Option<Numbering>],
) -> Result<Vec<UnplacedMessage<'a>>, StoreError> {
    let Some(first) = pending.first() else { return Ok(Vec::new()) };
    let source = first.id.source();
    if may_begin {
        begin(connection, &first.id).await?;
    }
    let Some(mut next) = next(connection, run_id).await? else { return Ok(pending) };
    let (state, location): (String, String) =
        sqlx::query_as(STATE).bind(run_id.as_str()).fetch_one(&mut *connection).await?;
    if location != source.location {
        for UnplacedMessage { at, id, .. } in pending {
            let reason = format!("message {id} gets no place: run {run_id} is one of {location}");
            answers[at] = Some(Numbering::Refused { reason });
        }
        return Ok(Vec::new());
    }
    let is_open = may_begin && state == RunState::Loading.as_str();
    let names: Vec<[&str; 1]> = pending.iter().map(|pending| [pending.id.message.as_str()]).collect();
    let mut known = places(connection, run_id, &names).await?;
    let (mut new, mut beyond, mut late_rows) = (Vec::new(), Vec::new(), 0);
    for pending in pending {
        let UnplacedMessage { at, id, rows } = &pending;
        let digest = id.digest.to_string();
        let place = match known.get(&id.message) {
            Some(place) if place.digest == digest && place.rows == *rows => MessagePlace { digest, ..*place },
            Some(_) => {
                let reason = format!("message {id} was sent before with other content: each needs a name of its own");
                answers[*at] = Some(Numbering::Refused { reason });
                continue;
            }
            None if !is_open => {
                beyond.push(pending);
                continue;
            }
            None => {
                let place = MessagePlace { digest, chunk: next.chunk, first_row: next.row, rows: *rows };
                next = NextPlace { chunk: next.chunk + 1, row: next.row + rows };
                late_rows += if is_late { *rows } else { 0 };
                new.push((id.message.clone(), place.digest.clone(), place.chunk, place.first_row, *rows));
                place
            }
        };
        let chunk = ChunkId { run_id: run_id.clone(), chunk: place.chunk };
        answers[*at] = Some(Numbering::Place(LivePlacement { id: chunk, first_row: place.first_row }));
        known.insert(id.message.clone(), place);
    }
    if !new.is_empty() {
        sqlx::query(PLACE).bind(run_id.as_str()).bind(to_json(&new)?).execute(&mut *connection).await?;
        sqlx::query(ADVANCE)
            .bind(run_id.as_str())
            .bind(signed(next.chunk))
            .bind(signed(next.row))
            .bind(signed(late_rows))
            .execute(&mut *connection)
            .await?;
    }
    Ok(beyond)
}

async fn begin(connection: &mut Connection, id: &LiveId) -> Result<(), StoreError> {
    let (run_id, source) = (id.run_id(), id.source());
    let known = sqlx::query(RUN).bind(run_id.as_str()).fetch_optional(&mut *connection).await?;
    if known.is_some() {
        return Ok(());
    }
    let settings = RunSettings::live(&id.producer, ids(connection).await?);
    sqlx::query(BEGIN)
        .bind(run_id.as_str())
        .bind(&source.location)
        .bind(&source.version)
        .bind(key(source_key(&source)))
        .bind(to_json(&settings)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query(BEGIN_LIVE)
        .bind(run_id.as_str())
        .bind(id.producer.as_str())
        .bind(id.day.to_string())
        .bind(id.counted)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// The next place in a run, which is locked until the transaction ends; none if it has not begun.
async fn next(connection: &mut Connection, run_id: &RunId) -> Result<Option<NextPlace>, StoreError> {
    let next: Option<(i64, i64)> = sqlx::query_as(NEXT).bind(run_id.as_str()).fetch_optional(connection).await?;
    Ok(next.map(|(chunk, row)| NextPlace { chunk: unsigned(chunk), row: unsigned(row) }))
}

async fn places(
    connection: &mut Connection,
    run_id: &RunId,
    names: &[[&str; 1]],
) -> Result<HashMap<String, MessagePlace>, StoreError> {
    let rows: Vec<(String, String, i64, i64, i64)> =
        sqlx::query_as(PLACES).bind(run_id.as_str()).bind(to_json(&names)?).fetch_all(connection).await?;
    let place = |(message, digest, chunk, first_row, rows)| {
        (message, MessagePlace { digest, chunk: unsigned(chunk), first_row: unsigned(first_row), rows: unsigned(rows) })
    };
    Ok(rows.into_iter().map(place).collect())
}

pub(crate) async fn keep_count(pool: &Pool, count: &LiveCount) -> Result<(), StoreError> {
    let LiveCount { producer, day, process, messages, rows, doubtful, ended } = count;
    let id = LiveId::new(producer.clone(), *day, String::new(), &[], true);
    let mut transaction = pool.begin_with(WRITING).await?;
    begin(&mut transaction, &id).await?;
    sqlx::query(COUNT)
        .bind(id.run_id().as_str())
        .bind(process)
        .bind(signed(*messages))
        .bind(signed(*rows))
        .bind(signed(*doubtful))
        .bind(*ended)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

pub(crate) async fn live_run(connection: &mut Connection, run_id: &RunId) -> Result<Option<LiveRun>, StoreError> {
    let Some(row) = sqlx::query(RUN).bind(run_id.as_str()).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let (producer, day): (String, String) = (row.try_get("producer")?, row.try_get("day")?);
    let unreadable = |what: &str| StoreError::configuration(format!("live run {run_id} has an invalid {what}"));
    let counted: bool = row.try_get("counted")?;
    let (rows, doubtful, open): (i64, i64, i64) =
        sqlx::query_as(COUNTED).bind(run_id.as_str()).fetch_one(connection).await?;
    Ok(Some(LiveRun {
        run_id: run_id.clone(),
        producer: producer.parse().map_err(|_| unreadable("producer"))?,
        day: day.parse().map_err(|_| unreadable("day"))?,
        counted,
        accepted: counted.then(|| unsigned(rows)),
        doubtful: unsigned(doubtful),
        late: unsigned(row.try_get("late_rows")?),
        numbered: unsigned(row.try_get::<i64, _>("next_row")?).saturating_sub(1),
        messages: unsigned(row.try_get("next_chunk")?),
        open_counts: unsigned(open),
    }))
}

/// Blocks numbering in a run, if it is live, until the transaction ends. Take this lock before that of the run
/// itself, as numbering does.
pub(crate) async fn lock_places(connection: &mut Connection, run_id: &RunId) -> Result<(), StoreError> {
    next(connection, run_id).await.map(drop)
}

/// Seals a locked live run as it is, although accepted rows may be missing, if nothing else keeps it open.
pub(crate) async fn seal_short(connection: &mut Connection, run_id: &RunId) -> Result<(), StoreError> {
    let Some(live) = live_run(connection, run_id).await? else { return Ok(()) };
    if !live.is_over(Utc::now()) {
        // Rows that were confirmed to their producer must be recorded.
        return Err(StoreError::configuration(format!(
            "run {run_id} is live, and ends an hour after its day: stop its producer"
        )));
    }
    runs::put_seal(connection, run_id, end(&live), None).await
}

/// The end behind all numbered messages.
fn end(live: &LiveRun) -> SealedTotals {
    SealedTotals { rows_read: live.numbered, chunks_total: live.messages, amount: None }
}

pub(crate) async fn seal_live(pool: &Pool, run_id: &RunId) -> Result<RunState, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    lock_places(&mut transaction, run_id).await?;
    let Some(run) = runs::locked_run(&mut transaction, run_id).await? else { return Ok(RunState::Loading) };
    let Some(live) = live_run(&mut transaction, run_id).await? else { return Ok(run.state) };
    if run.state != RunState::Loading || live.missing() > 0 {
        return Ok(run.state);
    }
    runs::put_seal(&mut transaction, run_id, end(&live), None).await?;
    transaction.commit().await?;
    runs::close_run(pool, run_id).await
}
