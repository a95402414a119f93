//! Compares Assay with a typical Python job (`benches/baseline`), with the same object and the same ML API: first the reference
//! one, then a FastAPI one, whose own ceiling is measured as well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_tests::{Database, Program, S3Server, free_port};
use serde::Deserialize;

use crate::fleet::{Fleet, ModelServer};
use crate::load::{LoadResult, load, time_limit};
use crate::options::Options;
use crate::report::{Figure, Report, count, rate, thousands};
use crate::source::SourceFiles;

/// Rows per second that the baseline must reach with the reference ML API: a comparison with a slower one is void.
const LEAST: f64 = 2_500.0;
/// Goal for the ratio with the reference ML API.
const GOAL: f64 = 25.0;
/// Goals with FastAPI: the ratio, or the share of its ceiling; one of them suffices.
const GOAL_FASTAPI: f64 = 10.0;
const GOAL_CEILING: f64 = 0.9;
/// The writer of the replaced job, and the fastest one without COPY.
const WRITER: &str = "sqlalchemy";
const FASTEST_WRITER: &str = "execute_values";

/// The last line of `pipeline.py`.
#[derive(Debug, Deserialize)]
struct Job {
    rows: u64,
    predicted: u64,
    invalid: u64,
    failed: u64,
    seconds: f64,
    rows_per_second: f64,
    peak_mb: f64,
}

/// The last line of `ceiling.py`.
#[derive(Debug, Deserialize)]
struct Ceiling {
    rows_per_second: f64,
}

/// Measures with both ML APIs.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let rows = options.baseline_rows;
    let file = sources.of(rows).await;
    let reference = ModelServer::reference(Duration::ZERO).await;
    let job = run_job(&reference, &file, rows, WRITER).await;
    let load = run_assay(options, &reference, &file, rows).await;
    report.section("Against the baseline: the reference ML API", &describe(&job, &load));
    let (figure, void) = figure("reference ML API", &job, &load);
    let ratio = rate(load.rows, load.took) / job.rows_per_second;
    report.figure(Figure { goal: format!("≥ {GOAL:.0}"), met: Some(ratio >= GOAL && !void), ..figure });
    let job = run_job(&reference, &file, rows, FASTEST_WRITER).await;
    report.section(&format!("The same baseline by {FASTEST_WRITER}"), &describe_job(&job));
    report.figure(self::figure(&format!("reference ML API, {FASTEST_WRITER}"), &job, &load).0);
    drop(reference);

    let fastapi = fastapi().await;
    let ceiling = Program::external("ceiling.py", python()).arg(script("ceiling.py")).arg(fastapi.url()).start();
    let ceiling = last_line::<Ceiling>(ceiling, Duration::from_mins(5)).await.rows_per_second;
    let job = run_job(&fastapi, &file, rows, WRITER).await;
    let load = run_assay(options, &fastapi, &file, rows).await;
    let ours = rate(load.rows, load.took);
    let (ratio, share) = (ours / job.rows_per_second, ours / ceiling);
    let text = format!(
        "Its ceiling at 100 a request is {} rows/s; Assay reaches {:.0} % of it.\n\n{}",
        thousands(ceiling),
        100.0 * share,
        describe(&job, &load)
    );
    report.section("Against the baseline: an ML API of FastAPI, in one process", &text);
    let (figure, _) = self::figure("ML API of FastAPI", &job, &load);
    report.figure(Figure {
        ratio: format!("{}, {:.0} % of the ceiling of {} rows/s", figure.ratio, 100.0 * share, thousands(ceiling)),
        goal: format!("≥ {GOAL_FASTAPI:.0}, or {:.0} % of the ceiling", 100.0 * GOAL_CEILING),
        met: Some(ratio >= GOAL_FASTAPI || share >= GOAL_CEILING),
        ..figure
    });
}

/// Runs the baseline, from its first row to its last commit.
async fn run_job(model_server: &ModelServer, file: &Path, rows: u64, writer: &str) -> Job {
    let s3 = S3Server::start().await;
    let object = s3.put_file("transactions", "rows.csv", file);
    let database = Database::migrated().await;
    let job = Program::external("pipeline.py", python())
        .arg(script("pipeline.py"))
        .env("SOURCE", object)
        .env("ENDPOINT_URL", s3.endpoint())
        .env("KEY", S3Server::KEY)
        .env("SECRET", S3Server::SECRET)
        .env("DATABASE_URL", database.url())
        .env("ML_API_URL", model_server.url())
        .env("WRITER", writer);
    database.execute("CHECKPOINT").await;
    let job: Job = last_line(job.start(), time_limit(rows)).await;
    assert_eq!((job.rows, job.failed), (rows, 0), "rows that the baseline read, and those that failed");
    job
}

/// Runs Assay, from the start of its loader to its end.
async fn run_assay(options: &Options, model_server: &ModelServer, file: &Path, rows: u64) -> LoadResult {
    let fleet = Fleet::new(options, model_server, &[]).await;
    let object = fleet.stack.s3.put_file("transactions", "rows.csv", file);
    let stages = fleet.start_stages(options.predictors).await;
    let load = load(&fleet, &stages, &object, rows).await;
    stages.end().await;
    load
}

/// Starts the ML API of FastAPI.
pub(crate) async fn fastapi() -> ModelServer {
    let port = free_port().to_string();
    let server = Program::external("fastapi_api.py", python()).arg(script("fastapi_api.py")).args(["--port", &port]);
    ModelServer::other(server.start(), &format!("127.0.0.1:{port}")).await
}

/// The Python with the packages of the scripts.
fn python() -> String {
    std::env::var("BENCH_BASELINE_PYTHON")
        .expect("BENCH_BASELINE_PYTHON is not set: run scripts/bench, which provisions it")
}

fn script(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/baseline")).join(name)
}

async fn last_line<T: for<'de> Deserialize<'de>>(process: assay_tests::Running, deadline: Duration) -> T {
    let ended = process.end_within(deadline).await;
    let line = ended.expect_exit(0).stdout.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}\n{}", ended.name, ended.stderr))
}

/// Returns the comparison, and whether it is void.
fn figure(with: &str, job: &Job, load: &LoadResult) -> (Figure, bool) {
    let (ours, void) = (rate(load.rows, load.took), job.rows_per_second < LEAST);
    let ratio = format!("{:.1}", ours / job.rows_per_second);
    let figure = Figure {
        measurement: format!("Python baseline, {with}, {} rows", count(load.rows)),
        value: format!("{} rows/s", thousands(ours)),
        baseline: format!("{} rows/s", thousands(job.rows_per_second)),
        ratio: if void { format!("{ratio} (void: the baseline is below {})", thousands(LEAST)) } else { ratio },
        ..Figure::default()
    };
    (figure, void)
}

fn describe(job: &Job, load: &LoadResult) -> String {
    format!("{}\n\nAssay: {}", describe_job(job), load.profile())
}

fn describe_job(job: &Job) -> String {
    let Job { rows, predicted, invalid, failed, seconds, rows_per_second, peak_mb } = job;
    format!(
        "The baseline: {} rows in {seconds:.2} s, {} per second, with {peak_mb:.0} MB: {} predicted, {} invalid, {} failed.",
        count(*rows),
        thousands(*rows_per_second),
        count(*predicted),
        count(*invalid),
        count(*failed),
    )
}
