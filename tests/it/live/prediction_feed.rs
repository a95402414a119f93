//! The feed of predictions: each stored prediction is published once, and no listener slows the writer.

use assay_tests::{Listener, Rows, Running, Script, Stack, law, row};
use assay_transaction::Tally;

const ROWS: u64 = 300;

/// The predictions that are stored, as [`told`] writes them.
const PREDICTIONS: &str = "
    SELECT concat_ws('|', t.id, t.external_id, p.run_id, t.row_number, p.prediction, round((p.fraud_score * 1000)::numeric),
        p.model_version, (extract(epoch FROM p.predicted_at) * 1000000)::bigint)
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id ORDER BY t.id";
const FLAGGED: &str = "
    SELECT id::text FROM transactions t JOIN predictions p ON p.transaction_id = t.id
    WHERE p.prediction = 'fraud' OR p.fraud_score >= 0.5 ORDER BY id";
const FRAUD: &str = "SELECT transaction_id::text FROM predictions WHERE prediction = 'fraud' ORDER BY transaction_id";

/// Publishes a file whose rows wait for a predictor. Some are twice in it, or say something else, or break a rule.
async fn published(stack: &Stack) -> String {
    let other = row(2).replace("Card payment", "Another");
    let file = Rows::valid(ROWS).with(&row(1)).with(&other).with("x,y,z,,,,");
    let object = stack.s3.put("transactions", "a.csv", &file);
    stack.loader(&object).env("CHUNK_ROWS", "20").run().await.expect_exit(0);
    object
}

/// Scores and writes what was published, and ends the writer, which has told all by then.
async fn written(stack: &Stack, predictor_and_writer: [Running; 2]) {
    stack.database.until_finished().await;
    let [_predictor, writer] = predictor_and_writer;
    writer.terminate();
    let ended = writer.end().await;
    ended.expect_exit(0).expect_silent_about("not announced");
    assert_eq!(
        law::holds_for_one_run(&stack.database).await,
        Tally { predicted: ROWS, duplicate: 1, failed: 1, invalid: 1 }
    );
}

/// What a listener heard, as [`PREDICTIONS`] does it.
async fn told(listener: &Listener) -> Vec<String> {
    let line = |heard: assay_tests::Heard| {
        let notice = heard.notice;
        assert_eq!((heard.kind.as_str(), heard.id), ("assay.prediction.v1", notice.transaction_id.to_string()));
        assert_eq!(heard.key, format!("batch.{}", notice.prediction.prediction));
        let score = (notice.prediction.fraud_score.unwrap() * 1000.0).round();
        let at = notice.predicted_at.as_datetime().timestamp_micros();
        let model = notice.prediction.model_version.unwrap();
        let (id, external) = (notice.transaction_id, notice.external_id.unwrap());
        let (run, row, label) = (notice.run_id, notice.row_number, notice.prediction.prediction);
        format!("{id}|{external}|{run}|{row}|{label}|{score}|{model}|{at}")
    };
    listener.take_all().await.into_iter().map(line).collect()
}

async fn announced_ids(listener: &Listener) -> Vec<String> {
    listener.take_all().await.into_iter().map(|heard| heard.id).collect()
}

#[tokio::test]
async fn every_stored_prediction_is_published_once() {
    let stack = Stack::new(Script::Score).await;
    let object = published(&stack).await;
    let [all, fraud] = [stack.broker.listen("#").await, stack.broker.listen("*.fraud").await];
    let writer = || stack.writer().env("PREDICTION_FEED", "all").start();
    written(&stack, [stack.predictor().start(), writer()]).await;
    assert_eq!(told(&all).await, stack.database.texts(PREDICTIONS).await);
    let found = stack.database.texts(FRAUD).await;
    assert!(!found.is_empty());
    assert_eq!(announced_ids(&fraud).await, found);

    // Known transactions are no news.
    let (_predictor, writer) = (stack.predictor().start(), writer());
    stack.loader(&object).args(["--force", "--wait"]).run().await.expect_exit(1);
    writer.terminate();
    writer.end().await.expect_exit(0);
    assert_eq!(law::holds(&stack.database).await.len(), 2);
    assert_eq!(told(&all).await, [""; 0]);
}

#[tokio::test]
async fn only_flagged_predictions_are_published() {
    let stack = Stack::new(Script::Score).await;
    published(&stack).await;
    let all = stack.broker.listen("#").await;
    let writer = stack.writer().env("PREDICTION_FEED", "flagged").start();
    written(&stack, [stack.predictor().start(), writer]).await;
    let flagged = stack.database.texts(FLAGGED).await;
    assert!(!flagged.is_empty() && flagged.len() < 300);
    assert_eq!(announced_ids(&all).await, flagged);
}

#[tokio::test]
async fn nothing_is_published_by_default() {
    let stack = Stack::new(Script::Score).await;
    published(&stack).await;
    let all = stack.broker.listen("#").await;
    written(&stack, stack.start_stages()).await;
    assert_eq!(announced_ids(&all).await, [""; 0]);
}

#[tokio::test]
async fn a_listener_that_consumes_nothing_does_not_block_the_writer() {
    const MANY: u64 = 30_000;
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(MANY));
    stack.loader(&object).run().await.expect_exit(0);
    let [_asleep, wide_awake] = [stack.broker.sleep_on("#").await, stack.broker.listen("*.fraud").await];
    let _predictor = stack.predictor().start();
    let writer = stack.writer().env("PREDICTION_FEED", "all").start();
    stack.database.until_finished().await;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, MANY);
    writer.terminate();
    writer.end().await.expect_exit(0).expect_says("not announced, or not confirmed");
    // Another's full queue is none of its business.
    let heard = announced_ids(&wide_awake).await;
    assert!(!heard.is_empty() && heard.is_sorted_by(|one, next| one < next), "none twice");
}
