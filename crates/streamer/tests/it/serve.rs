//! Accepted requests: counted before the response, and with their outcomes if the client waits.

use futures_util::future::join_all;

use crate::fixture::{StreamerFixture, TEST_TIMEOUT, run_of_today, transaction};

const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

#[tokio::test]
async fn transactions_are_accepted_once_they_are_counted() {
    let fixture = StreamerFixture::new(1_000).await;
    let streamer = fixture.streamer(&["--producer-run-id", "shop"]).await;
    let answer = streamer.post(format!("[{},{}]", transaction(UUID, "12.50"), transaction("4711", "1"))).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let run = fixture.live_run("shop").await.unwrap();
    assert_eq!((run.accepted, run.doubtful, run.open_counts), (Some(2), 0, 1));
    assert_eq!(answer.body["run_id"], run_of_today("shop").as_str());
    assert_eq!(answer.body["transactions"][0], serde_json::json!({ "id": UUID, "external_id": null }));
    assert_eq!(answer.body["transactions"][1]["external_id"], "4711");
    assert_eq!(answer.body["message"].as_str().unwrap().len(), 36);

    let streamer = &streamer;
    let counted = join_all((0..40).map(async |id| {
        let lines = format!("{}\n{}\n", transaction(&format!("a{id}"), "1"), transaction(&format!("b{id}"), "2"));
        assert_eq!(streamer.post(lines).await.status, 202);
        fixture.live_run("shop").await.unwrap().accepted.unwrap()
    }));
    // With the last response, all are counted; with each response, at least its own are.
    let counted = tokio::time::timeout(TEST_TIMEOUT, counted).await.unwrap();
    assert!(counted.iter().all(|rows| *rows >= 4) && counted.iter().max() == Some(&82), "{counted:?}");
    assert_eq!(fixture.waiting().await, 41);
}

#[tokio::test]
async fn a_request_waits_for_predictions() {
    let fixture = StreamerFixture::new(100).await;
    fixture.score();
    let streamer = fixture.streamer(&[]).await;
    let refused = transaction("refused", "3").replace("Café", "refused");
    let body = format!("[{},{},{refused}]", transaction(UUID, "12.50"), transaction("a/b", "1"));
    let answer = streamer.send("POST", "/transactions?wait=20s", "", body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let sent = &answer.body["transactions"];
    for index in [0, 1] {
        assert_eq!(sent[index]["prediction"], "ok", "{sent}");
        assert_eq!((&sent[index]["fraud_score"], &sent[index]["model_version"]), (&0.25.into(), &"test-1".into()));
        assert!(sent[index]["predicted_at"].is_string() && sent[index].get("run_id").is_none());
    }
    assert_eq!(sent[2]["failed"]["class"], "rejected");

    for path in [format!("/transactions/{UUID}"), "/transactions/a%2Fb?wait=1s".to_owned()] {
        let found = streamer.get(&path).await;
        assert_eq!((found.status, &found.body["prediction"]), (200, &"ok".into()), "{path}: {}", found.body);
        assert_eq!(found.body["run_id"], answer.body["run_id"]);
    }
    let failed = streamer.get("/transactions/refused").await;
    assert_eq!((failed.status, &failed.body["failed"]["class"]), (200, &"rejected".into()));
    let reason = failed.body["failed"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("422 for") && !reason.contains("4111 1111 1111"), "{reason}");

    // The same id with other content is another transaction, without the prediction of the first.
    let changed = transaction(UUID, "99");
    let answer = streamer.send("POST", "/transactions?wait=20s", "", changed.as_bytes()).await;
    let conflict = &answer.body["transactions"][0];
    assert_eq!((&conflict["failed"]["class"], conflict.get("prediction")), (&"id_conflict".into(), None));
    // With the same content it is a duplicate, whose prediction is known.
    let same = transaction(UUID, "12.5");
    let answer = streamer.send("POST", "/transactions?wait=20s", "", same.as_bytes()).await;
    assert_eq!(answer.body["transactions"][0]["prediction"], "ok");
}

#[tokio::test]
async fn a_resent_transaction_does_not_report_an_earlier_failure() {
    let fixture = StreamerFixture::new(100).await;
    fixture.score();
    let streamer = fixture.streamer(&[]).await;
    let refused = transaction("1", "3").replace("Café", "refused");
    let send = async |wait: &str| {
        let answer = streamer.send("POST", &format!("/transactions?wait={wait}"), "", refused.as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["transactions"][0].get("failed").cloned()
    };
    assert!(send("20s").await.is_some());
    assert!(send("20s").await.is_some(), "it has failed again");
    fixture.stop_scoring();
    assert_eq!(send("200ms").await, None, "of this one nothing is known");
    let known = streamer.get("/transactions/1").await;
    assert_eq!((known.status, &known.body["failed"]["class"]), (200, &"rejected".into()));
}

/// An id is queried once for all of its rows: otherwise, a message of n rows sent n times would query n³ records.
#[tokio::test]
async fn many_rows_may_have_the_same_id() {
    let fixture = StreamerFixture::new(100).await;
    fixture.score();
    let streamer = fixture.streamer(&[]).await;
    let rows =
        |from: usize| (from..from + 1_000).map(|row| transaction("1", &row.to_string()) + "\n").collect::<String>();
    for from in [1, 2_000, 3_000] {
        let body = rows(from);
        let answer = streamer.send("POST", "/transactions?wait=30s", "", body.as_bytes()).await;
        let sent = answer.body["transactions"].as_array().unwrap();
        let conflicts = sent.iter().filter(|sent| sent["failed"]["class"] == "id_conflict").count();
        let predicted = sent.iter().filter(|sent| sent["prediction"] == "ok").count();
        assert_eq!((answer.status, conflicts + predicted), (202, 1_000), "{}", answer.body["transactions"][999]);
        assert_eq!(predicted, usize::from(from == 1));
    }
}

#[tokio::test]
async fn a_wait_ends() {
    let fixture = StreamerFixture::new(100).await;
    let streamer = fixture.streamer(&[]).await;
    let body = transaction("1", "1");
    let answer = streamer.send("POST", "/transactions?wait=50ms", "", body.as_bytes()).await;
    assert_eq!((answer.status, answer.body["transactions"][0].get("prediction")), (202, None));
    let missing = streamer.get("/transactions/1?wait=50ms").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body["error"].as_str().unwrap().contains("still being processed"));

    // A long wait ends with the known outcomes when the streamer is stopped.
    let (address, shutdown) = (streamer.address, streamer.shutdown.clone());
    let ending = async {
        while fixture.live_run("streamer").await.unwrap().accepted != Some(2) {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
    };
    let asking = async {
        let answer = streamer.send("POST", "/transactions?wait=30s", "", transaction("2", "1").as_bytes()).await;
        assert_eq!(answer.status, 202);
    };
    tokio::join!(asking, ending);
    streamer.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let run = fixture.live_run("streamer").await.unwrap();
    assert_eq!((run.accepted, run.open_counts), (Some(2), 0), "it has counted to its end");
}
