//! `assay run FILE` without any service: time until the first row is stored, and until all are.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_tests::{DEADLINE, Program, law};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{sleep, timeout};

use crate::options::Options;
use crate::report::{Figure, Report, count, median};
use crate::source::SourceFiles;

/// Interval between two reads of the database.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Measures several runs.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let rows = options.start_up_rows;
    let file = sources.of(rows).await;
    let mut seen = Vec::new();
    for _ in 0..options.start_up_times {
        seen.push(one(&file, rows).await);
    }
    let each = seen.iter().map(|(first, all)| format!("- {}, {}\n", seconds(*first), seconds(*all)));
    let text = format!("First row stored, and all of {} rows:\n\n{}", count(rows), each.collect::<String>());
    report.section("Start-up: `assay run FILE`", &text);
    let (first, all): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
    for (what, times) in [("first row stored", first), ("end", all)] {
        report.figure(Figure {
            measurement: format!("`assay run`, {} rows: from its start to the {what}", count(rows)),
            value: seconds(median(times)),
            ..Figure::default()
        });
    }
}

async fn one(file: &Path, rows: u64) -> (Duration, Duration) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let database = folder.path().join("assay.db");
    let program = Program::new("assay").arg("run").arg(file).within(folder.path());
    let began = Instant::now();
    let process = program.start();
    let first = async {
        while !holds_a_row(&database).await {
            assert!(process.is_running(), "assay ended before it stored anything:\n{}", process.log());
            sleep(POLL_INTERVAL).await;
        }
        began.elapsed()
    };
    let first = timeout(DEADLINE, first).await.expect("a row is stored");
    process.until_ended().await;
    let all = began.elapsed();
    process.end().await.expect_exit(0);
    let tally = law::only(law::holds_in_file(&database).await);
    assert_eq!(tally.total(), rows, "rows of the file and rows read");
    (first, all)
}

/// Whether a transaction is stored; false while the file or its tables do not exist.
async fn holds_a_row(database: &Path) -> bool {
    if !database.exists() {
        return false;
    }
    let options = SqliteConnectOptions::new().filename(database).read_only(true).disable_statement_logging();
    let Ok(mut connection) = SqliteConnection::connect_with(&options).await else { return false };
    let asked = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM transactions)").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    asked.unwrap_or(false)
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
