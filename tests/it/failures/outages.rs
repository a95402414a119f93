//! The cause decides the outcome: an outage or a wrong setting fails no row, bad data fails its own rows only.

use assay_tests::{HEADER, Role, Rows, Running, STORED, Script, Stack, assert_same, content, law, row};
use assay_transaction::Tally;
use sqlx::{Connection as _, PgConnection};

const ROWS: u64 = 300;

/// Demands that all rows are stored, as if nothing had happened.
async fn nothing_failed(stack: &Stack, file: &Rows) {
    stack.database.until_finished().await;
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: ROWS, ..Tally::default() });
}

/// Loads a file, and has it scored, so that only writing is left to do.
async fn scored(stack: &Stack, file: &Rows) -> Running {
    let object = stack.s3.put("transactions", "a.csv", file);
    stack.loader(&object).env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    stack.predictor().start()
}

/// A writer waits for a lock.
const BLOCKED: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'assay-writer' AND wait_event_type = 'Lock')";

#[tokio::test]
async fn refused_data_fails_alone_in_every_stage() {
    let stack = Stack::new(Script::Refuse).await;
    // SQLSTATE 23514, and 22012: a division by zero.
    stack.database.execute("ALTER TABLE transactions ADD CHECK (description <> 'constrain me')").await;
    stack.database.execute("ALTER TABLE transactions ADD CHECK (1 / (description <> 'divide me')::int = 1)").await;
    let bad = |number| match number {
        7 | 8 | 250 => Some(("constrain me", "database", "(SQLSTATE 23514)")),
        1 | 150 => Some(("divide me", "database", "(SQLSTATE 22012)")),
        9 | 199 | 300 => Some(("refuse me", "rejected", "HTTP status 422")),
        151 => Some(("fail on me", "suspect", "HTTP status 500")),
        _ => None,
    };
    let file = (1..=ROWS).fold(Rows::header(), |file, number| {
        let marked = bad(number).map(|(words, ..)| row(number).replace(&format!("Card payment {number}"), words));
        file.with(&marked.unwrap_or_else(|| row(number)))
    });
    let object = stack.s3.put("transactions", "a.csv", &file);
    let _stages = stack.start_stages();
    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(1).expect_says("Pipeline complete: 291 processed, 9 failed, 0 invalid");

    let failed: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT row_number, class, reason FROM failed_transactions ORDER BY row_number")
            .fetch_all(stack.database.pool())
            .await
            .unwrap();
    let expected = (1..=ROWS).filter_map(|number| bad(number).map(|(_, class, sign)| (number, class, sign)));
    for ((number, class, reason), expected) in failed.iter().zip(expected.clone()) {
        assert_eq!((u64::try_from(*number).unwrap(), class.as_str()), (expected.0, expected.1));
        assert!(reason.contains(expected.2), "row {number}: {reason}");
    }
    assert_eq!(failed.len(), expected.count());
    let innocent: Vec<String> = (1..)
        .zip(content(file.as_ref(), b',', '.'))
        .filter(|(number, _)| bad(*number).is_none())
        .map(|(_, text)| text)
        .collect();
    assert_same(&stack.database.texts(STORED).await, &innocent);
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 291, failed: 9, ..Tally::default() });
}

#[tokio::test]
async fn an_outage_of_the_api_uses_up_no_attempts() {
    let mut attempts = Vec::new();
    for outage in [false, true] {
        let stack = Stack::new(Script::Refuse).await;
        let file = format!("{HEADER}\n{}\n{}\n", row(1), row(2).replace("Card payment 2", "refuse me"));
        let object = stack.s3.put("transactions", "a.csv", file);
        let mut predictor = stack.predictor().start();
        predictor.says("scoring with up to").await;
        let _writer = stack.writer().start();
        if outage {
            stack.ml_api.set(Script::Away);
        }
        let loader = stack.loader(&object).arg("--wait").start();
        if outage {
            predictor.says("is unavailable (HTTP status 503").await;
            stack.ml_api.set(Script::Refuse);
        }
        loader.end().await.expect_exit(1).expect_says("Pipeline complete: 1 processed, 1 failed, 0 invalid");
        attempts.extend(stack.database.texts("SELECT attempts::text FROM failed_transactions").await);
        law::holds_for_one_run(&stack.database).await;
    }
    assert_eq!(attempts[0], attempts[1], "attempts without and with an outage");
}

#[tokio::test]
async fn a_wrong_setting_of_the_api_fails_no_row_and_is_named() {
    let stack = Stack::new(Script::Broken(401)).await;
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    let [mut predictor, _writer] = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").start();
    predictor.says("rejects every request (HTTP status 401 Unauthorized): check ML_API_URL").await;
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 0);
    stack.ml_api.set(Script::Score);
    loader.end().await.expect_exit(0).expect_says("Pipeline complete: 300 processed, 0 failed, 0 invalid");
    nothing_failed(&stack, &file).await;
}

#[tokio::test]
async fn a_revoked_right_stops_the_writer_and_fails_no_row() {
    let role = Role::new().await;
    let stack = Stack::new(Script::Score).await;
    let url = role.may_use(&stack.database).await;
    stack.database.execute(&format!("REVOKE INSERT ON predictions FROM {}", role.name())).await;
    let file = Rows::valid(ROWS);
    let _predictor = scored(&stack, &file).await;
    let mut writer = stack.writer().env("DATABASE_URL", &url).start();
    // SQLSTATE 42501
    writer.says("has stopped until this is repaired; nothing is lost").await;
    writer.says("(SQLSTATE 42501): grant the user of DATABASE_URL what it needs").await;
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 0);
    stack.database.execute(&format!("GRANT INSERT ON predictions TO {}", role.name())).await;
    writer.says("the database takes rows again").await;
    nothing_failed(&stack, &file).await;
}

#[tokio::test]
async fn a_database_without_free_connections_is_waited_for() {
    let role = Role::new().await;
    let stack = Stack::new(Script::Score).await;
    let url = role.may_use(&stack.database).await;
    let file = Rows::valid(ROWS);
    let _predictor = scored(&stack, &file).await;
    let mut lock = stack.database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let mut writer = stack.writer().env("DATABASE_URL", &url).start();
    stack.database.until(BLOCKED).await;
    // Its uncommitted work is lost, and it finds no connection to do it again.
    stack.database.execute(&format!("ALTER ROLE {} CONNECTION LIMIT 0", role.name())).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'assay-writer'";
    assert!(stack.database.count(cut).await > 0, "the writer has connections");
    lock.rollback().await.unwrap();
    writer.says("the batch lane waits for the database").await;
    for _ in 0..10 {
        let error = PgConnection::connect(&url).await.unwrap_err();
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("53300"), "{error}");
    }
    // One that starts meanwhile says what it waited for.
    let late = stack.writer().env("DATABASE_URL", &url).env("STARTUP_TIMEOUT", "2s").run().await;
    late.expect_one_clear_line(3, &["too many connections for role", "DB_CONNECTIONS"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 0);
    stack.database.execute(&format!("ALTER ROLE {} CONNECTION LIMIT -1", role.name())).await;
    nothing_failed(&stack, &file).await;
    writer.terminate();
    writer.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    // The one that has waited that long looks for a deadlock, and gives way: the writer, and not this test.
    let deadlock_timeout =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''2s''', current_database()); END $$";
    stack.database.execute(deadlock_timeout).await;
    let _predictor = scored(&stack, &file).await;
    let mut rival = PgConnection::connect(stack.database.url()).await.unwrap();
    sqlx::query("SET deadlock_timeout = '1h'").execute(&mut rival).await.unwrap();
    let mut locked = rival.begin().await.unwrap();
    sqlx::query("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    let mut writer = stack.writer().start();
    stack.database.until(BLOCKED).await;
    // The writer holds chunks and waits for predictions; this holds predictions and waits for the chunks.
    sqlx::query("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    writer.says("(SQLSTATE 40P01)").await;
    locked.rollback().await.unwrap();
    nothing_failed(&stack, &file).await;
    writer.terminate();
    writer.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
}
