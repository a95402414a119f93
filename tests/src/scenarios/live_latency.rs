//! Live transactions at a steady rate, alone and beside a large batch on the same predictors: how long each takes from its
//! publish to the moment when a reader of the database sees it, and what it costs the batch.
//!
//! A transaction's time runs from when it was due, so that a publisher that falls behind makes no figure better. The database
//! is asked every few milliseconds which messages are recorded: what is shown is later than the truth by that much at most.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use uuid::Uuid;

use super::generated;
use crate::{DEADLINE, Program, Running, Script, Stack};

/// Between two times that the database is asked.
const LOOK: Duration = Duration::from_millis(5);
/// Left out of the figures at the beginning, while connections are opened.
const WARM_UP: Duration = Duration::from_secs(2);

/// How large, and how long.
#[derive(Debug, Clone, Copy)]
pub struct LiveLatency {
    /// Rows of the batch.
    pub rows: u64,
    /// Live transactions a second.
    pub rate: u32,
    /// How long they come without a batch.
    pub idle: Duration,
    /// How long the ML API takes for each request.
    pub api: Duration,
    /// `API_MAX_WORKERS` of each of the two predictors.
    pub workers: u16,
}

impl Default for LiveLatency {
    fn default() -> Self {
        let (idle, api) = (Duration::from_secs(30), Duration::from_millis(50));
        Self { rows: 1_000_000, rate: 200, idle, api, workers: 5 }
    }
}

/// How long transactions took.
#[derive(Debug, Clone, Copy)]
struct Latencies {
    transactions: usize,
    p50: Duration,
    p95: Duration,
    p99: Duration,
    most: Duration,
}

/// What was seen.
#[derive(Debug)]
pub struct Figures {
    played: LiveLatency,
    idle: Latencies,
    loaded: Latencies,
    /// How long the batch took alone, and beside the live transactions.
    alone: Duration,
    beside: Duration,
}

/// Plays it.
pub async fn live_latency(played: LiveLatency) -> Figures {
    let stack = Stack::new(Script::Score).await;
    let mut ml_api = Program::new("ml-api")
        .args(["--port", "0"])
        .env("ML_API_DELAY", format!("{}ms", played.api.as_millis()))
        .start();
    ml_api.says("listens on http://").await;
    let log = ml_api.log();
    let url = log.split("listens on ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("its address");
    let predictor = || {
        let program = stack.predictor().env("ML_API_URL", url).env("API_MAX_WORKERS", played.workers.to_string());
        program.start()
    };
    let mut stages: Vec<Running> = vec![predictor(), predictor(), stack.writer().without("FLUSH_INTERVAL").start()];
    stages[0].says("scoring with up to").await;
    stages[1].says("scoring with up to").await;
    let files = [1, 2].map(|seed| generated::transactions(played.rows, seed));
    let [first, second] = files;
    let (first, second) = (first.await, second.await);
    let objects =
        [stack.s3.put("transactions", "alone.csv", first), stack.s3.put("transactions", "beside.csv", second)];

    let idle = async { tokio::time::sleep(played.idle).await };
    let idle = Live::start(&stack, "idle", played.rate).await.during(idle).await.0;
    let alone = load(&stack, &objects[0], played.rows).await;
    let live = Live::start(&stack, "loaded", played.rate).await;
    let (loaded, beside) = live.during(load(&stack, &objects[1], played.rows)).await;

    for stage in &stages {
        stage.terminate();
    }
    for stage in stages {
        stage.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    }
    Figures { played, idle, loaded, alone, beside }
}

/// Loads an object, and tells how long that took.
async fn load(stack: &Stack, object: &str, rows: u64) -> Duration {
    let began = Instant::now();
    let loader = stack.loader(object).arg("--wait").env("WAIT_TIMEOUT", "1h").start();
    let time_limit = DEADLINE + Duration::from_millis(rows);
    let ended = loader.end_within(time_limit).await;
    let took = began.elapsed();
    ended.expect_exit(0).expect_says(&format!("Pipeline complete: {rows} processed, 0 failed, 0 invalid"));
    took
}

/// Live transactions of one producer, which come from now on.
struct Live<'a> {
    stack: &'a Stack,
    producer: &'static str,
    channel: lapin::Channel,
    _connection: lapin::Connection,
    rate: u32,
}

impl<'a> Live<'a> {
    async fn start(stack: &'a Stack, producer: &'static str, rate: u32) -> Self {
        let connection = lapin::Connection::connect(stack.broker.url(), lapin::ConnectionProperties::default());
        let connection = connection.await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("it opens a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("it confirms");
        Self { stack, producer, channel, _connection: connection, rate }
    }

    /// Sends them for as long as something takes, and waits until each is stored.
    async fn during<T>(self, something: impl Future<Output = T>) -> (Latencies, T) {
        let began = Instant::now();
        let is_over = AtomicBool::new(false);
        let lasting = async {
            let result = something.await;
            is_over.store(true, Relaxed);
            result
        };
        let (due, seen, result) = tokio::join!(self.send(began, &is_over), self.watch(&is_over), lasting);
        let messages: HashMap<i64, usize> =
            sqlx::query_as("SELECT chunk, message FROM live_messages WHERE run_id LIKE 'amqp_' || $1 || '_%'")
                .bind(self.producer)
                .fetch_all(self.stack.database.pool())
                .await
                .expect("they are numbered")
                .into_iter()
                .map(|(chunk, message): (i64, String)| (chunk, message.parse().expect("a number is its name")))
                .collect();
        assert_eq!((messages.len(), seen.len()), (due.len(), due.len()), "each is stored once");
        let warm = began + WARM_UP.min(began.elapsed() / 4);
        let taken = seen.iter().map(|(chunk, at)| (due[messages[chunk]], *at)).filter(|(due, _)| *due >= warm);
        (Latencies::of(taken.map(|(due, at)| at.saturating_duration_since(due)).collect()), result)
    }

    /// Publishes one whenever it is due; tells when that was.
    async fn send(&self, began: Instant, is_over: &AtomicBool) -> Vec<Instant> {
        let exchange = format!("{}assay.transactions", self.stack.broker.prefix());
        let mut due = Vec::new();
        let mut confirms = Vec::new();
        while !is_over.load(Relaxed) {
            let at = began + Duration::from_secs(1) * u32::try_from(due.len()).expect("few") / self.rate;
            sleep_until(at.into()).await;
            let body = format!(
                r#"{{"id":"{}","description":"Carrefour City Paris","amount":-12.50,"timestamp":"2026-01-11T10:00:00Z","operation_type":"card_payment","side":"debit"}}"#,
                Uuid::new_v4()
            );
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_app_id(self.producer.into())
                .with_message_id(due.len().to_string().into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent = self.channel.basic_publish(
                exchange.as_str().into(),
                "realtime".into(),
                options,
                body.as_bytes(),
                properties,
            );
            confirms.push(sent.await.expect("it is sent"));
            due.push(at);
        }
        for confirm in confirms {
            let confirmed = confirm.await.expect("it is confirmed");
            assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "it is in the queue");
        }
        due
    }

    /// Sees which messages are recorded, until all are.
    async fn watch(&self, is_over: &AtomicBool) -> Vec<(i64, Instant)> {
        let pool: &PgPool = self.stack.database.pool();
        let run: String = format!("amqp_{}_", self.producer);
        let mut seen = Vec::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut run_id: Option<String> = None;
        let mut ended: Option<Instant> = None;
        loop {
            looks.tick().await;
            if run_id.is_none() {
                run_id = sqlx::query_scalar("SELECT run_id FROM live_runs WHERE run_id LIKE $1 || '%'")
                    .bind(&run)
                    .fetch_optional(pool)
                    .await
                    .expect("the database answers");
            }
            let last = seen.last().map_or(-1, |(chunk, _)| *chunk);
            let chunks: Vec<i64> =
                sqlx::query_scalar("SELECT chunk FROM chunks WHERE run_id = $1 AND chunk > $2 ORDER BY chunk")
                    .bind(run_id.as_deref().unwrap_or_default())
                    .bind(last)
                    .fetch_all(pool)
                    .await
                    .expect("the database answers");
            let now = Instant::now();
            if chunks.is_empty() && is_over.load(Relaxed) {
                // Nothing has come for a while after the last was sent.
                let since = *ended.get_or_insert(now);
                if now.duration_since(since) > Duration::from_secs(3) {
                    return seen;
                }
            } else {
                ended = None;
            }
            seen.extend(chunks.into_iter().map(|chunk| (chunk, now)));
        }
    }
}

impl Latencies {
    fn of(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        let at = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
        Self { transactions: taken.len(), p50: at(50), p95: at(95), p99: at(99), most: at(100) }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transactions, p50, p95, p99, most } = self;
        let [p50, p95, p99, most] = [p50, p95, p99, most].map(|time| time.as_secs_f64() * 1e3);
        write!(
            out,
            "p50 {p50:.0} ms, p95 {p95:.0} ms, p99 {p99:.0} ms, at most {most:.0} ms, of {transactions} transactions"
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LiveLatency { rows, rate, api, workers, .. } = self.played;
        #[expect(clippy::cast_precision_loss, reason = "for a person")]
        let [alone, beside] = [self.alone, self.beside].map(|time| rows as f64 / time.as_secs_f64());
        writeln!(
            out,
            "{rate} live transactions a second, 2 predictors of {workers} requests, an ML API of {api:?}; published to stored:"
        )?;
        writeln!(out, "  idle        {}", self.idle)?;
        writeln!(out, "  under load  {}", self.loaded)?;
        writeln!(out, "a batch of {rows} rows:")?;
        writeln!(out, "  alone       {:.1} s, {alone:.0} rows a second", self.alone.as_secs_f64())?;
        write!(
            out,
            "  beside them {:.1} s, {beside:.0} rows a second: {:.1} % less",
            self.beside.as_secs_f64(),
            100.0 * (1.0 - beside / alone)
        )
    }
}
