//! Rejected requests: nothing of them is published, and the response says what to do.

use std::time::Duration;

use assay_transaction::MAX_LIVE_ROWS;

use crate::fixture::{StreamerFixture, TestResponse, transaction};
use crate::unconfirmed::UnconfirmingBroker;

fn error(answer: &TestResponse) -> &str {
    answer.body["error"].as_str().expect("an error says what it is")
}

#[tokio::test]
async fn invalid_transactions_are_not_published() {
    let fixture = StreamerFixture::new(100).await;
    let streamer = fixture.streamer(&["--max-body-bytes", "200000"]).await;
    let body = format!("[{},{},7]", transaction("1", "1"), transaction("2", "1.00001"));
    let answer = streamer.post(body).await;
    assert_eq!(answer.status, 422);
    let errors = answer.body["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["row"], &errors[0]["reason"]), (2, &2.into(), &"amount_scale".into()));
    assert_eq!((&errors[1]["row"], &errors[1]["reason"]), (&3.into(), &"json_format".into()));
    assert!(errors[0]["message"].as_str().unwrap().contains("1.00001"));

    let many = format!("{}\n", transaction("1", "1").replace("Café", "C")).repeat(MAX_LIVE_ROWS + 1);
    for (body, status, expected) in [
        ("not json".to_owned(), 400, "neither a JSON object"),
        ("{\"id\":".to_owned(), 400, "neither a JSON object"),
        ("[{".to_owned(), 400, "neither a JSON object"),
        (" ".to_owned(), 400, "no transaction"),
        (many, 413, "1001 transactions"),
        (" ".repeat(200_001), 413, "MAX_BODY_BYTES"),
    ] {
        let answer = streamer.post(&body).await;
        assert_eq!(answer.status, status, "{expected}: {}", answer.body);
        assert!(error(&answer).contains(expected), "{}", answer.body);
    }
    for (method, path, status) in
        [("POST", "/transactions?wait=5", 400), ("GET", "/", 404), ("GET", "/transactions", 405)]
    {
        assert_eq!(streamer.send(method, path, "", b"").await.status, status, "{method} {path}");
    }
    assert_eq!((fixture.waiting().await, fixture.live_run("streamer").await), (0, None));
}

#[tokio::test]
async fn a_full_queue_and_a_full_streamer_send_retry_after() {
    let fixture = StreamerFixture::new(1).await;
    let streamer = fixture.streamer(&["--max-requests", "1"]).await;
    assert_eq!(streamer.post(transaction("1", "1")).await.status, 202);
    let full = streamer.post(transaction("2", "1")).await;
    assert_eq!(full.status, 429, "{}", full.body);
    assert!(full.head.contains("retry-after: 1") && error(&full).contains("queue is full"));
    let run = fixture.live_run("streamer").await.unwrap();
    assert_eq!((run.accepted, run.doubtful), (Some(1), 0));

    // Whichever comes first, the other one is one too many.
    let waiting = async {
        loop {
            let answer = streamer.get("/transactions/9?wait=30s").await;
            if answer.status != 429 {
                break answer;
            }
        }
    };
    let asking = async {
        loop {
            let busy = streamer.get("/transactions/9").await;
            if busy.status == 429 {
                assert!(error(&busy).contains("MAX_REQUESTS"));
                break;
            }
        }
        streamer.shutdown.cancel();
    };
    let (waited, ()) = tokio::join!(waiting, asking);
    assert_eq!(waited.status, 404);
}

#[tokio::test]
async fn uncountable_transactions_are_not_published() {
    let fixture = StreamerFixture::new(100).await;
    let streamer = fixture.streamer(&[]).await;
    assert_eq!(streamer.post(transaction("1", "1")).await.status, 202);
    fixture.store.close().await;
    let uncounted = streamer.post(transaction("2", "1")).await;
    assert_eq!(uncounted.status, 503, "{}", uncounted.body);
    assert!(uncounted.head.contains("retry-after: 5") && error(&uncounted).contains("not yet counted"));
    assert_eq!(fixture.waiting().await, 2, "it was published before the refusal");
    let refused = streamer.post(transaction("3", "1")).await;
    assert_eq!((refused.status, fixture.waiting().await), (503, 2));
    assert_eq!(streamer.get("/transactions/1").await.status, 503);
}

#[tokio::test]
async fn unconfirmed_transactions_are_doubtful() {
    let fixture = StreamerFixture::with(UnconfirmingBroker::start()).await;
    let streamer = fixture.streamer(&[]).await;
    let answer = streamer.post(format!("[{},{}]", transaction("1", "1"), transaction("2", "1"))).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(error(&answer).contains("broker is unreachable"));
    while fixture.live_run("streamer").await.unwrap().doubtful != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    streamer.stop().await;
    let run = fixture.live_run("streamer").await.unwrap();
    assert_eq!((run.accepted, run.doubtful, run.open_counts), (Some(0), 2, 0));
}

#[tokio::test]
async fn a_body_without_a_token_is_not_read() {
    let fixture = StreamerFixture::new(100).await;
    let streamer = fixture.streamer(&["--streamer-tokens", "first,second"]).await;
    for header in ["", "authorization: Bearer third\r\n", "authorization: Basic first\r\n"] {
        for (method, path) in [("POST", "/transactions"), ("GET", "/transactions/1")] {
            let answer = streamer.send(method, path, header, b"").await;
            assert_eq!(answer.status, 401, "{header}");
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
        }
    }
    let body = transaction("1", "1");
    for header in ["authorization: Bearer first\r\n", "Authorization: bearer second\r\n"] {
        assert_eq!(streamer.send("POST", "/transactions", header, body.as_bytes()).await.status, 202);
    }
}
