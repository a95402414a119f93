//! Simulations: what they send is counted, however they end.

use std::sync::Arc;

use assay_streamer::{SimulateOptions, SimulationReport, simulate};
use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::fixture::{StreamerFixture, TEST_TIMEOUT, run_of_today, transaction};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    simulate: SimulateOptions,
}

async fn run(fixture: &StreamerFixture, arguments: &[&str], shutdown: &CancellationToken) -> SimulationReport {
    let options = Options::parse_from(["streamer"].iter().chain(arguments)).simulate;
    let (broker, store) = (Arc::clone(&fixture.broker), Arc::clone(&fixture.store));
    let simulating = simulate(broker, store, &options, TEST_TIMEOUT, shutdown.clone());
    tokio::time::timeout(TEST_TIMEOUT, simulating).await.expect("it ends").unwrap()
}

#[tokio::test]
async fn the_requested_number_is_sent_and_counted() {
    let fixture = StreamerFixture::new(1_000).await;
    fixture.score();
    let never = CancellationToken::new();
    let simulated = run(&fixture, &["--rate", "2000", "--transactions", "120"], &never).await;
    assert_eq!((simulated.totals.messages, simulated.totals.rows, simulated.unsent), (120, 120, 0));
    assert!(simulated.to_string().starts_with("120 transactions accepted in 120 messages (live_simulator_"));
    // New ids each time: none is a duplicate of the first.
    let again = ["--produce-interval", "1ms", "--transactions", "30", "--min-records-per-batch", "10"];
    let simulated = run(&fixture, &again, &never).await;
    assert_eq!((simulated.totals.messages, simulated.totals.rows), (3, 30));
    let run = fixture.live_run("simulator").await.unwrap();
    assert_eq!((run.accepted, run.doubtful, run.open_counts), (Some(150), 0, 0));
    let run_id = run_of_today("simulator");
    while fixture.store.tally(&run_id).await.unwrap().predicted < 150 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_simulation_waits_for_a_full_queue() {
    let fixture = StreamerFixture::new(2).await;
    let never = CancellationToken::new();
    let then_scored = async {
        while fixture.waiting().await < 2 {
            tokio::task::yield_now().await;
        }
        fixture.score();
    };
    let (simulated, ()) =
        tokio::join!(run(&fixture, &["--rate", "10000", "--transactions", "50"], &never), then_scored);
    assert_eq!((simulated.totals.rows, simulated.totals.doubtful), (50, 0));
}

#[tokio::test]
async fn a_stopped_simulation_has_counted_accepted_messages() {
    let fixture = StreamerFixture::new(20).await;
    let stop = CancellationToken::new();
    let when_full = async {
        while fixture.waiting().await < 20 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (simulated, ()) = tokio::join!(run(&fixture, &["--rate", "5000"], &stop), when_full);
    assert_eq!(simulated.totals.rows, fixture.waiting().await);
    let run = fixture.live_run("simulator").await.unwrap();
    assert_eq!((run.accepted, run.open_counts), (Some(20), 0));
}

#[tokio::test]
async fn a_file_is_sent_once() {
    let fixture = StreamerFixture::new(100).await;
    let path = fixture.folder.path().join("rows.jsonl");
    let rows: Vec<_> = (0..7).map(|id| transaction(&id.to_string(), if id == 3 { "1.00001" } else { "1" })).collect();
    std::fs::write(&path, rows.join("\n")).unwrap();
    let arguments = [path.to_str().unwrap(), "--produce-interval", "1ms", "--producer-run-id", "till"];
    let simulated = run(&fixture, &arguments, &CancellationToken::new()).await;
    assert_eq!((simulated.totals.rows, simulated.invalid), (6, 1));
    assert_eq!(fixture.live_run("till").await.unwrap().accepted, Some(6));
}
