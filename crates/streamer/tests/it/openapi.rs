//! The description of the API has every path, method and status. `scripts/schemathesis` compares the responses with it.

use std::collections::BTreeSet;

use assay_transaction::MAX_LIVE_ROWS;
use serde_json::Value;

use crate::fixture::{StreamerFixture, TestResponse, transaction};

/// The description of a response, if there is one.
fn described<'a>(document: &'a Value, method: &str, path: &str, status: u16) -> Option<&'a Value> {
    let response = &document["paths"][path][method.to_lowercase()]["responses"].get(status.to_string())?;
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')),
        None => Some(response),
    }
}

#[tokio::test]
async fn every_answer_is_described() {
    let fixture = StreamerFixture::new(1).await;
    fixture.score();
    let tokens = ["--streamer-tokens", "hush", "--max-body-bytes", "200000"];
    let streamer = fixture.streamer(&tokens).await;
    let token = "authorization: Bearer hush\r\n";
    let document = streamer.get("/openapi.json").await;
    assert_eq!(document.status, 200, "without a token");
    let document = document.body;
    let good = transaction("1", "1");
    let many = format!("{}\n", good.replace("Café", "C")).repeat(MAX_LIVE_ROWS + 1);
    let xml = format!("{token}content-type: application/xml\r\n");
    let long = format!("{token}x: {}\r\n", "x".repeat(70_000));
    let send = ("POST", "/transactions");
    let ask = ("GET", "/transactions/{id}");
    for ((method, path), asked, header, body, status) in [
        (send, "/transactions?wait=20s", token, good.as_str(), 202),
        (send, "/transactions", token, "[", 400),
        (send, "/transactions?wait=1", token, &good, 400),
        (send, "/transactions", "", &good, 401),
        (send, "/transactions", token, &many, 413),
        (send, "/transactions", &xml, &good, 415),
        (send, "/transactions", token, "{}", 422),
        (ask, "/transactions/1", token, "", 200),
        (ask, "/transactions/1?wait=1s&wait=1s", token, "", 400),
        (ask, "/transactions/%ff", token, "", 400),
        (ask, "/transactions/1", "", "", 401),
        (ask, "/transactions/2", token, "", 404),
    ] {
        let answer = streamer.send(method, asked, header, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {asked}: {}", answer.body);
        let description = described(&document, method, path, status);
        let description = description.unwrap_or_else(|| panic!("{method} {path} {status} is described"));
        for name in description["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()) {
            assert!(answer.head.contains(&format!("\r\n{name}: ")), "{name}: {}", answer.head);
        }
        has_content(description, &answer);
    }
    let answer = streamer.raw("GET", "/transactions/1", &long).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(described(&document, "GET", "/transactions/{id}", 431).unwrap().get("content").is_none());

    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(paths, BTreeSet::from(["/openapi.json", "/transactions", "/transactions/{id}"]));
    for (method, path) in [("GET", "/transactions"), ("POST", "/transactions/1"), ("DELETE", "/openapi.json")] {
        let answer = streamer.send(method, path, token, b"").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
    }
}

fn has_content(description: &Value, answer: &TestResponse) {
    let content = description["content"].as_object().expect("an answer has content");
    assert!(content.contains_key("application/json") && answer.body.is_object(), "{}", answer.body);
}
