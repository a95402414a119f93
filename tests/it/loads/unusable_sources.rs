//! Sources that are empty, hold something else, or cannot be read: one clear line each, and nothing left that prevents loading a
//! corrected file.

use assay_tests::{ClosedPort, HEADER, Rows, Script, Stack, law};
use assay_transaction::Tally;

#[tokio::test]
async fn a_header_alone_is_a_complete_run_without_rows() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::header());
    // Neither a predictor nor a writer runs: there is nothing for them to do.
    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(0).expect_says("Pipeline complete: 0 processed, 0 failed, 0 invalid");
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally::default());
    assert_eq!(stack.database.texts("SELECT state FROM runs").await, ["complete"]);
    stack.loader(&object).run().await.expect_exit(0).expect_says("already loaded");
}

#[tokio::test]
async fn a_file_without_transactions_is_refused_and_may_be_corrected() {
    let stack = Stack::new(Script::Score).await;
    let twice = format!("{HEADER},amount\n");
    let no_amount = HEADER.replace("amount,", "").replace(",side", "");
    let cases: [(&[u8], &[&str]); 5] = [
        (b"", &["empty"]),
        (b"\n\n", &["empty"]),
        (no_amount.as_bytes(), &["missing required columns `amount`, `side`"]),
        (twice.as_bytes(), &["`amount`", "twice"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &["PNG picture", "export it as CSV"]),
    ];
    for (content, words) in cases {
        let object = stack.s3.put("transactions", "a.csv", content);
        stack.loader(&object).arg("--wait").run().await.expect_one_clear_line(4, words);
        law::holds(&stack.database).await;
    }

    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    let corrected = stack.loader(&object).arg("--wait").run().await;
    corrected.expect_exit(0).expect_says("Pipeline complete: 10 processed, 0 failed, 0 invalid");
    law::holds(&stack.database).await;
}

#[tokio::test]
async fn a_missing_object_is_named() {
    let stack = Stack::new(Script::Score).await;
    stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let cases: [(&str, &[&str]); 3] = [
        ("s3://transactions/b.csv", &["s3://transactions/b.csv", "SOURCE_URL"]),
        ("s3://elsewhere/a.csv", &["elsewhere", "SOURCE_URL"]),
        ("/nowhere/at/all.csv", &["/nowhere/at/all.csv", "does not exist", "SOURCE_URL"]),
    ];
    for (source, words) in cases {
        stack.loader(source).run().await.expect_one_clear_line(4, words);
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM runs").await, 0);
}

#[tokio::test]
async fn wrong_credentials_name_the_settings_and_are_not_shown() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    for (key, secret) in [("assay-tests", "a-wrong-secret"), ("a-wrong-key", "not-a-secret")] {
        let denied = stack.loader(&object).env("KEY", key).env("SECRET", secret).run().await;
        denied.expect_one_clear_line(4, &["KEY", "SECRET", &object]).expect_silent_about(secret);
    }
    let half = stack.loader(&object).without("SECRET").run().await;
    half.expect_one_clear_line(2, &["KEY is set, but SECRET is not"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM runs").await, 0);
}

#[tokio::test]
async fn an_unreachable_s3_server_is_named() {
    let stack = Stack::new(Script::Score).await;
    let closed_port = ClosedPort::new();
    let loader =
        stack.loader("s3://transactions/a.csv").env("ENDPOINT_URL", format!("http://{}", closed_port.address()));
    let words = ["ENDPOINT_URL", &closed_port.address(), "refused"];
    loader.run().await.expect_one_clear_line(3, &words);
}

#[tokio::test]
async fn an_invalid_url_says_what_is_allowed() {
    let stack = Stack::new(Script::Score).await;
    for source in ["s3://bucket-alone", "https://example.com/a.csv"] {
        let refused = stack.loader(source).run().await;
        refused.expect_one_clear_line(2, &[source, "s3://bucket/key"]);
    }
}
