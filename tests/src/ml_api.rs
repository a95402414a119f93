//! A scripted ML API: answers that a test can foretell, and every way of not answering.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::DEADLINE;

/// What the API does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Scores each transaction by its amount (see [`MlApi::SCORE_SQL`]), and answers in the opposite order.
    Score,
    /// Knows categories only: `[{"transaction_id": …, "category": "Rent"}]`.
    Categorise,
    /// Refuses every request with a transaction in it whose description holds `refuse me`, and scores the others.
    Refuse,
    /// Answers 503, also when it is asked for its health.
    Away,
    /// Takes requests and keeps them waiting until the script changes; then scores them.
    Hold,
}

/// A running API.
#[derive(Debug)]
pub struct MlApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    script: watch::Sender<Script>,
    requests: watch::Sender<usize>,
    bodies: Mutex<Vec<String>>,
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
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let router = axum::Router::new()
            .route("/health", get(health))
            .route("/predict", post(predict))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the ML API serves") });
        Self { address, shared, task }
    }

    /// For `ML_API_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does; requests on hold are answered.
    pub fn set(&self, script: Script) {
        self.shared.script.send_replace(script);
    }

    /// Waits until it has been asked so often.
    pub async fn asked(&self, requests: usize) {
        let mut count = self.shared.requests.subscribe();
        let asked = timeout(DEADLINE, count.wait_for(|count| *count >= requests)).await;
        assert!(asked.is_ok(), "the ML API was asked {} times, not {requests}", *self.shared.requests.borrow());
    }

    /// The bodies of the requests so far.
    pub fn bodies(&self) -> Vec<String> {
        self.shared.bodies.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for MlApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    match *shared.script.borrow() {
        Script::Away => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    }
}

async fn predict(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.bodies.lock().expect("nobody panics with it").push(String::from_utf8_lossy(&body).into_owned());
    shared.requests.send_modify(|count| *count += 1);
    let mut script = shared.script.subscribe();
    let Ok(script) = script.wait_for(|script| *script != Script::Hold).await.map(|script| *script) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    if script == Script::Away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Ok(transactions) = serde_json::from_slice::<Vec<Value>>(&body) else {
        return (StatusCode::BAD_REQUEST, "not an array of transactions").into_response();
    };
    let is_refused = |transaction: &Value| transaction["description"].to_string().contains("refuse me");
    if script == Script::Refuse && transactions.iter().any(is_refused) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "there is one that I do not like").into_response();
    }
    let answers: Vec<_> = transactions.iter().rev().map(|transaction| answer(script, transaction)).collect();
    axum::response::Response::new(json!(answers).to_string().into())
}

fn answer(script: Script, transaction: &Value) -> Value {
    let id = &transaction["id"];
    if script == Script::Categorise {
        return json!({ "transaction_id": id, "category": "Rent" });
    }
    let amount = transaction["amount"].as_f64().expect("an amount is a number");
    #[expect(clippy::cast_possible_truncation, reason = "the tests' amounts are small and have two decimals")]
    let cents = (amount.abs() * 100.0).round() as i32;
    let score = f64::from(cents % 1000) / 1000.0;
    let prediction = if score > 0.9 { "fraud" } else { "legitimate" };
    json!({ "transaction_id": id, "prediction": prediction, "fraud_score": score, "model_version": "scripted-1" })
}
