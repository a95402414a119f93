//! How long pages of the console take: the list with ten thousand runs, and the page of a run with ten million rows behind it, beside the same pages of a
//! small database.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, ModelServer};
use crate::load::time_limit;
use crate::options::Options;
use crate::report::{Figure, Report, count, median};
use crate::source::SourceFiles;
use assay_tests::{get_text, law};

/// Rows of the run whose page is the baseline.
const SMALL: u64 = 10_000;
const LARGE: u64 = 10_000_000;
const RUNS: u64 = 10_000;
/// Times that each page is asked for; the median counts.
const TIMES: usize = 21;
/// Goals for the list of runs, and for the page of a run.
const GOALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];

/// Measures both pages.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let rows = *options.rows_or(&[LARGE]).last().unwrap_or(&LARGE);
    let model_server = ModelServer::reference(Duration::ZERO).await;
    let fleet = Fleet::new(options, &model_server, &[]).await;
    load(&fleet, sources, SMALL, "small").await;
    let mut console = fleet.stack.assay(["console"]).env("CONSOLE_ADDR", "127.0.0.1:0").start();
    let address = console.address_after("the console is at http://").await;
    let address = address.trim_end_matches('/');
    let few = [page(address, "/").await, page(address, "/runs/small").await];
    load(&fleet, sources, rows, "large").await;
    copy_runs(&fleet).await;
    let many = [page(address, "/").await, page(address, "/runs/large").await];
    console.terminate();
    console.end().await.expect_exit(0);
    let names = [format!("list of {} runs", count(RUNS)), format!("page of a run of {} rows", count(rows))];
    for (((name, many), few), goal) in names.into_iter().zip(many).zip(few).zip(GOALS) {
        let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1_000.0);
        report.figure(Figure {
            measurement: format!("console: {name}"),
            value: shown(many),
            baseline: format!("{} of {} rows", shown(few), count(SMALL)),
            ratio: format!("{:.1}", many.as_secs_f64() / few.as_secs_f64()),
            goal: format!("< {}", shown(goal)),
            met: Some(many < goal),
        });
    }
}

async fn load(fleet: &Fleet<'_>, sources: &mut SourceFiles, rows: u64, name: &str) {
    let file = sources.of(rows).await;
    let object = fleet.stack.s3.put_file("transactions", &format!("{name}.csv"), &file);
    let process = fleet.assay_run(&object).env("BATCH_RUN_ID", name).start();
    process.end_within(time_limit(rows)).await.expect_silent_about(" - ERROR - ");
    law::holds(&fleet.stack.database).await;
}

/// Adds runs: copies of the small one, with its chunks and what its commits noted.
async fn copy_runs(fleet: &Fleet<'_>) {
    for table in ["runs", "chunks", "run_statistics"] {
        let changed = match table {
            "runs" => {
                "jsonb_build_object('run_id', 'copy_' || n, 'source_key', gen_random_uuid(), \
                 'started_at', r.started_at - n * interval '1 minute')"
            }
            _ => "jsonb_build_object('run_id', 'copy_' || n)",
        };
        let copy = format!(
            "INSERT INTO {table} SELECT (jsonb_populate_record(r, {changed})).* FROM {table} r, generate_series(1, {RUNS}) n \
             WHERE r.run_id = 'small'"
        );
        fleet.stack.database.execute(&copy).await;
    }
    fleet.stack.database.execute("VACUUM ANALYZE").await;
}

/// The median time until a page is there, with all of its text.
async fn page(address: &str, path: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        let (status, text) = get_text(address, path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        times.push(began.elapsed());
        assert!(status == 200 && text.contains("</html>"), "{path}: {status} {text}");
    }
    median(times)
}
