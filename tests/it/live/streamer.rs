//! Live transactions through the streamer, the predictors and the writer: each one accepted with 202 is stored once, whichever
//! process is killed meanwhile.

use assay_tests::{Answer, Program, Running, STORED, Script, Stack, get, law, post};
use assay_transaction::Tally;
use serde_json::json;

/// Transactions that were accepted, of which none is missing and none doubled.
const IDS: &str = "SELECT external_id FROM transactions ORDER BY external_id COLLATE \"C\"";

/// When the first, the second and the third streamer are killed.
const COUNTED: [&str; 3] = [
    "SELECT coalesce(sum(rows), 0) > 30 FROM live_counts",
    "SELECT coalesce(sum(rows), 0) > 80 FROM live_counts",
    "SELECT coalesce(sum(rows), 0) > 130 FROM live_counts",
];

/// A streamer, and where it takes transactions.
async fn streamer(stack: &Stack) -> (Running, String) {
    let program = stack.known_to(Program::new("streamer")).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0");
    let mut streamer = program.start();
    let address = streamer.address_after("are accepted at http://").await;
    (streamer, address)
}

/// A transaction, as the body of a request.
pub(crate) fn transaction(id: &str) -> String {
    json!({
        "id": id, "description": "Café", "amount": "-9.50", "timestamp": "2026-01-11T10:00:00Z",
        "operation_type": "card_payment", "side": "debit",
    })
    .to_string()
}

async fn accept(address: &str, ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut accepted = Vec::new();
    for id in ids {
        let Answer { status, body } = post(address, "/transactions", &transaction(&id)).await.unwrap();
        assert_eq!((status, &body["transactions"][0]["external_id"]), (202, &json!(id)), "{body}");
        accepted.push(id);
    }
    accepted
}

#[tokio::test]
async fn accepted_transactions_are_stored_once_despite_kills() {
    let stack = Stack::new(Script::Hold).await;
    let (killed, address) = streamer(&stack).await;
    let predictor = stack.predictor().start();
    let mut accepted = accept(&address, (0..20).map(|number| format!("a{number:02}"))).await;
    // They are in the hands of the predictor, which waits for the ML API.
    stack.ml_api.asked(1).await;
    killed.kill().await;
    predictor.kill().await;

    stack.ml_api.set(Script::Score);
    let (second, address) = streamer(&stack).await;
    let _predictor = stack.predictor().start();
    // The writer has them, and waits for the lock, when it is killed.
    let mut lock = stack.database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let writer = stack.writer().start();
    accepted.extend(accept(&address, (0..20).map(|number| format!("b{number:02}"))).await);
    stack
        .database
        .until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'predictions'::regclass)")
        .await;
    writer.kill().await;
    lock.rollback().await.unwrap();
    let _writer = stack.writer().start();
    stack.database.until("SELECT count(*) >= 40 FROM transactions").await;
    assert_eq!(stack.database.texts(IDS).await, accepted);

    // What was accepted is what arrived; the first streamer could not say that it counted to its end.
    second.terminate();
    second.end().await.expect_exit(0);
    let counts =
        "SELECT concat_ws('|', sum(rows), sum(messages), count(*) FILTER (WHERE ended), count(*)) FROM live_counts";
    assert_eq!(stack.database.texts(counts).await, ["40|40|1|2"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions WHERE processing_type = 'streaming'").await, 40);
    stack.database.until("SELECT count(*) = 40 FROM chunks").await;
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 40, ..Tally::default() });
}

#[tokio::test]
async fn a_202_means_stored_though_the_streamer_is_killed_at_any_moment() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    let mut accepted = Vec::new();
    for (round, counted) in COUNTED.into_iter().enumerate() {
        let (streamer, address) = streamer(&stack).await;
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let address = address.clone();
                tokio::spawn(async move {
                    let mut accepted = Vec::new();
                    for number in 0.. {
                        let id = format!("{round}-{client}-{number:04}");
                        match post(&address, "/transactions", &transaction(&id)).await {
                            Ok(Answer { status: 202, .. }) => accepted.push(id),
                            Ok(Answer { status, body }) => panic!("{status} {body}"),
                            Err(_) => break,
                        }
                    }
                    accepted
                })
            })
            .collect();
        stack.database.until(counted).await;
        streamer.kill().await;
        for client in clients {
            accepted.extend(client.await.unwrap());
        }
    }
    assert!(accepted.len() > 60, "{} were accepted", accepted.len());
    // As many may arrive before all of these have: what was sent and not answered arrives too.
    let ids: Vec<_> = accepted.iter().map(|id| format!("'{id}'")).collect();
    let all = format!("SELECT count(*) = {} FROM transactions WHERE external_id IN ({})", ids.len(), ids.join(", "));
    stack.database.until(&all).await;
    stack.database.until("SELECT next_chunk = (SELECT count(*) FROM chunks) FROM live_runs").await;
    // The count says no less than what was answered.
    let counted = stack.database.count("SELECT sum(rows)::bigint FROM live_counts").await;
    assert!(counted >= i64::try_from(accepted.len()).unwrap(), "{counted} counted, {} accepted", accepted.len());
    law::holds_for_one_run(&stack.database).await;
}

/// The kinds of files from the field that can occur here too.
#[tokio::test]
async fn live_values_are_read_as_in_a_file_with_a_decimal_point() {
    let stack = Stack::new(Script::Categorise).await;
    let _stages = stack.start_stages();
    let (_streamer, address) = streamer(&stack).await;
    let cases = [
        ("zeros", json!("-9.500000000"), "-9.5000"),
        ("exponent", json!("-1.5E3"), "-1500.0000"),
        ("padded", json!("  7.25 "), "7.2500"),
        ("three decimals", json!("-3.000"), "-3.0000"),
        ("number", json!(2.5e2), "250.0000"),
    ];
    for (id, amount, _) in &cases {
        let transaction = json!({
            "id": id, "description": "  Café ", "amount": amount, "timestamp": "2026-01-11 10:00:00 UTC", "merchant": "NULL",
            "operation_type": "card_payment   ", "side": "debit",
        });
        let Answer { status, body } = post(&address, "/transactions", &transaction.to_string()).await.unwrap();
        assert_eq!(status, 202, "{id}: {body}");
    }
    // A number of JSON with zeros and an exponent, as no library would write it.
    let raw = transaction("raw").replace("\"-9.50\"", "-1.20000E2");
    assert_eq!(post(&address, "/transactions", &raw).await.unwrap().status, 202);
    stack.database.until("SELECT count(*) = 6 FROM transactions").await;
    let stored =
        "SELECT concat_ws('|', external_id, description, amount, to_char(\"timestamp\" AT TIME ZONE 'UTC', 'HH24:MI'),
        merchant, operation_type) FROM transactions WHERE external_id <> 'raw'";
    let mut stored = stack.database.texts(stored).await;
    let mut expected = cases.map(|(id, _, amount)| format!("{id}|Café|{amount}|10:00|NULL|card_payment")).to_vec();
    stored.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stored, expected);
    let of_raw = "SELECT amount::text FROM transactions WHERE external_id = 'raw'";
    assert_eq!(stack.database.texts(of_raw).await, ["-120.0000"]);
}

#[tokio::test]
async fn a_client_sees_the_outcome_of_its_transaction() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    let (streamer, address) = streamer(&stack).await;
    let Answer { status, body } = post(&address, "/transactions?wait=30s", &transaction("a")).await.unwrap();
    assert_eq!(status, 202);
    assert!(body.to_string().contains("\"prediction\":\"fraud\""), "{body}");
    let Answer { status, body } = get(&address, "/transactions/a?wait=10s").await.unwrap();
    assert_eq!((status, body["prediction"].as_str()), (200, Some("fraud")), "{body}");
    assert_eq!(get(&address, "/transactions/b").await.unwrap().status, 404);
    let Answer { status, body } = post(&address, "/transactions", &transaction("")).await.unwrap();
    assert_eq!((status, body["errors"][0]["reason"].as_str()), (422, Some("id_empty")), "{body}");
    streamer.terminate();
    streamer.end().await.expect_exit(0);

    let run = stack.database.texts("SELECT run_id FROM runs").await.remove(0);
    assert!(run.starts_with("live_streamer_"), "{run}");
    let audit = stack.assay(["audit", &run]).run().await;
    audit.expect_exit(0).expect_says("1 accepted by streamer, 1 arrived");
    stack.assay(["status", &run]).run().await.expect_exit(0).expect_says("1 accepted by streamer, 1 arrived");
    stack.assay(["row", "live:streamer", "1"]).run().await.expect_exit(0).expect_says("predicted");
    stack
        .assay(["cancel", &run, "--reason", "mistake", "--yes"])
        .run()
        .await
        .expect_one_clear_line(2, &["stop its producer"]);
    assert_eq!(stack.database.texts(STORED).await.len(), 1);
}

#[tokio::test]
async fn a_replayed_transaction_stays_live() {
    let stack = Stack::new(Script::Refuse).await;
    let _stages = stack.start_stages();
    let (_streamer, address) = streamer(&stack).await;
    let refused = transaction("a").replace("Café", "refuse me");
    let Answer { status, body } = post(&address, "/transactions?wait=30s", &refused).await.unwrap();
    assert_eq!((status, &body["transactions"][0]["failed"]["class"]), (202, &json!("rejected")), "{body}");
    stack.ml_api.set(Script::Score);
    stack.assay(["replay", body["run_id"].as_str().unwrap(), "--wait"]).run().await.expect_exit(0);
    assert_eq!(stack.database.texts("SELECT processing_type FROM transactions").await, ["streaming"]);
}

#[tokio::test]
async fn live_messages_share_requests_and_nothing_else() {
    let stack = Stack::new(Script::Refuse).await;
    let (_streamer, address) = streamer(&stack).await;
    let accepted = accept(&address, (0..120).map(|number| format!("{number:03}"))).await;
    let refused = transaction("refused").replace("Café", "refuse me");
    assert_eq!(post(&address, "/transactions", &refused).await.unwrap().status, 202);
    // All of them wait in the queue: none is alone.
    let predictor =
        stack.predictor().env("API_BATCH_SIZE", "50").env("BUFFER_TIMEOUT", "2s").env("API_MAX_WORKERS", "2");
    let _predictor = predictor.start();
    let _writer = stack.writer().start();
    stack.database.until("SELECT count(*) = 1 FROM failed_transactions WHERE class = 'rejected'").await;
    stack.database.until("SELECT count(*) = 121 FROM chunks").await;
    assert_eq!(stack.database.texts(IDS).await, accepted, "one at fault costs no other");
    // Three at first, then the halves of the one that was refused, and controls.
    assert!(stack.ml_api.requests() < 30, "{} requests", stack.ml_api.requests());
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 120, failed: 1, ..Tally::default() });
}
