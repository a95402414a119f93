//! Whether a row costs `assay run` more in large files than in small ones, beside COPY of the same rows into the same tables: what
//! grows with the tables' indexes grows for both.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_tests::law;
use tokio::time::timeout;

use crate::copy::copy;
use crate::fleet::{Fleet, ModelServer};
use crate::load::time_limit;
use crate::options::Options;
use crate::report::{Figure, Report, count, megabytes, of_a_million, table};
use crate::source::SourceFiles;
use crate::usage::Usage;

const ROWS: [u64; 2] = [1_000_000, 10_000_000];
/// Goal for the growth of the ratio to COPY.
const GOAL: f64 = 0.15;
/// Interval between two readings of the usage.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Times of one size.
struct Size {
    rows: u64,
    run: Duration,
    copy: Duration,
    peak_kib: u64,
}

/// Measures each size.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let mut sizes = Vec::new();
    for rows in options.rows_or(&ROWS) {
        let file = sources.faultless(rows).await;
        sizes.push(one(options, &file, rows).await);
    }
    let header = ["rows", "`assay run` (s)", "µs a row", "COPY (s)", "µs a row", "ratio", "peak memory (MB)"];
    report.section("`assay run` into PostgreSQL beside COPY", &table(&header, sizes.iter().map(Size::line).collect()));
    let [first, .., last] = sizes.as_slice() else { return };
    let growth = last.ratio() / first.ratio() - 1.0;
    report.figure(Figure {
        measurement: format!("`assay run` beside COPY, {} to {} rows", count(first.rows), count(last.rows)),
        value: format!("{:.2} × COPY", last.ratio()),
        baseline: format!("{:.2} × COPY", first.ratio()),
        ratio: format!("{:+.0} %", 100.0 * growth),
        goal: format!("< +{:.0} %", 100.0 * GOAL),
        met: Some(growth < GOAL),
    });
}

async fn one(options: &Options, file: &Path, rows: u64) -> Size {
    let model_server = ModelServer::reference(Duration::ZERO).await;
    let fleet = Fleet::new(options, &model_server, &[]).await;
    let object = fleet.stack.s3.put_file("transactions", "rows.csv", file);
    fleet.stack.database.execute("CHECKPOINT").await;
    let began = Instant::now();
    let process = fleet.assay_run(&object).start();
    let usage = timeout(time_limit(rows), Usage::until_ended(&process, POLL_INTERVAL)).await;
    let run = began.elapsed();
    let usage = usage.unwrap_or_else(|_| panic!("assay did not end in time:\n{}", process.log()));
    process.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    let tally = law::holds_for_one_run(&fleet.stack.database).await;
    assert_eq!(tally.total(), rows, "rows of the object and rows read");
    let copied = copy(&fleet.stack.database).await;
    let copy = copied.iter().map(|copied| copied.took).min().unwrap_or_default();
    Size { rows, run, copy, peak_kib: usage.peak_kib }
}

impl Size {
    fn ratio(&self) -> f64 {
        self.run.as_secs_f64() / self.copy.as_secs_f64()
    }

    fn line(&self) -> Vec<String> {
        let of_row = |time: Duration| format!("{:.2}", of_a_million(self.rows, time));
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        vec![
            count(self.rows),
            seconds(self.run),
            of_row(self.run),
            seconds(self.copy),
            of_row(self.copy),
            format!("{:.2}", self.ratio()),
            format!("{:.1}", megabytes(self.peak_kib)),
        ]
    }
}
