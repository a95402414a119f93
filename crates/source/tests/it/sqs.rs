//! An SQS queue on a minimal server.

use std::sync::{Arc, Mutex};

use assay_source::{S3Options, SqsQueue};
use assay_transaction::Exit;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Queued messages and deleted receipts.
#[derive(Default)]
struct SqsState {
    bodies: Vec<&'static str>,
    deleted: Vec<Value>,
}

type SharedSqsState = Arc<Mutex<SqsState>>;

async fn answer(State(queue): State<SharedSqsState>, headers: HeaderMap, body: String) -> Response {
    let asked: Value = serde_json::from_str(&body).unwrap();
    assert!(headers[header::AUTHORIZATION].to_str().unwrap().contains("Credential=ali/"), "{headers:?}");
    let mut queue = queue.lock().unwrap();
    let (status, answer) = match headers["x-amz-target"].to_str().unwrap() {
        _ if asked["QueueUrl"].as_str().unwrap().ends_with("/nowhere") => {
            let kind = "com.amazonaws.sqs#QueueDoesNotExist";
            (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": "The specified queue does not exist."}))
        }
        "AmazonSQS.ReceiveMessage" => {
            assert_eq!((&asked["MaxNumberOfMessages"], &asked["WaitTimeSeconds"]), (&json!(1), &json!(20)));
            let messages: Vec<_> = queue.bodies.pop().into_iter().map(message).collect();
            (StatusCode::OK, json!({"Messages": messages}))
        }
        "AmazonSQS.DeleteMessage" => {
            queue.deleted.push(asked["ReceiptHandle"].clone());
            (StatusCode::OK, json!({}))
        }
        other => panic!("{other}"),
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

fn message(body: &str) -> Value {
    json!({"MessageId": "1", "ReceiptHandle": format!("receipt of {body}"), "Body": body})
}

#[tokio::test]
async fn a_message_is_received_until_it_is_deleted() {
    let queue = SharedSqsState::default();
    queue.lock().unwrap().bodies = vec!["second", "first"];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&queue));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    // A custom endpoint, so that no region is needed.
    let (key, secret) = (Some("ali".into()), Some("sesame".into()));
    let options = S3Options { key, secret, endpoint_url: Some(server.as_str().into()), ..S3Options::default() };

    let events = SqsQueue::connect(&format!("{server}/123456789012/drops"), &options).await.unwrap();
    let first = events.receive().await.unwrap().unwrap();
    let second = events.receive().await.unwrap().unwrap();
    assert_eq!((first.body.as_str(), second.body.as_str()), ("first", "second"));
    assert!(events.receive().await.unwrap().is_none());
    drop(first);
    second.delete().await.unwrap();
    assert_eq!(queue.lock().unwrap().deleted, [json!("receipt of second")]);

    let nowhere = SqsQueue::connect(&format!("{server}/123456789012/nowhere"), &options).await.unwrap();
    let error = nowhere.receive().await.unwrap_err().to_string();
    assert!(error.contains("SQS_QUEUE_URL") && error.contains("queue does not exist"), "{error}");
}

#[tokio::test]
async fn an_invalid_queue_url_is_rejected() {
    for url in ["", "drops", "arn:aws:sqs:eu-west-1:123456789012:drops", "ftp://sqs/drops"] {
        let error = SqsQueue::connect(url, &S3Options::default()).await.unwrap_err();
        assert!(error.to_string().contains("SQS_QUEUE_URL"), "{url}: {error}");
        assert_eq!(error.exit(), Exit::Usage, "{url}: {error}");
    }
}
