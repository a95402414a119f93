//! Loads one object through a fleet, from the start of `loader --wait` to its end, and measures the time and each process.

use std::time::{Duration, Instant};

use assay_tests::{DEADLINE, law};
use assay_transaction::Tally;

use crate::fleet::{Fleet, Stages};
use crate::report::{count, megabytes, of_a_million, table};
use crate::usage::{Usage, cpu, cpu_of_service};

/// Interval between two readings of the loader's usage: at its end it only waits, so little is missed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Results of one load.
#[derive(Debug, Clone)]
pub(crate) struct LoadResult {
    pub(crate) rows: u64,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) costs: Vec<Cost>,
}

/// Usage of one process, or of several of a kind, during a load.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) of: &'static str,
    /// None if the process is not ours.
    pub(crate) cpu: Option<Duration>,
    /// Peak resident memory of the largest process; none for services.
    pub(crate) peak_kib: Option<u64>,
}

/// Longest time of a load with this number of rows.
pub(crate) fn time_limit(rows: u64) -> Duration {
    DEADLINE + Duration::from_millis(rows)
}

/// Loads an object with this number of rows, and audits the run.
pub(crate) async fn load(fleet: &Fleet<'_>, stages: &Stages, object: &str, rows: u64) -> LoadResult {
    // Earlier changes must not be written during this load.
    fleet.stack.database.execute("CHECKPOINT").await;
    let before = costs(fleet, stages);
    let began = Instant::now();
    let loader = fleet.loader(object).arg("--wait").start();
    let usage = tokio::time::timeout(time_limit(rows), Usage::until_ended(&loader, POLL_INTERVAL)).await;
    let took = began.elapsed();
    let after = costs(fleet, stages);
    let usage = usage.unwrap_or_else(|_| panic!("the loader did not end in time; its log:\n{}", loader.log()));
    loader.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    let tally = law::holds_for_one_run(&fleet.stack.database).await;
    assert_eq!(tally.total(), rows, "rows of the object and rows read");
    let of_loader = Cost { of: "loader", cpu: Some(usage.cpu), peak_kib: Some(usage.peak_kib) };
    let used = |(before, after): (Cost, Cost)| Cost {
        cpu: after.cpu.zip(before.cpu).map(|(after, before)| after.saturating_sub(before)),
        ..after
    };
    let costs = std::iter::once(of_loader).chain(before.into_iter().zip(after).map(used)).collect();
    LoadResult { rows, took, tally, costs }
}

/// Returns the usage so far of all processes except the loader.
fn costs(fleet: &Fleet<'_>, stages: &Stages) -> Vec<Cost> {
    let ours = |of, ids: &[u32]| {
        let usages = || ids.iter().filter_map(|id| Usage::of(*id));
        Cost {
            of,
            cpu: Some(usages().map(|usage| usage.cpu).sum()),
            peak_kib: usages().map(|usage| usage.peak_kib).max(),
        }
    };
    let predictors: Vec<u32> = stages.predictors.iter().map(assay_tests::Running::id).collect();
    let service = |of, variable| Cost { of, cpu: cpu_of_service(variable), peak_kib: None };
    vec![
        ours("predictors", &predictors),
        ours("writer", &[stages.writer.id()]),
        ours("ML API", &[fleet.model_server.id()]),
        service("RabbitMQ", "TEST_RABBITMQ_PID"),
        service("PostgreSQL", "TEST_POSTGRES_PID"),
        Cost { of: "S3 server and harness", cpu: cpu(std::process::id()), peak_kib: None },
    ]
}

impl LoadResult {
    /// Formats CPU seconds per million rows and peak memory of each process.
    pub(crate) fn profile(&self) -> String {
        let seconds = |cpu: Duration| format!("{:.2}", of_a_million(self.rows, cpu));
        let row = |of: &str, cpu: Option<Duration>, peak: Option<u64>| {
            let peak = peak.map_or_else(String::new, |kib| format!("{:.1}", megabytes(kib)));
            vec![of.to_owned(), cpu.map_or_else(|| "unknown".to_owned(), seconds), peak]
        };
        let total: Option<Duration> = self.costs.iter().map(|cost| cost.cpu).sum();
        let rows = self.costs.iter().map(|cost| row(cost.of, cost.cpu, cost.peak_kib));
        let rows = rows.chain([row("all", total, None)]).collect();
        let Tally { predicted, invalid, failed, duplicate } = self.tally;
        format!(
            "{} rows in {:.2} s: {} predicted, {} invalid, {} failed, {} duplicate; audit passed.\n\n{}",
            count(self.rows),
            self.took.as_secs_f64(),
            count(predicted),
            count(invalid),
            count(failed),
            count(duplicate),
            table(&["process", "CPU seconds per million rows", "peak memory (MB)"], rows)
        )
    }
}
