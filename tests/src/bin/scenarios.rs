//! Plays a scenario at full size, or at the size it is given, and prints its figures. It needs what the end-to-end tests
//! need, and the programs beside it: `scripts/with-services target/release/scenarios NAME`.

use std::time::Duration;

use assay_tests::scenarios::{
    Backlog, BrokenModel, LiveLatency, RowsAtFault, backlog, broken_model, live_latency, observed, rows_at_fault,
};
use clap::{Parser, ValueEnum};

/// Plays what must hold at any size, and prints its figures. Exits with 101 where it does not hold.
#[derive(Parser)]
struct Arguments {
    /// Which.
    scenario: Scenario,
    /// Rows of the file.
    #[arg(long)]
    rows: Option<u64>,
    /// Requests that a predictor has under way at a time, where live transactions are measured.
    #[arg(long)]
    workers: Option<u16>,
    /// How long each trouble, or the time without one, lasts.
    #[arg(long)]
    seconds: Option<u64>,
    /// Chooses the rows at fault, and makes the file.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// 50 rows that the ML API fails on and 20 that it refuses, among 100,000: exactly those fail, at few requests.
    RowsAtFault,
    /// An ML API that answers 500, then 422, then refuses connections, to everything, 60 s each: no row fails.
    BrokenModel,
    /// 1,000,000 rows and no predictors for 60 s: the queue keeps its bound and the loader its memory.
    Backlog,
    /// 200 live transactions a second, alone and beside 1,000,000 rows: how long they take, and what they cost the batch.
    LiveLatency,
    /// A fleet at work that the Prometheus of TEST_PROMETHEUS scrapes: every query of the dashboard returns data, every rule can be
    /// evaluated, and every command of the runbook works as written.
    Observed,
}

#[tokio::main]
async fn main() {
    let Arguments { scenario, rows, workers, seconds, seed } = Arguments::parse();
    let seconds = seconds.map(Duration::from_secs);
    match scenario {
        Scenario::RowsAtFault => {
            let full = RowsAtFault::default();
            let (rows, seed) = (rows.unwrap_or(full.rows), seed.unwrap_or(full.seed));
            print(&rows_at_fault(RowsAtFault { rows, seed, ..full }).await);
        }
        Scenario::BrokenModel => {
            let full = BrokenModel::default();
            let (rows, each) = (rows.unwrap_or(full.rows), seconds.unwrap_or(full.each));
            print(&broken_model(BrokenModel { rows, each }).await);
        }
        Scenario::LiveLatency => {
            let full = LiveLatency::default();
            let (rows, workers, idle) =
                (rows.unwrap_or(full.rows), workers.unwrap_or(full.workers), seconds.unwrap_or(full.idle));
            print(&live_latency(LiveLatency { rows, workers, idle, ..full }).await);
        }
        Scenario::Observed => print(&observed().await),
        Scenario::Backlog => {
            let full = Backlog::default();
            let (rows, waits) = (rows.unwrap_or(full.rows), seconds.unwrap_or(full.waits));
            print(&backlog(Backlog { rows, waits, ..full }).await);
        }
    }
}

#[expect(clippy::print_stdout, reason = "figures are what the program is for")]
fn print(figures: &impl std::fmt::Display) {
    println!("{figures}");
}
