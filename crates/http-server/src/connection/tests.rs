//! One connection with slow clients, on a paused clock.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::{BodyError, BodyReader};

struct TestConnection {
    client: DuplexStream,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn connect(limits: ServerLimits) -> TestConnection {
    let bodies = Arc::new(BodyReader::new(1_000, 1_000, Duration::from_secs(30)));
    let reading = move |request: Request| {
        let bodies = Arc::clone(&bodies);
        async move {
            match bodies.read(request).await {
                Ok(body) => (StatusCode::OK, body.bytes.len().to_string()),
                Err(BodyError::Slow(_)) => (StatusCode::REQUEST_TIMEOUT, "slow".to_owned()),
                Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            }
        }
    };
    let router = Router::new()
        .route("/now", get(async || "now"))
        .route("/long", get(async || "x".repeat(1_000_000)))
        .route("/refused", post(async || StatusCode::UNAUTHORIZED))
        .route("/body", post(reading));
    let (client, server) = duplex(8 * 1024);
    let shutdown = CancellationToken::new();
    let state = ConnectionState::new(Arc::default());
    let task = tokio::spawn(serve_connection(server, router, state, limits, shutdown.clone()));
    TestConnection { client, shutdown, task }
}

impl TestConnection {
    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// The rest of the output, and after how many seconds the connection ends.
    async fn rest(mut self) -> (String, u64) {
        let began = Instant::now();
        let mut text = Vec::new();
        // The server's end may be gone.
        let _ = self.client.read_to_end(&mut text).await;
        drop(self.client);
        self.task.await.unwrap();
        (String::from_utf8(text).unwrap(), began.elapsed().as_secs())
    }

    async fn until(&mut self, expected: &str) -> String {
        let mut text = String::new();
        while !text.contains(expected) {
            let mut bytes = [0; 1024];
            let read = self.client.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        text
    }
}

const NOW: &str = "GET /now HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_without_a_complete_head_in_time_is_disconnected() {
    for text in ["", "GET /now HTTP/1.1\r\nhost: te"] {
        let mut connection = connect(ServerLimits::default());
        connection.send(text).await;
        assert_eq!(connection.rest().await, (String::new(), 10), "{text}");
    }
    // Single bytes do not extend the time.
    let mut connection = connect(ServerLimits::default());
    let began = Instant::now();
    while connection.client.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(began.elapsed().as_secs(), 11, "the first byte that finds no reader");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_a_time() {
    let mut connection = connect(ServerLimits::default());
    for _ in 0..3 {
        connection.send(NOW).await;
        connection.until("now").await;
        tokio::time::sleep(Duration::from_secs(119)).await;
    }
    connection.send(NOW).await;
    connection.until("now").await;
    assert_eq!(connection.rest().await, (String::new(), 120));
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_its_own_time() {
    let mut connection = connect(ServerLimits::default());
    connection.send(NOW).await;
    connection.until("now").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    connection.send("GET /now").await;
    assert_eq!(connection.rest().await, (String::new(), 10));
}

#[tokio::test(start_paused = true)]
async fn requests_may_be_pipelined() {
    let mut connection = connect(ServerLimits::default());
    connection.send(&format!("{NOW}{}", NOW.replace("host: test", "host: test\r\nconnection: close"))).await;
    let (text, seconds) = connection.rest().await;
    assert_eq!((text.matches("\r\n\r\nnow").count(), seconds), (2, 0), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_too_long_head_is_rejected() {
    for length in [8_193, 20_000, 1_000_000] {
        let mut connection = connect(ServerLimits { max_head_bytes: 8 * 1024, ..ServerLimits::default() });
        let head = format!("GET /now HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(length));
        // As much as the server reads.
        let _ = connection.client.write_all(head.as_bytes()).await;
        let (text, _) = connection.rest().await;
        assert!(text.starts_with("HTTP/1.1 431 "), "{length}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_times_out() {
    let mut connection = connect(ServerLimits::default());
    connection.send("POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n0").await;
    let (text, seconds) = connection.rest().await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(seconds, 30);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    let mut connection = connect(ServerLimits::default());
    connection.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let began = Instant::now();
    let TestConnection { client, task, .. } = connection;
    task.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_arrives_although_the_body_is_not_read() {
    let mut connection = connect(ServerLimits::default());
    connection.send("POST /refused HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n").await;
    // The response comes before the body.
    let head = connection.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    connection.send(&"x".repeat(100_000)).await;
    assert_eq!(connection.rest().await.0, "");
}

#[tokio::test(start_paused = true)]
async fn http_2_is_rejected() {
    let mut connection = connect(ServerLimits::default());
    connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let (text, _) = connection.rest().await;
    assert!(text.starts_with("HTTP/1.1 505 ") && text.ends_with("\r\n\r\nonly HTTP/1.1 is spoken\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_complete_requests_only() {
    for (text, expected) in [
        ("", ""),
        ("GET /now HTTP/1.1\r\n", ""),
        ("POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n0", "HTTP/1.1 503 "),
        ("POST /body HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n", "HTTP/1.1 100 "),
        ("POST /body HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\n0", "HTTP/1.1 503 "),
    ] {
        let mut connection = connect(ServerLimits::default());
        connection.send(text).await;
        // The server has read it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        connection.shutdown.cancel();
        let (answer, _) = connection.rest().await;
        assert!(answer.starts_with(expected) && (!expected.is_empty() || answer.is_empty()), "{text}: {answer}");
        assert_eq!(answer.contains("HTTP/1.1 503 "), !expected.is_empty(), "{text}: {answer}");
        assert!(began.elapsed() <= LINGER, "in the time of the test");
    }
}
