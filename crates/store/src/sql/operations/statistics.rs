//! What commits noted of a run: read, and summed up by the minute once it is old.

use std::collections::BTreeMap;

use assay_transaction::{RunId, Tally, Timestamp};
use chrono::DateTime;

use super::ask;
use super::dialect::{Connection, Pool, READING, WRITING, as_json, unix_now};
use crate::StoreError;
use crate::operations::statistics::{RecordedMoment, RunStatistics};
use crate::values::{signed, to_json, unsigned};
use crate::write::statistics::Facts;

/// Most minutes that are summed up in one transaction.
const MOST: i64 = 50;

const LINES: &str = "
    SELECT at, CAST(seconds AS bigint), predicted, invalid, failed, duplicate, CAST(facts AS text) FROM run_statistics
    WHERE run_id = $1 ORDER BY at";
/// Minutes that ended at least one before.
const OLD: &str = concat!(
    "SELECT DISTINCT run_id, at - at % 60 AS minute FROM run_statistics WHERE seconds = 1 AND at < (",
    unix_now!(),
    ") - 120 - (",
    unix_now!(),
    ") % 60 ORDER BY minute, run_id LIMIT $1"
);
/// Another writer that takes the same lines waits here, and then finds none of them.
const TAKE: &str = "
    DELETE FROM run_statistics WHERE run_id = $1 AND at >= $2 AND at < $2 + 60
    RETURNING at, CAST(seconds AS bigint), predicted, invalid, failed, duplicate, CAST(facts AS text)";
const PUT: &str = concat!(
    "INSERT INTO run_statistics (run_id, at, seconds, predicted, invalid, failed, duplicate, facts) ",
    "VALUES ($1, $2, 60, $3, $4, $5, $6, ",
    as_json!("$7"),
    ")"
);
pub(crate) const FORGET: &str = "DELETE FROM run_statistics WHERE run_id = $1";

/// A line: time, length, the tally, facts.
type Line = (i64, i64, i64, i64, i64, i64, String);

/// What lines say together.
#[derive(Default)]
struct Sum {
    seconds: i64,
    tally: Tally,
    facts: Facts,
}

impl Sum {
    fn add(&mut self, (_, seconds, predicted, invalid, failed, duplicate, facts): &Line) -> Result<(), StoreError> {
        self.seconds = self.seconds.max(*seconds);
        self.tally.predicted += unsigned(*predicted);
        self.tally.invalid += unsigned(*invalid);
        self.tally.failed += unsigned(*failed);
        self.tally.duplicate += unsigned(*duplicate);
        let facts = serde_json::from_str(facts)
            .map_err(|_| StoreError::configuration("run_statistics has facts that this version cannot read"))?;
        self.facts.merge(&facts);
        Ok(())
    }
}

/// What commits noted of a run.
pub(crate) async fn read(pool: &Pool, run_id: &RunId) -> Result<RunStatistics, StoreError> {
    let lines: Vec<Line> =
        ask(pool, READING, async |reading| sqlx::query_as(LINES).bind(run_id.as_str()).fetch_all(reading).await)
            .await?;
    let mut moments: BTreeMap<i64, Sum> = BTreeMap::new();
    for line in &lines {
        moments.entry(line.0).or_default().add(line)?;
    }
    let mut all = Facts::default();
    for sum in moments.values() {
        all.merge(&sum.facts);
    }
    let moment = |(at, sum): (i64, Sum)| {
        Some(RecordedMoment {
            at: Timestamp::from(DateTime::from_timestamp(at, 0)?),
            seconds: u32::try_from(sum.seconds).ok()?,
            tally: sum.tally,
            labels: sum.facts.labels,
        })
    };
    Ok(RunStatistics {
        moments: moments.into_iter().filter_map(moment).collect(),
        scores: all.histogram(),
        highest: all.highest(),
        labels: all.labels,
        invalid: all.invalid,
        failed: all.failed,
    })
}

/// Sums up some old minutes, each once. Returns whether more are left.
pub(crate) async fn sum_up(pool: &Pool) -> Result<bool, StoreError> {
    let old: Vec<(String, i64)> =
        ask(pool, READING, async |reading| sqlx::query_as(OLD).bind(MOST).fetch_all(reading).await).await?;
    if old.is_empty() {
        return Ok(false);
    }
    let mut transaction = pool.begin_with(WRITING).await?;
    for (run_id, minute) in &old {
        sum_up_minute(&mut transaction, run_id, *minute).await?;
    }
    transaction.commit().await?;
    Ok(signed(old.len() as u64) == MOST)
}

async fn sum_up_minute(connection: &mut Connection, run_id: &str, minute: i64) -> Result<(), StoreError> {
    let lines: Vec<Line> = sqlx::query_as(TAKE).bind(run_id).bind(minute).fetch_all(&mut *connection).await?;
    if lines.is_empty() {
        return Ok(());
    }
    let mut sum = Sum::default();
    for line in &lines {
        sum.add(line)?;
    }
    let Tally { predicted, invalid, failed, duplicate } = sum.tally;
    sqlx::query(PUT)
        .bind(run_id)
        .bind(minute)
        .bind(signed(predicted))
        .bind(signed(invalid))
        .bind(signed(failed))
        .bind(signed(duplicate))
        .bind(to_json(&sum.facts)?)
        .execute(connection)
        .await?;
    Ok(())
}
