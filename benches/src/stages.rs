//! Measures each stage alone at full speed: the loader fills a queue without consumers, then one predictor scores its chunks, then
//! one writer stores them. No stage waits for another, so the cost of a row in each stage is measurable.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_tests::{Queue, Running, law};
use tokio::time::{sleep, timeout};

use crate::fleet::{Fleet, ModelServer, end};
use crate::load::time_limit;
use crate::options::Options;
use crate::report::{Figure, Report, count, median, megabytes, rate, table, thousands};
use crate::source::SourceFiles;
use crate::usage::{Usage, cpu, cpu_of_service};

/// Interval between two checks of a stage's progress.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Smaller sizes are measured several times, because single measurements vary.
const MANY: u64 = 1_000_000;
const TIMES_OF_FEW: usize = 5;
/// From this size on, the CPU time of a row should be constant.
const FROM: u64 = 100_000;
const GOAL_SPREAD: f64 = 0.15;
/// Goal for the loader, in rows per second of a core.
const GOAL_LOADER: f64 = 400_000.0;
const STAGES: [&str; 3] = ["loader", "predictor", "writer"];

/// Measurements of one stage.
#[derive(Debug, Clone, Copy)]
struct Stage {
    /// Rows per second, from the first to the last.
    rate: f64,
    /// CPU time of the process, for all rows.
    cpu: Duration,
    peak_kib: u64,
    /// CPU time of RabbitMQ and PostgreSQL meanwhile.
    services: [Option<Duration>; 2],
}

/// Measures each size.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let mut lines = Vec::new();
    let mut of_sizes: Vec<(u64, [Stage; 3])> = Vec::new();
    for rows in &options.stage_rows {
        let file = sources.of(*rows).await;
        let mut seen = Vec::new();
        for _ in 0..if *rows < MANY { TIMES_OF_FEW } else { 1 } {
            seen.push(one(options, &file, *rows).await);
        }
        let stages =
            [0, 1, 2].map(|stage| Stage::median_of(&seen.iter().map(|stages| stages[stage]).collect::<Vec<_>>()));
        lines.extend(STAGES.iter().zip(stages).map(|(name, stage)| stage.line(name, *rows)));
        of_sizes.push((*rows, stages));
    }
    let header = [
        "stage",
        "rows",
        "rows/s",
        "rows/s per core",
        "CPU per row (µs)",
        "RabbitMQ meanwhile (µs)",
        "PostgreSQL meanwhile (µs)",
        "peak memory (MB)",
    ];
    report.section("Each stage alone", &table(&header, lines));
    let Some((rows, stages)) = of_sizes.last() else { return };
    for (name, stage) in STAGES.iter().zip(stages) {
        let of_core = rate(*rows, stage.cpu);
        let has_goal = *name == "loader";
        report.figure(Figure {
            measurement: format!("{name} alone, {} rows", count(*rows)),
            value: format!("{} rows/s, {} of a core", thousands(stage.rate), thousands(of_core)),
            goal: if has_goal { format!("{} of a core", thousands(GOAL_LOADER)) } else { String::new() },
            met: has_goal.then_some(of_core >= GOAL_LOADER),
            ..Figure::default()
        });
    }
    spread(report, &of_sizes);
}

/// Reports the spread of the CPU time of a row over all sizes.
fn spread(report: &mut Report, of_sizes: &[(u64, [Stage; 3])]) {
    let compared: Vec<_> = of_sizes.iter().filter(|(rows, _)| *rows >= FROM).collect();
    let [(least, _), .., (most, _)] = compared.as_slice() else { return };
    for (place, name) in STAGES.into_iter().enumerate().take(2) {
        let micros: Vec<f64> = compared.iter().map(|(rows, stages)| micros(stages[place].cpu, *rows)).collect();
        let (low, high) =
            micros.iter().fold((f64::MAX, 0.0_f64), |(low, high), time| (low.min(*time), high.max(*time)));
        let spread = high / low - 1.0;
        report.figure(Figure {
            measurement: format!("{name}, CPU per row from {} to {} rows", count(*least), count(*most)),
            value: format!("{low:.2} to {high:.2} µs"),
            ratio: format!("+{:.0} %", 100.0 * spread),
            goal: format!("< {:.0} %", 100.0 * GOAL_SPREAD),
            met: Some(spread < GOAL_SPREAD),
            ..Figure::default()
        });
    }
}

/// Runs the stages one after the other, with queues that hold all output of the previous stage.
async fn one(options: &Options, file: &Path, rows: u64) -> [Stage; 3] {
    let model_server = ModelServer::reference(Duration::ZERO).await;
    // Each chunk has at least one row, so the queue cannot fill up.
    let fleet = Fleet::new(options, &model_server, &[("QUEUE_MAX_LENGTH", rows.to_string())]).await;
    let object = fleet.stack.s3.put_file("transactions", "rows.csv", file);
    fleet.stack.database.execute("CHECKPOINT").await;
    let loader = loader(&fleet, &object, rows).await;
    let predictor = predictor(&fleet, rows).await;
    let writer = writer(&fleet, rows).await;
    let tally = law::holds_for_one_run(&fleet.stack.database).await;
    assert_eq!(tally.total(), rows, "rows of the object and rows read");
    [loader, predictor, writer]
}

async fn loader(fleet: &Fleet<'_>, object: &str, rows: u64) -> Stage {
    let mut process = fleet.loader(object).start();
    process.says("Loading s3://").await;
    let (meter, began) = (Meter::start(&process), Instant::now());
    let usage =
        timeout(time_limit(rows), Usage::until_ended(&process, POLL_INTERVAL)).await.expect("the loader ends in time");
    let took = began.elapsed();
    let stage = meter.stop(usage, rate(rows, took));
    process.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    stage
}

async fn predictor(fleet: &Fleet<'_>, rows: u64) -> Stage {
    let chunks = fleet.stack.database.count("SELECT chunks_total FROM runs").await;
    let scored = fleet.stack.broker.look_at("predictions.batch").await;
    let mut process = fleet.predictor().start();
    process.says("scoring with up to").await;
    let meter = Meter::start(&process);
    let first = until_depth(&scored, 1, rows).await;
    let began = Instant::now();
    let last = until_depth(&scored, chunks, rows).await;
    let took = began.elapsed();
    let usage = Usage::of(process.id()).expect("it runs");
    end(process).await;
    meter.stop(usage, rate(rows * (last - first) / last, took))
}

async fn writer(fleet: &Fleet<'_>, rows: u64) -> Stage {
    fleet.stack.database.execute("CHECKPOINT").await;
    let process = fleet.writer().start();
    fleet.until_consumed("predictions.batch", 1).await;
    let (meter, began) = (Meter::start(&process), Instant::now());
    fleet.stack.database.until_within("SELECT state = 'complete' FROM runs", time_limit(rows)).await;
    let took = began.elapsed();
    let usage = Usage::of(process.id()).expect("it runs");
    end(process).await;
    meter.stop(usage, rate(rows, took))
}

/// Waits until a queue holds at least this number of messages, and returns how many it holds.
async fn until_depth(queue: &Queue, messages: i64, rows: u64) -> u64 {
    let filled = async {
        loop {
            let depth = queue.depth().await;
            if i64::from(depth) >= messages {
                return u64::from(depth);
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(time_limit(rows), filled).await.expect("the predictor scores in time")
}

/// CPU times at the start of the work.
struct Meter {
    cpu: Duration,
    services: [Option<Duration>; 2],
}

impl Meter {
    fn services() -> [Option<Duration>; 2] {
        ["TEST_RABBITMQ_PID", "TEST_POSTGRES_PID"].map(cpu_of_service)
    }

    fn start(process: &Running) -> Self {
        Self { cpu: cpu(process.id()).unwrap_or_default(), services: Self::services() }
    }

    fn stop(&self, usage: Usage, rate: f64) -> Stage {
        let now = Self::services();
        let used = |service: usize| Some(now[service]?.saturating_sub(self.services[service]?));
        Stage { rate, cpu: usage.cpu.saturating_sub(self.cpu), peak_kib: usage.peak_kib, services: [used(0), used(1)] }
    }
}

impl Stage {
    fn median_of(seen: &[Self]) -> Self {
        let service =
            |place: usize| seen.iter().map(|stage| stage.services[place]).collect::<Option<Vec<_>>>().map(median);
        Self {
            rate: median(seen.iter().map(|stage| stage.rate).collect()),
            cpu: median(seen.iter().map(|stage| stage.cpu).collect()),
            peak_kib: median(seen.iter().map(|stage| stage.peak_kib).collect()),
            services: [service(0), service(1)],
        }
    }

    fn line(&self, name: &str, rows: u64) -> Vec<String> {
        let of_row = |cpu: Duration| format!("{:.2}", micros(cpu, rows));
        let [rabbitmq, postgres] = self.services.map(|cpu| cpu.map_or_else(|| "unknown".to_owned(), of_row));
        vec![
            name.to_owned(),
            count(rows),
            thousands(self.rate),
            thousands(rate(rows, self.cpu)),
            of_row(self.cpu),
            rabbitmq,
            postgres,
            format!("{:.1}", megabytes(self.peak_kib)),
        ]
    }
}

/// Microseconds per row.
fn micros(cpu: Duration, rows: u64) -> f64 {
    1e6 / rate(rows, cpu)
}
