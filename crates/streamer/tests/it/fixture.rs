//! A streamer on a free port, with the in-process broker and SQLite, a small client, and a stand-in for predictor and writer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, DeliveryOutcome, InProcess, Message, QueueKind, Route, ServeOptions as Serving, serve};
use assay_store::{DatabaseOptions, IdConflict, Numbering, Store, UnnumberedMessage};
use assay_streamer::{StreamError, StreamerOptions};
use assay_transaction::{
    Day, Entry, FailedRow, FailureClass, Lane, LiveId, LiveMessage, LiveRun, Predicted, Prediction, Producer, RunId,
    ScoredLive, Timestamp,
};
use chrono::Utc;
use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const ROUTE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Realtime };

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    serve: StreamerOptions,
}

/// A database and a broker.
pub(crate) struct StreamerFixture {
    pub(crate) folder: TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    end: CancellationToken,
}

impl StreamerFixture {
    /// With a queue of this length.
    pub(crate) async fn new(queue: usize) -> Self {
        Self::with(InProcess::new(queue)).await
    }

    pub(crate) async fn with(broker: Arc<dyn Broker>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("assay.db").display());
        let database = DatabaseOptions::default().or_default(&url);
        assay_store::migrate(&database, TEST_TIMEOUT).await.unwrap();
        let store = assay_store::connect(&database, "test", TEST_TIMEOUT).await.unwrap();
        Self { folder, store, broker, end: CancellationToken::new() }
    }

    /// Starts the stand-in for predictor and writer.
    pub(crate) fn score(&self) {
        tokio::spawn(score(Arc::clone(&self.broker), Arc::clone(&self.store), self.end.clone()));
    }

    /// Stops it: later messages stay in the queue.
    pub(crate) fn stop_scoring(&self) {
        self.end.cancel();
    }

    pub(crate) async fn waiting(&self) -> u64 {
        self.broker.depth(ROUTE).await.unwrap().messages
    }

    /// Today's run of a producer.
    pub(crate) async fn live_run(&self, producer: &str) -> Option<LiveRun> {
        self.store.live_run(&run_of_today(producer)).await.unwrap()
    }

    pub(crate) async fn streamer(&self, arguments: &[&str]) -> Streamer {
        let options = Options::parse_from(["streamer"].iter().chain(arguments)).serve;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (broker, store, stop) = (Arc::clone(&self.broker), Arc::clone(&self.store), shutdown.clone());
        let task = tokio::spawn(async move {
            let tokens = options.tokens().unwrap();
            assay_streamer::serve(listener, broker, store, &options, tokens, TEST_TIMEOUT, stop).await
        });
        Streamer { address, shutdown, task }
    }
}

impl Drop for StreamerFixture {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

pub(crate) fn run_of_today(producer: &str) -> RunId {
    let producer: Producer = producer.parse().unwrap();
    LiveId::new(producer, Day::of(Utc::now()), String::new(), &[], true).run_id()
}

pub(crate) fn transaction(id: &str, amount: &str) -> String {
    format!(
        r#"{{"id":"{id}","description":"Café","amount":{amount},"timestamp":"2026-01-11T10:00:00.123456Z","operation_type":"payment","side":"debit","country":"FR"}}"#
    )
}

pub(crate) struct Streamer {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Result<(), StreamError>>,
}

pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Streamer {
    /// The raw response to a request without a body.
    pub(crate) async fn raw(&self, method: &str, path: &str, header: &str) -> String {
        self.text(method, path, header, b"").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, header: &str, body: &[u8]) -> TestResponse {
        let text = self.text(method, path, header, body).await;
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.contains("content-type: application/json"), "{text}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        TestResponse { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap() }
    }

    async fn text(&self, method: &str, path: &str, header: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n"
        );
        // The server may reject the request before it has read all of it.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("an answer comes");
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> TestResponse {
        self.send("POST", "/transactions", "", body.as_ref()).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, "", b"").await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(TEST_TIMEOUT, self.task).await.expect("it stops").unwrap().unwrap();
    }
}

/// Scores and stores messages: rows with `refused` in their description fail, all others are `ok`.
async fn score(broker: Arc<dyn Broker>, store: Arc<dyn Store>, end: CancellationToken) {
    let options = Serving { concurrency: 1, prefetch: 1, drain: TEST_TIMEOUT };
    let decode = |message: &Message| LiveMessage::decode(&message.body).map_err(|error| error.to_string());
    let work = move |message: LiveMessage| {
        let store = Arc::clone(&store);
        async move {
            let arrival = UnnumberedMessage { id: &message.id, rows: message.rows() };
            let numbering = store.number(&[arrival], Utc::now()).await.unwrap().remove(0);
            let Numbering::Place(place) = numbering else { panic!("{numbering:?}") };
            let is_refused = |entry: &Entry| entry.transaction.as_json().contains("refused");
            let (refused, fine): (Vec<_>, Vec<_>) = message.transactions.into_iter().partition(is_refused);
            let prediction = Prediction {
                prediction: "ok".into(),
                fraud_score: Some(0.25),
                model_version: Some("test-1".into()),
                ..Prediction::default()
            };
            let scored = ScoredLive {
                id: message.id,
                ids: message.ids,
                predicted_at: Timestamp::from(Utc::now()),
                predicted: fine.into_iter().map(|entry| Predicted { entry, prediction: prediction.clone() }).collect(),
                failed: refused
                    .into_iter()
                    .map(|entry| FailedRow {
                        transaction_id: entry.transaction.id().unwrap(),
                        entry,
                        class: FailureClass::Rejected,
                        reason: "422 for 4111 1111 1111 1111".to_owned(),
                        attempts: 1,
                    })
                    .collect(),
                rejected: Vec::new(),
            };
            store.write(&[scored.into_chunk(place)], IdConflict::Fail).await.unwrap();
            DeliveryOutcome::Done
        }
    };
    serve(broker, ROUTE, options, end, decode, work).await.unwrap();
}
