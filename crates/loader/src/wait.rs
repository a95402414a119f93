//! `--wait`: stays until every chunk of the run is stored, and logs its progress and what blocks it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use assay_queue::{Broker, QueueKind, Route};
use assay_store::Store;
use assay_transaction::{Checkpoint, Lane, Run, RunId, Tally, human_duration};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::load::read::ReadBatch;
use crate::load::stored::PAGE;
use crate::{LoadError, LoadProgress, RemainingTime};

/// Interval between two queries of the ledger while the source is read.
const POLL: Duration = Duration::from_millis(250);
/// Intervals afterwards: a small source is stored within milliseconds, a large one is asked about less often.
const FASTEST_POLL: Duration = Duration::from_millis(5);
/// Share of the time already waited that may pass between two queries.
const POLL_SHARE: u32 = 8;
/// Interval between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Interval between two checks for dead letters.
const DEAD_LETTER_POLL: Duration = Duration::from_secs(2);
/// Time after the start before a missing consumer is logged: the other programs are starting, too.
const CONSUMER_GRACE: Duration = Duration::from_secs(3);
/// Interval between two such warnings.
const CONSUMER_REMINDER: Duration = Duration::from_mins(1);

/// Follows a run in the ledger, and logs each batch once all of its rows are stored.
pub(crate) struct RunFollower<'a> {
    store: &'a dyn Store,
    run_id: &'a RunId,
    progress: &'a LoadProgress,
    batches: mpsc::UnboundedReceiver<ReadBatch>,
    waiting: VecDeque<ReadBatch>,
    remaining: RemainingTime,
    next_report: Instant,
    /// The first chunk that was not recorded at the last query, and the number of rows before it.
    next_chunk: u64,
    rows: u64,
}

impl<'a> RunFollower<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        run_id: &'a RunId,
        from: Checkpoint,
        progress: &'a LoadProgress,
        batches: mpsc::UnboundedReceiver<ReadBatch>,
    ) -> Self {
        let (next_chunk, rows) = (from.chunk, from.rows_before());
        let (remaining, next_report) = (RemainingTime::default(), Instant::now() + REPORT_INTERVAL);
        Self { store, run_id, progress, batches, waiting: VecDeque::new(), remaining, next_report, next_chunk, rows }
    }

    /// Follows the run until it is dropped.
    pub(crate) async fn follow(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.poll().await {
                warn!("cannot query the progress of the run: {error}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn poll(&mut self) -> Result<(), LoadError> {
        loop {
            let recorded = self.store.recorded_chunks(self.run_id, self.next_chunk, PAGE).await?;
            let before = self.next_chunk;
            for chunk in &recorded {
                if chunk.chunk != self.next_chunk {
                    break;
                }
                self.next_chunk += 1;
                self.rows = chunk.range.first_row + chunk.range.rows - 1;
            }
            if self.next_chunk - before < u64::from(PAGE) {
                break;
            }
        }
        self.progress.set_rows_recorded(self.rows);
        while let Ok(batch) = self.batches.try_recv() {
            self.waiting.push_back(batch);
        }
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.last_row <= self.rows) {
            info!("Batch {}: processed {} transactions", batch.number, batch.transactions);
        }
        self.report(Instant::now());
        Ok(())
    }

    /// Logs the progress now and then.
    fn report(&mut self, now: Instant) {
        self.remaining.observe(now.into_std(), self.rows);
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_INTERVAL;
        let estimated = self.progress.estimated_rows();
        info!("{}", progress_line(self.rows, estimated, &self.remaining, now.into_std()));
    }
}

/// `12000 of about 50000 rows are stored, 400 a second, about 1 min 35 s left`.
fn progress_line(stored: u64, estimated: Option<u64>, remaining: &RemainingTime, now: std::time::Instant) -> String {
    let of = estimated.map(|rows| format!(" of about {rows}")).unwrap_or_default();
    let rate = remaining.per_second().map(|rate| format!(", {rate} a second")).unwrap_or_default();
    let left = estimated.and_then(|rows| remaining.left(now, rows.saturating_sub(stored)));
    let left = left.map_or_else(
        || "time left not known".to_owned(),
        |left| format!("about {} left", human_duration(left.as_secs())),
    );
    format!("{stored}{of} rows are stored{rate}, {left}")
}

/// Waits until a sealed run is finished. Returns the outcomes of its rows, as its chunks record them.
pub(crate) async fn until_finished(
    following: &mut RunFollower<'_>,
    broker: &dyn Broker,
    timeout: Duration,
    again: &str,
    shutdown: &CancellationToken,
) -> Result<(Run, Tally), LoadError> {
    let (store, run_id) = (following.store, following.run_id);
    let began = Instant::now();
    let deadline = began + timeout;
    let mut next_letter_check = Instant::now();
    loop {
        let run = store.run(run_id).await;
        following.poll().await.or_else(|error| if is_transient(&error) { Ok(()) } else { Err(error) })?;
        match run {
            Ok(Some(run)) if run.state.is_finished() => {
                let tally = store.tally_by_chunk(run_id).await?;
                return Ok((run, tally));
            }
            Ok(run) if Instant::now() >= deadline => return Err(timed_out(store, broker, run_id, run, timeout).await),
            Ok(_) if Instant::now() >= next_letter_check => {
                next_letter_check = Instant::now() + DEAD_LETTER_POLL;
                match store.blocking_dead_letters(run_id).await {
                    Ok(0) => {}
                    Ok(letters) => return Err(LoadError::Stalled { run_id: run_id.clone(), letters }),
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(_) => {}
            Err(error) if error.is_transient() && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep((began.elapsed() / POLL_SHARE).clamp(FASTEST_POLL, POLL)) => {}
            () = shutdown.cancelled() => {
                let rows = following.progress.rows_published();
                return Err(LoadError::Stopped { run_id: run_id.clone(), rows, again: again.to_owned() });
            }
        }
    }
}

fn is_transient(error: &LoadError) -> bool {
    matches!(error, LoadError::Store(error) if error.is_transient())
}

async fn timed_out(
    store: &dyn Store,
    broker: &dyn Broker,
    run_id: &RunId,
    run: Option<Run>,
    timeout: Duration,
) -> LoadError {
    let recorded = match store.progress(run_id).await {
        Ok(progress) => progress.chunks_recorded,
        Err(error) => return error.into(),
    };
    let total = run.and_then(|run| run.sealed).map_or(0, |sealed| sealed.chunks_total);
    let mut hint = String::new();
    for route in ROUTES {
        if has_no_consumer(broker, route).await {
            hint = format!("; no consumer on {route}");
            break;
        }
    }
    LoadError::WaitTimeout { run_id: run_id.clone(), timeout: format!("{timeout:?}"), recorded, total, hint }
}

/// The queues of a run.
const ROUTES: [Route; 2] =
    [Route { kind: QueueKind::Transactions, lane: Lane::Batch }, Route { kind: QueueKind::Scored, lane: Lane::Batch }];

async fn has_no_consumer(broker: &dyn Broker, route: Route) -> bool {
    broker.depth(route).await.is_ok_and(|depth| depth.consumers == 0)
}

/// Warns of queues without a consumer, until it is dropped; of the writer's queue only with `downstream`.
pub(crate) async fn warn_of_missing_consumers(broker: &dyn Broker, downstream: bool) {
    let routes = if downstream { &ROUTES[..] } else { &ROUTES[..1] };
    tokio::time::sleep(CONSUMER_GRACE).await;
    loop {
        for route in routes {
            if has_no_consumer(broker, *route).await {
                let program = if route.kind == QueueKind::Transactions { "predictor" } else { "writer" };
                warn!("no consumer on {route}: start a {program}");
            }
        }
        tokio::time::sleep(CONSUMER_REMINDER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_rows_rate_and_time_left() {
        let (mut remaining, start) = (RemainingTime::default(), std::time::Instant::now());
        assert_eq!(progress_line(0, None, &remaining, start), "0 rows are stored, time left not known");
        for second in 0..=10 {
            remaining.observe(start + Duration::from_secs(second), 8_000 + 400 * second);
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(
            progress_line(12_000, Some(50_000), &remaining, now),
            "12000 of about 50000 rows are stored, 400 a second, about 1 min 35 s left"
        );
        assert_eq!(
            progress_line(12_000, None, &remaining, now),
            "12000 rows are stored, 400 a second, time left not known"
        );
    }
}
