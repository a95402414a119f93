//! An ML API that fails in every way there is, on request: for a bounded number of requests, or for certain rows.
//!
//! It answers the same for the same content always, so that the check knows what is to be stored; and it knows who has a
//! request under way, which is how a predictor is caught with a chunk that it has not acknowledged.
//!
//! No transaction meets more than one passing failure that counts as an attempt: so a row that fails for one would be a
//! mistake of the predictor, and never the API's own doing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::content::{Content, Fingerprint, MODEL};
use super::source::Source;

/// A failure that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// No response; `/health` is healthy.
    Stall,
    /// 429, with `Retry-After: 1`.
    TooMany,
    /// An answer for half of the transactions.
    Half,
    /// Something that is no answer.
    Garbage,
    /// An answer for other ids, or twice for each.
    WrongIds,
    /// An answer with scores that are none.
    BadScores,
}

impl Passing {
    /// Whether a predictor counts it as an attempt.
    fn is_attempt(self) -> bool {
        self != Self::TooMany
    }
}

/// How often rows at fault were asked for, by what it answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowHits {
    pub(super) broken: u32,
    pub(super) refused: u32,
}

/// A predictor, and how often it was started before.
pub(super) type Caller = (usize, u32);

pub(super) struct FaultyApi {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    /// How long a request takes.
    slowness: watch::Sender<Duration>,
    /// Nothing at all is answered while this is so.
    hangs: watch::Sender<bool>,
    broken: HashSet<Fingerprint>,
    refused: HashSet<Fingerprint>,
    state: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<Caller, usize>,
    passing: Option<(Passing, u32)>,
    /// How many requests were failed since the last failure was ordered.
    hits: u32,
    row_hits: RowHits,
    /// Transactions that met a failure that counts as an attempt.
    met: HashSet<String>,
    given: HashSet<String>,
}

impl FaultyApi {
    pub(super) async fn start(source: &Source, slowness: Duration) -> Self {
        let shared = Arc::new(Shared {
            slowness: watch::Sender::new(slowness),
            hangs: watch::Sender::new(false),
            broken: source.broken.clone(),
            refused: source.refused.clone(),
            state: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let router = axum::Router::new()
            .route("/{predictor}/{life}/health", get(health))
            .route("/{predictor}/{life}/predict", post(predict))
            // Wide rows make large requests.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the ML API serves") });
        Self { port, shared, task }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Where a predictor finds it, through a proxy or not.
    pub(super) fn url_at(port: u16, (predictor, life): Caller) -> String {
        format!("http://127.0.0.1:{port}/{predictor}/{life}")
    }

    /// Whether the predictor waits for the answer to a request.
    pub(super) fn is_asked_by(&self, caller: Caller) -> bool {
        self.shared.inner().under_way.get(&caller).is_some_and(|requests| *requests > 0)
    }

    /// Lets the next requests fail, so many of them.
    pub(super) fn fail(&self, passing: Passing, requests: u32) {
        let mut inner = self.shared.inner();
        inner.hits = 0;
        inner.passing = Some((passing, requests));
    }

    /// Ends what it was to fail with.
    pub(super) fn fail_no_more(&self) {
        self.shared.inner().passing = None;
    }

    /// Stops responding, even to health checks; or resumes, and answers the requests that wait.
    pub(super) fn hang(&self, hangs: bool) {
        self.shared.inner().hits = 0;
        self.shared.hangs.send_replace(hangs);
    }

    /// How many requests have failed for what was last ordered.
    pub(super) fn hits(&self) -> u32 {
        self.shared.inner().hits
    }

    /// How many requests have failed for rows at fault.
    pub(super) fn row_hits(&self) -> RowHits {
        self.shared.inner().row_hits
    }

    /// Takes no longer than it must from now on.
    pub(super) fn hurry(&self) {
        self.shared.slowness.send_replace(Duration::from_millis(1));
    }

    /// The ids of all transactions that it has scored.
    pub(super) fn given(&self) -> HashSet<String> {
        self.shared.inner().given.clone()
    }
}

impl Drop for FaultyApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the time that a request takes; less where it is to hurry meanwhile.
    async fn take_time(&self) {
        let mut slowness = self.slowness.subscribe();
        let time = *slowness.borrow_and_update();
        let _ = timeout(time, slowness.changed()).await;
    }
}

/// Counts a request as under way until it is answered, or given up by who asked.
struct UnderWay<'a>(&'a Shared, Caller);

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared, caller: Caller) -> Self {
        *shared.inner().under_way.entry(caller).or_default() += 1;
        Self(shared, caller)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(requests) = self.0.inner().under_way.get_mut(&self.1) {
            *requests -= 1;
        }
    }
}

/// A transaction as it is asked for.
#[derive(Deserialize)]
struct Asked<'a> {
    id: String,
    description: String,
    /// As it is written, to the last digit.
    #[serde(borrow)]
    amount: &'a RawValue,
    timestamp: String,
    merchant: Option<String>,
    operation_type: String,
    side: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl Asked<'_> {
    fn fingerprint(&self) -> Fingerprint {
        let timestamp = self.timestamp.strip_suffix('Z').unwrap_or(&self.timestamp).replace('T', " ");
        let content = Content {
            description: self.description.clone(),
            amount: Content::amount(self.amount.get(), '.'),
            timestamp,
            merchant: self.merchant.clone().unwrap_or_default(),
            operation_type: self.operation_type.clone(),
            side: self.side.clone(),
            attributes: self.attributes.clone(),
        };
        content.fingerprint()
    }
}

/// How a request is answered.
enum Answer {
    Scores,
    Failure(Passing, u32),
    Broken,
    Refused,
}

impl Inner {
    fn decide(&mut self, asked: &[Asked<'_>], shared: &Shared) -> Answer {
        let is_one_of = |at_fault: &HashSet<Fingerprint>| {
            !at_fault.is_empty() && asked.iter().any(|transaction| at_fault.contains(&transaction.fingerprint()))
        };
        if let Some((passing, left)) = self.passing
            && left > 0
            // What is at fault is never scored, not by half an answer either.
            && !is_one_of(&shared.broken)
            && !is_one_of(&shared.refused)
            && !(passing.is_attempt() && asked.iter().any(|transaction| self.met.contains(&transaction.id)))
        {
            self.passing = (left > 1).then_some((passing, left - 1));
            self.hits += 1;
            if passing.is_attempt() {
                self.met.extend(asked.iter().map(|transaction| transaction.id.clone()));
            }
            return Answer::Failure(passing, left);
        }
        if is_one_of(&shared.broken) {
            self.row_hits.broken += 1;
            Answer::Broken
        } else if is_one_of(&shared.refused) {
            self.row_hits.refused += 1;
            Answer::Refused
        } else {
            Answer::Scores
        }
    }
}

async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    if *shared.hangs.borrow() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn predict(State(shared): State<Arc<Shared>>, Path(caller): Path<Caller>, body: Bytes) -> Response {
    let _under_way = UnderWay::begin(&shared, caller);
    let Ok(asked) = serde_json::from_slice::<Vec<Asked<'_>>>(&body) else {
        return (StatusCode::NOT_FOUND, "not an array of transactions, which stops the predictor").into_response();
    };
    let answer = shared.inner().decide(&asked, &shared);
    if !matches!(answer, Answer::Failure(Passing::TooMany, _)) {
        shared.take_time().await;
    }
    let mut hangs = shared.hangs.subscribe();
    if *hangs.borrow_and_update() {
        shared.inner().hits += 1;
        // Its sender is here.
        let _ = hangs.wait_for(|hangs| !hangs).await;
    }
    match answer {
        Answer::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "one of them is too much for me").into_response(),
        Answer::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "there is one that I do not like").into_response(),
        Answer::Scores => shared.scored(&asked),
        Answer::Failure(passing, left) => match passing {
            // Until who asked has had enough of it.
            Passing::Stall => std::future::pending().await,
            Passing::TooMany => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "slow down").into_response(),
            Passing::Half => shared.scored(&asked[..asked.len() / 2]),
            Passing::Garbage => garbage(left, &asked).into_response(),
            Passing::WrongIds => answered(&wrong_ids(left, &asked)),
            Passing::BadScores => answered(&bad_scores(left, &asked)),
        },
    }
}

impl Shared {
    /// The true answer, in the opposite order; what is in it was given.
    fn scored(&self, asked: &[Asked<'_>]) -> Response {
        self.inner().given.extend(asked.iter().map(|transaction| transaction.id.clone()));
        answered(&Value::Array(asked.iter().rev().map(|transaction| entry(&transaction.id, transaction)).collect()))
    }
}

fn answered(answer: &Value) -> Response {
    Response::new(answer.to_string().into())
}

fn entry(id: &str, transaction: &Asked<'_>) -> Value {
    let verdict = transaction.fingerprint().verdict();
    let (prediction, fraud_score) = (verdict.prediction, verdict.fraud_score);
    json!({ "transaction_id": id, "prediction": prediction, "fraud_score": fraud_score, "model_version": MODEL })
}

/// What no prediction says that was really given.
fn never_given(id: &str, score: &Value) -> Value {
    json!({ "transaction_id": id, "prediction": "never given", "fraud_score": score, "model_version": MODEL })
}

fn garbage(variant: u32, asked: &[Asked<'_>]) -> String {
    let answer = Value::Array(asked.iter().map(|transaction| never_given(&transaction.id, &json!(0.5))).collect());
    let mut text = answer.to_string();
    match variant % 4 {
        0 => String::new(),
        1 => "<html><body>504 Gateway Time-out</body></html>".to_owned(),
        // One of the two arrays would be understood.
        2 => json!({ "predictions": answer, "others": answer }).to_string(),
        _ => {
            // All that is generated here is ASCII.
            text.truncate(text.len() / 2);
            text
        }
    }
}

fn wrong_ids(variant: u32, asked: &[Asked<'_>]) -> Value {
    let of = |transaction: &Asked<'_>| {
        if variant.is_multiple_of(2) {
            vec![never_given(&uuid::Uuid::new_v4().to_string(), &json!(0.5))]
        } else {
            vec![never_given(&transaction.id, &json!(0.5)), never_given(&transaction.id, &json!(0.6))]
        }
    };
    Value::Array(asked.iter().flat_map(of).collect())
}

fn bad_scores(variant: u32, asked: &[Asked<'_>]) -> Value {
    let scores = [json!(1.5), json!(-0.25), json!("high"), json!([0.5])];
    let score = &scores[variant as usize % scores.len()];
    Value::Array(asked.iter().map(|transaction| never_given(&transaction.id, score)).collect())
}
