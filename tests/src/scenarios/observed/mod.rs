//! A fleet at work under a real Prometheus: every query of the dashboard returns data, every alert can be evaluated, and every
//! command of the runbook works as written.
//!
//! - `prometheus`: the server, and what it answers
//! - `dashboard`: the queries of `deploy/grafana`
//! - `runbook`: the commands of `docs/runbook.md`
//! - `alarm`: RabbitMQ short of memory, as the metrics and the alert on it show
//!
//! The fleet is one of each program and a second predictor. Files with rows at fault come all the time, live transactions too, and
//! the ML API refuses some rows and now and then everything.

mod alarm;
mod dashboard;
mod prometheus;
mod runbook;

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use self::prometheus::Prometheus;
use crate::{DEADLINE, Program, Rows, Running, Script, Stack, post, row};

/// Between two live transactions.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// Live transactions between two files.
const FILE_EVERY: u64 = 20;
/// Of so many live transactions, the last ones find an ML API that is busy.
const CYCLE: u64 = 100;
const BUSY: u64 = 15;
/// Rows of a file.
const ROWS: u64 = 400;

/// What was seen.
#[derive(Debug)]
pub struct Figures {
    queries: usize,
    rules: f64,
    commands: usize,
    until_data: Duration,
}

/// A program that shows its metrics.
struct Shown {
    stage: &'static str,
    program: Running,
    metrics: String,
}

/// Plays it. It needs `TEST_PROMETHEUS`, the path of the server's program.
pub async fn observed() -> Figures {
    let stack = Stack::new(Script::Refuse).await;
    stack.s3.put("drops", "in/first.csv", Rows::valid(ROWS));
    let mut fleet = Vec::new();
    for (stage, program) in [
        ("predictor", stack.predictor().env("API_RATE_LIMIT", "100000")),
        ("predictor", stack.predictor().env("API_RATE_LIMIT", "100000")),
        ("writer", stack.writer().env("PREDICTION_FEED", "all")),
        ("loader", stack.watcher().env("WATCH_INTERVAL", "1s")),
        ("streamer", stack.known_to(Program::new("streamer")).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0")),
    ] {
        fleet.push(Shown::start(stage, program).await);
    }
    let streamer = fleet.last_mut().expect("the streamer was started last");
    let transactions = streamer.program.address_after("are accepted at http://").await;
    let began = Instant::now();
    let prometheus = Prometheus::start(fleet.iter().map(|shown| (shown.stage, shown.metrics.as_str()))).await;

    let queries = dashboard::queries();
    let all_have_data = dashboard::until_all_have_data(&prometheus, &queries);
    let until_data = tokio::select! {
        () = traffic(&stack, &transactions) => unreachable!("it goes on and on"),
        seen = timeout(2 * DEADLINE, all_have_data) => seen.map(|()| began.elapsed()),
    };
    if until_data.is_err() {
        let without = dashboard::without_data(&prometheus, &queries).await;
        panic!("{} queries of the dashboard return nothing:\n{}", without.len(), without.join("\n"));
    }
    let rules = prometheus.value("sum(prometheus_rule_group_rules)").await.expect("the rules are loaded");
    let failures = prometheus.value("sum(prometheus_rule_evaluation_failures_total)").await;
    assert_eq!(failures, Some(0.0), "every rule can be evaluated on the metrics of a fleet");

    // From here on every transaction is scored, so that what a person does has an effect.
    stack.ml_api.set(Script::Score);
    let addresses = fleet.iter().map(|shown| (shown.stage, shown.metrics.as_str()));
    let commands = runbook::play(&stack, addresses, &prometheus).await;
    alarm::blocks_publishing(&prometheus, &transactions).await;
    for shown in &fleet {
        assert!(shown.program.is_running(), "{} has ended: {}", shown.stage, shown.program.log());
    }
    Figures { queries: queries.len(), rules, commands, until_data: until_data.expect("it was reported above") }
}

impl Shown {
    async fn start(stage: &'static str, program: Program) -> Self {
        let mut program = program.env("METRICS_ADDR", "127.0.0.1:0").start();
        let metrics = program.address_after("health and metrics are at http://").await;
        Self { stage, program, metrics }
    }
}

/// Files and live transactions, and an ML API that refuses some: until dropped.
async fn traffic(stack: &Stack, transactions: &str) {
    let mut ticks = interval(LIVE_EVERY);
    for number in 0.. {
        ticks.tick().await;
        if number % FILE_EVERY == 0 {
            stack.s3.put("drops", &format!("in/{number}.csv"), file((number + 1) * ROWS));
        }
        match number % CYCLE {
            0 => stack.ml_api.set(Script::Refuse),
            at if at == CYCLE - BUSY => stack.ml_api.set(Script::Busy),
            _ => {}
        }
        let answer = post(transactions, "/transactions", &live(number)).await.expect("the streamer answers");
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
}

/// A live transaction.
fn live(number: u64) -> String {
    format!(
        r#"{{"id":"live {number}","description":"Café","amount":-9.50,"timestamp":"2026-01-11T10:00:00Z","operation_type":"card_payment","side":"debit"}}"#
    )
}

/// Rows from a number on; among them two that the model refuses, one that it fails on, and three that break a rule.
fn file(first: u64) -> Rows {
    let change = |number: u64, row: String| match number {
        7 | 107 => row.replace("Card payment", "refuse me"),
        207 => row.replace("Card payment", "fail on me"),
        8 | 108 | 208 => row.replace(",-", ",minus "),
        _ => row,
    };
    (1..=ROWS).fold(Rows::header(), |file, number| file.with(&change(number, row(first + number))))
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queries, rules, commands, until_data } = self;
        write!(
            formatter,
            "observed: all {queries} queries of the dashboard returned data after {:.0} s, {rules} rules were evaluated without an \
             error, {commands} commands of the runbook worked as written, and a blocked \
             publisher raised its alert",
            until_data.as_secs_f64()
        )
    }
}
