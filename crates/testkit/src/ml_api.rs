//! A scripted ML API: predictable replies, and every way of not replying.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::DEADLINE;

/// Bodies are kept up to this total size: a hundred thousand transactions fit, a million do not.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// The behaviour of the API from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Scores each transaction by its amount (see [`MlApi::SCORE_SQL`]), and replies in reverse order.
    Score,
    /// Replies with categories only: `[{"transaction_id": …, "category": "Rent"}]`.
    Categorise,
    /// Scores, but replies 422 to a request with a description that contains `refuse me`, and 500 to one with `fail on me`.
    Refuse,
    /// Replies 503, also to health checks.
    Away,
    /// Replies 429 to every request to score, and asks for a pause of a second.
    Busy,
    /// Replies to every request to score with this status, though it is healthy.
    Broken(u16),
    /// Holds requests until the script changes; then scores them.
    Hold,
    /// Scores the first requests up to this number, and holds the others like [`Script::Hold`].
    ScoreFirst(usize),
}

impl Script {
    fn holds(self, number: usize) -> bool {
        match self {
            Self::Hold => true,
            Self::ScoreFirst(requests) => number > requests,
            _ => false,
        }
    }
}

/// A running API.
#[derive(Debug)]
pub struct MlApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    state: Mutex<Serving>,
}

#[derive(Debug)]
enum Serving {
    /// It ends on a message, or when the sender is dropped.
    Up(oneshot::Sender<()>, JoinHandle<()>),
    /// The port is kept, and refuses connections.
    Down(TcpSocket),
    Changing,
}

#[derive(Debug)]
struct Shared {
    script: watch::Sender<Script>,
    requests: watch::Sender<usize>,
    bodies: Mutex<Bodies>,
    /// The fixed status of health checks; 0 if the script decides.
    health: AtomicU16,
}

#[derive(Debug, Default)]
struct Bodies {
    kept: Vec<String>,
    bytes: usize,
    forgotten: usize,
}

impl Shared {
    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MlApi {
    /// The score that [`Script::Score`] gives, as PostgreSQL computes it from the stored row.
    pub const SCORE_SQL: &str = "mod(abs(t.amount) * 100, 1000) / 1000";

    /// Starts an API.
    pub async fn start(script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: watch::Sender::new(script),
            requests: watch::Sender::new(0),
            bodies: Mutex::default(),
            health: AtomicU16::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let state = Mutex::new(serve(listener, Arc::clone(&shared)));
        Self { address, shared, state }
    }

    /// For `ML_API_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the script; held requests get their replies.
    pub fn set(&self, script: Script) {
        self.shared.script.send_replace(script);
    }

    /// Fixes the status of `GET /health`, as in APIs without such a check.
    pub fn set_health(&self, status: u16) {
        self.shared.health.store(status, Ordering::SeqCst);
    }

    /// Closes all connections and refuses new ones, like a stopped server.
    pub async fn stop(&self) {
        let Serving::Up(stop, serving) = self.change(Serving::Changing) else { panic!("the ML API is down already") };
        let _ = stop.send(());
        let ended = timeout(DEADLINE, serving).await;
        ended.expect("requests end, unless they are on hold").expect("the ML API ends");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket takes options");
        socket.bind(self.address).expect("the port is still free");
        self.change(Serving::Down(socket));
    }

    /// Accepts connections again.
    pub fn start_again(&self) {
        let Serving::Down(socket) = self.change(Serving::Changing) else { panic!("the ML API is not down") };
        let listener = socket.listen(1024).expect("the port is ours");
        self.change(serve(listener, Arc::clone(&self.shared)));
    }

    fn change(&self, to: Serving) -> Serving {
        std::mem::replace(&mut *self.state.lock().expect("no holder panics"), to)
    }

    /// Waits for this many requests to score.
    pub async fn asked(&self, requests: usize) {
        let mut count = self.shared.requests.subscribe();
        let asked = timeout(DEADLINE, count.wait_for(|count| *count >= requests)).await;
        assert!(asked.is_ok(), "the ML API received {} requests, not {requests}", *self.shared.requests.borrow());
    }

    /// The number of requests to score so far.
    pub fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// The bodies of the requests so far.
    pub fn bodies(&self) -> Vec<String> {
        let bodies = self.shared.bodies();
        assert_eq!(bodies.forgotten, 0, "bodies of {MAX_KEPT_BYTES} bytes are kept, and these are more");
        bodies.kept.clone()
    }
}

impl Drop for MlApi {
    fn drop(&mut self) {
        if let Serving::Up(_, serving) = self.change(Serving::Changing) {
            serving.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> Serving {
    let router = axum::Router::new().route("/health", get(health)).route("/predict", post(predict)).with_state(shared);
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let stopped = async move { drop(stopped.await) };
        axum::serve(listener, router).with_graceful_shutdown(stopped).await.expect("the ML API serves");
    });
    Serving::Up(stop, serving)
}

async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    let fixed = shared.health.load(Ordering::SeqCst);
    if fixed > 0 {
        return StatusCode::from_u16(fixed).expect("a status is one");
    }
    match *shared.script.borrow() {
        Script::Away => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    }
}

async fn predict(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let number = record(&shared, &body);
    let mut script = shared.script.subscribe();
    let Ok(script) = script.wait_for(|script| !script.holds(number)).await.map(|script| *script) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match script {
        Script::Away => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Script::Busy => return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
        Script::Broken(status) => {
            return StatusCode::from_u16(status).expect("a script's status is one").into_response();
        }
        _ => {}
    }
    let Ok(transactions) = serde_json::from_slice::<Vec<Value>>(&body) else {
        return (StatusCode::BAD_REQUEST, "not an array of transactions").into_response();
    };
    if script == Script::Refuse {
        let holds = |words: &str| transactions.iter().any(|row| row["description"].to_string().contains(words));
        if holds("fail on me") {
            return (StatusCode::INTERNAL_SERVER_ERROR, "there is one that I fail on").into_response();
        }
        if holds("refuse me") {
            return (StatusCode::UNPROCESSABLE_ENTITY, "there is one that I do not like").into_response();
        }
    }
    let answers: Vec<_> = transactions.iter().rev().map(|transaction| answer(script, transaction)).collect();
    axum::response::Response::new(json!(answers).to_string().into())
}

/// Keeps the body of a request, if there is room, and returns the number of the request, from 1.
fn record(shared: &Shared, body: &[u8]) -> usize {
    let mut bodies = shared.bodies();
    if bodies.bytes + body.len() <= MAX_KEPT_BYTES {
        bodies.bytes += body.len();
        bodies.kept.push(String::from_utf8_lossy(body).into_owned());
    } else {
        bodies.forgotten += 1;
    }
    let number = bodies.kept.len() + bodies.forgotten;
    shared.requests.send_replace(number);
    number
}

fn answer(script: Script, transaction: &Value) -> Value {
    let id = &transaction["id"];
    if script == Script::Categorise {
        return json!({ "transaction_id": id, "category": "Rent" });
    }
    let amount = transaction["amount"].as_f64().expect("an amount is a number");
    #[expect(clippy::cast_possible_truncation, reason = "the tests' amounts have two decimals and fit many times")]
    let cents = (amount.abs() * 100.0).round() as i64;
    #[expect(clippy::cast_precision_loss, reason = "it is below 1000")]
    let score = (cents % 1000) as f64 / 1000.0;
    let prediction = if score > 0.9 { "fraud" } else { "legitimate" };
    json!({ "transaction_id": id, "prediction": prediction, "fraud_score": score, "model_version": "scripted-1", "reasons": ["R07"] })
}
