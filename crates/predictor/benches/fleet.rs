//! Four predictors at an ML API that allows 10,000 transactions a second and answers 429 with `Retry-After: 1` beyond that: what share of
//! the requests is refused, and what share of the allowed rate is used, in the second half of 120 seconds. Without `LIMIT` (`API_RATE_LIMIT`),
//! the fleet has to learn the rate.
//!
//!     cargo bench -p assay-predictor --bench fleet [-- SECONDS [LIMIT]] [AMQP_URL]
//!
//! With the URL of a RabbitMQ, each predictor has connections of its own, and queues of the bench's alone; else all share the in-process broker.
//!
//! The issue's goals: at most 2 % refused, at least 95 % used. Decision 0040 has the figures.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assay_predictor::{LiveOptions, PredictProgress};
use assay_queue::{Broker, BrokerEndpoint, BrokerOptions, InProcess, Message, QueueKind, Route};
use assay_scoring::{ApiOptions, Scorer};
use assay_transaction::{Chunk, ChunkId, Entry, IdScheme, Lane, RowRange};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PREDICTORS: usize = 4;
/// Transactions a second, and in the bucket.
const ALLOWED: f64 = 10_000.0;
/// How long the API takes.
const LATENCY: Duration = Duration::from_millis(20);
const CHUNK_ROWS: u64 = 500;

/// The API's token bucket, and what it saw since the middle.
struct Api {
    tokens: f64,
    filled: Instant,
    counted_from: Instant,
    requests: f64,
    refused: f64,
    rows: f64,
}

impl Api {
    fn admit(&mut self, rows: f64) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + ALLOWED * now.duration_since(self.filled).as_secs_f64()).min(ALLOWED);
        self.filled = now;
        let is_admitted = self.tokens >= rows;
        if is_admitted {
            self.tokens -= rows;
        }
        if now >= self.counted_from {
            self.requests += 1.0;
            *(if is_admitted { &mut self.rows } else { &mut self.refused }) += if is_admitted { rows } else { 1.0 };
        }
        is_admitted
    }
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let seconds = numbers.next().unwrap_or(120);
    let options = ApiOptions { api_rate_limit: numbers.next().and_then(NonZeroU32::new), ..ApiOptions::default() };
    let half = Duration::from_secs(seconds.into()) / 2;
    let begun = Instant::now();
    let (counted_from, zero) = (begun + half, 0.0);
    let api = Api { tokens: ALLOWED, filled: begun, counted_from, requests: zero, refused: zero, rows: zero };
    let api = Arc::new(Mutex::new(api));
    let url = serve(Arc::clone(&api)).await;
    let rabbitmq = std::env::args().find(|argument| argument.starts_with("amqp"));
    let (shared, stop) = (InProcess::new(64), CancellationToken::new());
    let connected = async || match &rabbitmq {
        Some(url) => connect(url).await,
        None => Arc::clone(&shared),
    };
    let mut tasks = JoinSet::new();
    for _ in 0..PREDICTORS {
        let scorer = Arc::new(Scorer::new(&url, &options).expect("the address is right"));
        let (broker, stop) = (connected().await, stop.clone());
        let progress = Arc::new(PredictProgress::default());
        tasks.spawn(async move {
            let drain = Duration::from_secs(1);
            let running = Arc::clone(&broker);
            let ended = assay_predictor::run(running, scorer, LiveOptions::default(), progress, drain, stop).await;
            ended.expect("it stops when told");
            broker.close().await;
        });
    }
    tasks.spawn(feed(connected().await, stop.clone()));
    tasks.spawn(drain(connected().await, stop.clone()));
    tokio::time::sleep_until((begun + 2 * half).into()).await;
    report(&api.lock().expect("nothing panics"), half);
    stop.cancel();
    tasks.join_all().await;
}

async fn connect(url: &str) -> Arc<dyn Broker> {
    let queue_prefix = format!("bench.{}.", std::process::id());
    let options = BrokerOptions { endpoint: BrokerEndpoint::at(url), queue_prefix, ..BrokerOptions::default() };
    assay_queue::connect(&options, "bench", Duration::from_secs(30)).await.expect("RabbitMQ is there")
}

#[expect(clippy::print_stdout, reason = "it is what the bench is for")]
fn report(api: &Api, half: Duration) {
    let refused = 100.0 * api.refused / api.requests;
    let used = 100.0 * api.rows / (ALLOWED * half.as_secs_f64());
    println!("{PREDICTORS} predictors, {ALLOWED} transactions a second allowed, the last {} s:", half.as_secs());
    println!("{} requests, {refused:.2} % refused; {used:.1} % of the allowed rate used", api.requests);
}

async fn serve(api: Arc<Mutex<Api>>) -> String {
    let app = Router::new().route("/predict", post(predict)).route("/health", get(async || "")).with_state(api);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn predict(State(api): State<Arc<Mutex<Api>>>, body: Bytes) -> Response {
    let body = String::from_utf8_lossy(&body);
    let ids: Vec<&str> = body.split(r#""id":""#).skip(1).filter_map(|rest| rest.get(..36)).collect();
    let rows = u32::try_from(ids.len()).expect("requests are small");
    if !api.lock().expect("nothing panics").admit(rows.into()) {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
    }
    tokio::time::sleep(LATENCY).await;
    let item = |id: &&str| format!(r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.0312}}"#);
    format!("[{}]", ids.iter().map(item).collect::<Vec<_>>().join(",")).into_response()
}

/// Keeps the predictors' queue full, with one chunk again and again.
async fn feed(broker: Arc<dyn Broker>, stop: CancellationToken) {
    let entry = |row: u64| {
        let id = Uuid::from_u128(row.into());
        let transaction = format!(
            r#"{{"id":"{id}","description":"Carrefour City Paris 11","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":"Carrefour","operation_type":"card_payment","side":"debit"}}"#
        );
        Entry { row, external_id: None, transaction: serde_json::from_str(&transaction).expect("it is JSON") }
    };
    let run_id = "bench".parse().expect("it is an id");
    let chunk = Chunk {
        id: ChunkId { run_id, chunk: 0 },
        range: RowRange { first_row: 1, rows: CHUNK_ROWS },
        ids: IdScheme::V8,
        transactions: (1..=CHUNK_ROWS).map(entry).collect(),
        rejected: Vec::new(),
        known: Vec::new(),
    };
    let body = chunk.encode().expect("it has a form");
    let message = Message::new(chunk.id.to_string(), Chunk::MESSAGE_TYPE, &chunk.id.run_id, body);
    let route = Route { kind: QueueKind::Transactions, lane: Lane::Batch };
    while !stop.is_cancelled() {
        let published = stop.run_until_cancelled(broker.publish(route, message.clone())).await;
        if published.is_some_and(|published| published.is_err()) {
            let _ = stop.run_until_cancelled(broker.wait_for_room(route)).await;
        }
    }
}

/// Takes the place of the writer.
async fn drain(broker: Arc<dyn Broker>, stop: CancellationToken) {
    let route = Route { kind: QueueKind::Scored, lane: Lane::Batch };
    let mut consumer = broker.consume(route, 64).await.expect("the broker is here");
    while let Some(Some(delivery)) = stop.run_until_cancelled(consumer.next()).await {
        delivery.ack();
    }
}
