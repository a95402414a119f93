//! Loads rows end to end, compares with COPY of the same final rows, and measures CPU time and memory of each process.

use assay_transaction::Tally;

use crate::copy::{Copied, copy, indexes};
use crate::fleet::{Fleet, ModelServer};
use crate::load::{LoadResult, load};
use crate::options::Options;
use crate::report::{Figure, Report, count, megabytes, of_a_million, rate, thousands};
use crate::source::SourceFiles;

const ROWS: [u64; 2] = [100_000, 1_000_000];
/// Goal for the time, relative to COPY.
const GOAL_RATIO: f64 = 2.0;
/// Goal in rows per second.
const GOAL_RATE: f64 = 70_000.0;
/// The size to which the goals apply.
const GOAL_ROWS: u64 = 1_000_000;
/// Goal for the peak memory of each process, in MB.
const GOAL_MEMORY: f64 = 64.0;

/// Measures each size, with or without COPY.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report, with_copy: bool) {
    for rows in options.rows_or(&ROWS) {
        let file = sources.of(rows).await;
        let mut seen = Vec::new();
        for _ in 0..options.times {
            seen.push(one(options, rows, &file, with_copy, report).await);
        }
        seen.sort_by_key(|(load, _)| load.took);
        let (load, copied) = seen.swap_remove(seen.len() / 2);
        if let Some(copied) = copied {
            against_copy(report, &load, copied);
        }
        memory(report, &load);
    }
}

async fn one(
    options: &Options,
    rows: u64,
    file: &std::path::Path,
    with_copy: bool,
    report: &mut Report,
) -> (LoadResult, Option<Copied>) {
    let model_server = ModelServer::reference(std::time::Duration::ZERO).await;
    let fleet = Fleet::new(options, &model_server, &[]).await;
    let object = fleet.stack.s3.put_file("transactions", "rows.csv", file);
    let stages = fleet.start_stages(options.predictors).await;
    let load = load(&fleet, &stages, &object, rows).await;
    stages.end().await;
    let title = format!("{} rows, {} predictors", count(rows), options.predictors);
    report.section(&format!("End to end: {title}"), &load.profile());
    if !with_copy {
        return (load, None);
    }
    let indexes = indexes(&fleet.stack.database).await;
    let copied = copy(&fleet.stack.database).await;
    let Tally { predicted, .. } = load.tally;
    let line = |copied: &Copied| {
        let cpu = copied.cpu.map_or_else(String::new, |cpu| {
            format!(", {:.2} CPU seconds of PostgreSQL for a million rows", of_a_million(rows, cpu))
        });
        format!("- as {}: {:.2} s{cpu}\n", copied.format, copied.took.as_secs_f64())
    };
    let text = format!(
        "{} rows of each table, on one connection:\n\n{}\nInto these indexes, as above:\n\n{indexes}",
        count(predicted),
        copied.iter().map(line).collect::<String>(),
    );
    report.section(&format!("COPY of the same rows: {title}"), &text);
    let [one, other] = copied;
    (load, Some(if one.took < other.took { one } else { other }))
}

fn against_copy(report: &mut Report, load: &LoadResult, copied: Copied) {
    let ratio = load.took.as_secs_f64() / copied.took.as_secs_f64();
    let rate = rate(load.rows, load.took);
    let is_goal = load.rows == GOAL_ROWS;
    let goal = |text: String| if is_goal { text } else { String::new() };
    let measurement = format!("end to end, {} rows", count(load.rows));
    report.figure(Figure {
        measurement: format!("{measurement}, time"),
        value: format!("{:.2} s", load.took.as_secs_f64()),
        baseline: format!("{:.2} s (COPY, {})", copied.took.as_secs_f64(), copied.format),
        ratio: format!("{ratio:.2}"),
        goal: goal(format!("≤ {GOAL_RATIO:.1}")),
        met: is_goal.then_some(ratio <= GOAL_RATIO),
    });
    report.figure(Figure {
        measurement: format!("{measurement}, rate"),
        value: format!("{} rows/s", thousands(rate)),
        goal: goal(format!("{} rows/s", thousands(GOAL_RATE))),
        met: is_goal.then_some(rate >= GOAL_RATE),
        ..Figure::default()
    });
}

fn memory(report: &mut Report, load: &LoadResult) {
    let peaks: Vec<_> = load.costs.iter().filter_map(|cost| Some((cost.of, megabytes(cost.peak_kib?)))).collect();
    let value = peaks.iter().map(|(of, peak)| format!("{of} {peak:.1}")).collect::<Vec<_>>().join(", ");
    report.figure(Figure {
        measurement: format!("peak memory of a process, {} rows (MB)", count(load.rows)),
        value,
        goal: format!("< {GOAL_MEMORY:.0} each"),
        met: Some(peaks.iter().all(|(_, peak)| *peak < GOAL_MEMORY)),
        ..Figure::default()
    });
}
