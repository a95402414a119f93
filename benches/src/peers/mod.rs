//! Compares Assay with what somebody would write instead (`benches/peers`): the same object, the same ML API, the same servers, in
//! turns. Every attempt must store every row, and what all of them store alike must be the same.
//!
//! [`peer`] says who they are and what each does not do, [`mod@attempt`] does the job once, [`meter`] reads processor time and memory.

mod attempt;
mod meter;
mod peer;

use std::time::Duration;

use assay_tests::Database;

use self::attempt::{Attempt, attempt};
pub(crate) use self::peer::Peer;
use crate::baseline::fastapi;
use crate::fleet::ModelServer;
use crate::options::{Api, Options};
use crate::report::{Figure, Report, count, median, megabytes, rate, table, thousands};
use crate::source::SourceFiles;

/// A size that shows the start-up, and one that does not.
const ROWS: [u64; 2] = [2_000, 1_000_000];
/// Rows from which on the goals apply.
const GOAL_ROWS: u64 = 1_000_000;
/// Goals: rows per second relative to the Polars script, and to the faster of the task queues.
const GOAL_RUN: f64 = 1.0;
const GOAL_FLEET: f64 = 0.65;
const GOAL_FLEET_OF_QUEUES: f64 = 2.5;

/// Measures each size.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    report.section("What is compared", &describe(options).await);
    for rows in options.rows_or(&ROWS) {
        let file = sources.faultless(rows).await;
        let mut seen: Vec<(Peer, Vec<Attempt>)> = options.peers.iter().map(|peer| (*peer, Vec::new())).collect();
        for _ in 0..options.turns {
            for (peer, attempts) in &mut seen {
                let model_server = model_server(options.api).await;
                attempts.push(attempt(*peer, options, &model_server, &file, rows).await);
            }
        }
        let contents = same_contents(&seen);
        let results: Vec<Attempt> = seen.iter().map(|(peer, attempts)| Attempt::median_of(*peer, attempts)).collect();
        let title = format!("Next to what somebody would use instead: {} rows", count(rows));
        report.section(&title, &format!("{}\n{contents}", lines(&results, rows)));
        figures(report, &results, rows);
    }
    let lacks = options.peers.iter().map(|peer| vec![peer.name().to_owned(), peer.lacks().to_owned()]).collect();
    report.section("What each does not do", &table(&["", "does not"], lacks));
}

async fn model_server(api: Api) -> ModelServer {
    match api {
        Api::Reference => ModelServer::reference(Duration::ZERO).await,
        Api::Fastapi => fastapi().await,
    }
}

/// Demands that all attempts stored the same, apart from the ids, which are each one's own.
fn same_contents(seen: &[(Peer, Vec<Attempt>)]) -> String {
    let mut attempts = seen.iter().flat_map(|(_, attempts)| attempts);
    let Some(first) = attempts.next() else { return String::new() };
    for other in attempts {
        assert_eq!(
            other.contents,
            first.contents,
            "checksums of what {} and {} stored",
            other.peer.name(),
            first.peer.name()
        );
    }
    format!("Every attempt stored every row, and the same contents (checksum {}).", first.contents)
}

fn lines(results: &[Attempt], rows: u64) -> String {
    let polars = polars(results).map(|attempt| attempt.took);
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    let known = |time: Option<Duration>| time.map_or_else(|| "unknown".to_owned(), seconds);
    let line = |attempt: &Attempt| {
        vec![
            attempt.peer.name().to_owned(),
            thousands(rate(rows, attempt.took)),
            polars.map_or_else(String::new, |polars| times(polars, attempt.took)),
            seconds(attempt.took),
            seconds(attempt.with_start),
            seconds(attempt.used.own),
            known(attempt.used.postgres),
            known(attempt.used.rabbitmq),
            seconds(attempt.used.ml_api),
            seconds(attempt.used.harness),
            format!("{:.0}", megabytes(attempt.memory_kib[0])),
            format!("{:.0}", megabytes(attempt.memory_kib[1])),
        ]
    };
    let header = [
        "",
        "rows/s",
        "× Polars",
        "job (s)",
        "with start (s)",
        "own programs (core s)",
        "PostgreSQL (core s)",
        "RabbitMQ (core s)",
        "ML API (core s)",
        "S3 and harness (core s)",
        "memory, RSS (MB)",
        "memory, PSS (MB)",
    ];
    table(&header, results.iter().map(line).collect())
}

fn polars(results: &[Attempt]) -> Option<&Attempt> {
    results.iter().find(|attempt| attempt.peer == Peer::Polars)
}

/// How many times as fast as this.
fn times(this: Duration, took: Duration) -> String {
    format!("{:.2}", this.as_secs_f64() / took.as_secs_f64())
}

fn figures(report: &mut Report, results: &[Attempt], rows: u64) {
    let of = |peer: Peer| results.iter().find(|attempt| attempt.peer == peer);
    let queues = [of(Peer::Celery), of(Peer::Dramatiq)].into_iter().flatten().min_by_key(|attempt| attempt.took);
    let compared = [
        (of(Peer::AssayRun), of(Peer::Polars), GOAL_RUN),
        (of(Peer::AssayFleet), of(Peer::Polars), GOAL_FLEET),
        (of(Peer::AssayFleet), queues, GOAL_FLEET_OF_QUEUES),
    ];
    for (ours, theirs, goal) in compared {
        let Some((ours, theirs)) = ours.zip(theirs) else { continue };
        let ratio = theirs.took.as_secs_f64() / ours.took.as_secs_f64();
        let has_goal = rows >= GOAL_ROWS;
        report.figure(Figure {
            measurement: format!("{}, {} rows, next to {}", ours.peer.name(), count(rows), theirs.peer.name()),
            value: format!("{} rows/s", thousands(rate(rows, ours.took))),
            baseline: format!("{} rows/s", thousands(rate(rows, theirs.took))),
            ratio: format!("{ratio:.2}"),
            goal: if has_goal { format!("≥ {goal}") } else { String::new() },
            met: has_goal.then_some(ratio >= goal),
        });
    }
}

/// The date, the versions, and how it was measured.
async fn describe(options: &Options) -> String {
    let database = Database::empty().await;
    let date = database.texts("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')").await.concat();
    let api = match options.api {
        Api::Reference => "the reference ML API",
        Api::Fastapi => "an ML API of FastAPI in one process",
    };
    format!(
        "{date}; medians of {} in turns; {api}. Assay {}; {}.\n\n\
         *job*: from the first request to S3 to the last stored row, with workers that are up; Assay's includes the start of its loader or of its one \
         process. *with start*: from the start of the first process to the end of the one that was told what to load.",
        options.turns,
        env!("CARGO_PKG_VERSION"),
        peer::versions(),
    )
}

impl Attempt {
    /// The median of each figure by itself.
    fn median_of(peer: Peer, attempts: &[Self]) -> Self {
        let times = |of: fn(&Self) -> Duration| median(attempts.iter().map(of).collect());
        let known = |of: fn(&Self) -> Option<Duration>| {
            attempts.iter().map(of).collect::<Option<Vec<_>>>().map(median::<Duration>)
        };
        Self {
            peer,
            took: times(|attempt| attempt.took),
            with_start: times(|attempt| attempt.with_start),
            used: meter::Used {
                own: times(|attempt| attempt.used.own),
                ml_api: times(|attempt| attempt.used.ml_api),
                harness: times(|attempt| attempt.used.harness),
                postgres: known(|attempt| attempt.used.postgres),
                rabbitmq: known(|attempt| attempt.used.rabbitmq),
            },
            memory_kib: [0, 1].map(|kind| median(attempts.iter().map(|attempt| attempt.memory_kib[kind]).collect())),
            contents: attempts.last().map(|attempt| attempt.contents.clone()).unwrap_or_default(),
        }
    }
}
