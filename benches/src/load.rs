//! One object through a fleet, from the start of the loader to its end with `--wait`: how long it took, and what each process
//! used for it.

use std::time::{Duration, Instant};

use assay_tests::{DEADLINE, law};
use assay_transaction::Tally;

use crate::fleet::{Fleet, Stages};
use crate::report::{count, megabytes, of_a_million, table};
use crate::usage::{Usage, cpu, cpu_of_service};

/// Between two looks at the loader, which does nothing but wait at its end: more often would cost more than is missed.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) rows: u64,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) costs: Vec<Cost>,
}

/// What one process, or several of a kind, used while an object was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) of: &'static str,
    /// None where the process is not ours to ask.
    pub(crate) cpu: Option<Duration>,
    /// The most that one of them ever had resident; none for what is not Assay.
    pub(crate) peak_kib: Option<u64>,
}

/// How long a load of so many rows may take.
pub(crate) fn patience(rows: u64) -> Duration {
    DEADLINE + Duration::from_millis(rows)
}

/// Loads an object of so many rows, and demands the law.
pub(crate) async fn load(fleet: &Fleet<'_>, stages: &Stages, object: &str, rows: u64) -> Load {
    // What others have changed is not to be written on this load's account.
    fleet.stack.database.execute("CHECKPOINT").await;
    let before = costs(fleet, stages);
    let began = Instant::now();
    let loader = fleet.loader(object).arg("--wait").start();
    let usage = tokio::time::timeout(patience(rows), Usage::until_ended(&loader, LOOK)).await;
    let took = began.elapsed();
    let after = costs(fleet, stages);
    let usage = usage.unwrap_or_else(|_| panic!("the loader is not done in time; it said:\n{}", loader.log()));
    loader.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    let tally = law::holds_for_one_run(&fleet.stack.database).await;
    assert_eq!(tally.total(), rows, "rows of the object and rows read");
    let of_loader = Cost { of: "loader", cpu: Some(usage.cpu), peak_kib: Some(usage.peak_kib) };
    let used = |(before, after): (Cost, Cost)| Cost {
        cpu: after.cpu.zip(before.cpu).map(|(after, before)| after.saturating_sub(before)),
        ..after
    };
    let costs = std::iter::once(of_loader).chain(before.into_iter().zip(after).map(used)).collect();
    Load { rows, took, tally, costs }
}

/// Of all that runs beside the loader, so far.
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

impl Load {
    /// The profile: CPU seconds for each million rows, and peak memory.
    pub(crate) fn profile(&self) -> String {
        let seconds = |cpu: Duration| format!("{:.2}", of_a_million(self.rows, cpu));
        let row = |of: &str, cpu: Option<Duration>, peak: Option<u64>| {
            let peak = peak.map_or_else(String::new, |kib| format!("{:.1}", megabytes(kib)));
            vec![of.to_owned(), cpu.map_or_else(|| "not known".to_owned(), seconds), peak]
        };
        let total: Option<Duration> = self.costs.iter().map(|cost| cost.cpu).sum();
        let rows = self.costs.iter().map(|cost| row(cost.of, cost.cpu, cost.peak_kib));
        let rows = rows.chain([row("all", total, None)]).collect();
        let Tally { predicted, invalid, failed, duplicate } = self.tally;
        format!(
            "{} rows in {:.2} s: {} predicted, {} invalid, {} failed, {} duplicate; the law holds.\n\n{}",
            count(self.rows),
            self.took.as_secs_f64(),
            count(predicted),
            count(invalid),
            count(failed),
            count(duplicate),
            table(&["process", "CPU seconds for a million rows", "peak memory (MB)"], rows)
        )
    }
}
