//! Each endpoint: its responses, its rejections, and the shutdown of the server.

use std::time::{Duration, Instant};

use assay_ml_api::{Model, ModelServerOptions};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::generated::transactions;
use crate::http::{ApiResponse, ApiServer};

fn batch(count: usize) -> String {
    let transactions: Vec<_> = transactions(3, count).map(|(transaction, _)| transaction).collect();
    serde_json::to_string(&transactions).unwrap()
}

#[tokio::test]
async fn predictions_keep_the_order_of_the_transactions() {
    let server = ApiServer::start(ModelServerOptions::default()).await;
    let answer = server.predict(batch(1_000)).await;
    assert_eq!(answer.status, 200);
    let predictions = answer.json();
    let model = Model::bundled();
    assert_eq!(predictions.as_array().unwrap().len(), 1_000);
    for ((transaction, _), prediction) in transactions(3, 1_000).zip(predictions.as_array().unwrap()) {
        let score = model.score(&transaction);
        assert_eq!(prediction["transaction_id"], *transaction.id);
        assert_eq!(prediction["model_version"], model.version());
        assert_eq!(prediction["prediction"], if score >= 0.5 { "fraud" } else { "legitimate" });
        assert!((prediction["fraud_score"].as_f64().unwrap() - f64::from(score)).abs() < 1e-6);
    }
}

#[tokio::test]
async fn an_unscorable_request_is_rejected_with_a_reason() {
    let server = ApiServer::start(ModelServerOptions { max_batch: 2, ..ModelServerOptions::default() }).await;
    let broken = batch(1).replace("\"side\"", "\"slide\"");
    // Exactly one byte more than is read.
    let long = " ".repeat(16 * 1024 * 1024 + 1);
    let cases = [
        ("[{", 400, json!({"error": "the body is not JSON from line 1, column 2 on"})),
        (&batch(3), 413, json!({"error": "3 transactions are too many: a request may have at most 2"})),
        (&long, 413, json!({"error": "the body is too large: the limit is 16 MiB"})),
        (&broken, 422, json!({"error": "transaction 0: side is missing", "index": 0, "field": "side"})),
    ];
    for (body, status, expected) in cases {
        let answer = server.predict(body).await;
        assert_eq!((answer.status, answer.json()), (status, expected));
    }
}

#[tokio::test]
async fn other_requests_get_the_fitting_status() {
    let server = ApiServer::start(ModelServerOptions::default()).await;
    let cases = [
        ("GET", "/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/", 404),
        ("POST", "/predict/", 404),
        ("HEAD", "/health", 200),
    ];
    for (method, path, status) in cases {
        assert_eq!(server.send(method, path, b"").await.status, status, "{method} {path}");
    }
    assert_eq!(
        server.get("/health").await.json(),
        json!({"status": "ok", "model_version": Model::bundled().version()})
    );
}

#[tokio::test]
async fn metrics_count_the_responses() {
    let server = ApiServer::start(ModelServerOptions::default()).await;
    server.predict(batch(100)).await;
    server.predict(batch(50)).await;
    server.predict("[").await;
    server.get("/health").await;
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let count = |name: &str| -> u64 {
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {}", answer.body)).parse().unwrap()
    };
    assert_eq!(count("assay_ml_api_requests_total{status=\"200\"}"), 2);
    assert_eq!(count("assay_ml_api_requests_total{status=\"400\"}"), 1);
    assert_eq!(count("assay_ml_api_request_duration_seconds_count"), 3);
    let by_prediction = ["fraud", "legitimate"]
        .map(|prediction| count(&format!("assay_ml_api_transactions_total{{prediction=\"{prediction}\"}}")));
    assert_eq!(by_prediction.iter().sum::<u64>(), 150);
}

#[tokio::test]
async fn a_delay_only_postpones_a_prediction() {
    let delay = Duration::from_millis(30);
    let server = ApiServer::start(ModelServerOptions { delay, ..ModelServerOptions::default() }).await;
    let began = Instant::now();
    assert_eq!(server.predict(batch(1)).await.status, 200);
    assert!(began.elapsed() >= delay);
}

#[tokio::test]
async fn a_started_request_is_answered_after_the_shutdown_signal() {
    let server = ApiServer::start(ModelServerOptions::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = batch(5);
    let length = body.len();
    // The server asks for the body once it processes the request.
    let head =
        format!("POST /predict HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.shutdown.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = ApiResponse::parse(&answer);
    assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 5));
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
}
