//! Programs that crash or are stopped half-way: the next process resumes, and nothing is lost or stored twice.
//!
//! "Half-way" never depends on timing: the ML API withholds its replies, a queue is full, or the database is locked.

use assay_tests::{Rows, STORED, Script, Stack, assert_same, content, law};
use assay_transaction::Tally;
use sqlx::{Postgres, Transaction};

const ROWS: u64 = 300;

/// A deployment with a file in its bucket: its rows, and the URL of the object.
async fn stack_with_file(script: Script) -> (Stack, Rows, String) {
    let stack = Stack::new(script).await;
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    (stack, file, object)
}

/// Demands that the file was stored as if nothing had happened.
async fn nothing_is_lost_or_doubled(stack: &Stack, file: &Rows) {
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: ROWS, ..Tally::default() });
}

/// A loader whose first two batches are published and whose next chunks find the queue full.
async fn stuck_loader(stack: &Stack, object: &str) -> assay_tests::Running {
    let loader = stack.loader(object).with_small_queues().start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    loader
}

/// The next loader resumes, with all other programs running.
async fn the_next_loader_resumes(stack: &Stack, object: &str, file: &Rows) {
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    let resumed = stack.loader(object).with_small_queues().arg("--wait").run().await;
    resumed
        .expect_exit(0)
        .expect_says("resuming at row ")
        .expect_silent_about("Batch 0:")
        .expect_says("Pipeline complete: 300 processed, 0 failed, 0 invalid");
    nothing_is_lost_or_doubled(stack, file).await;
}

#[tokio::test]
async fn the_next_loader_resumes_after_a_kill() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    stuck_loader(&stack, &object).await.kill().await;
    the_next_loader_resumes(&stack, &object, &file).await;
}

#[tokio::test]
async fn a_stopped_loader_prints_how_to_resume() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    let loader = stuck_loader(&stack, &object).await;
    loader.terminate();
    loader.end().await.expect_one_clear_line(3, &["repeat the command"]);
    the_next_loader_resumes(&stack, &object, &file).await;
}

#[tokio::test]
async fn a_resumed_run_keeps_its_settings() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    stuck_loader(&stack, &object).await.kill().await;
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    let other =
        stack.loader(&object).with_small_queues().env("CHUNK_ROWS", "7").env("ID_NAMESPACE", "other").arg("--wait");
    other.env("ROW_BATCH_SIZE", "33").run().await.expect_exit(0);
    nothing_is_lost_or_doubled(&stack, &file).await;
    assert_eq!(stack.database.count("SELECT chunks_total FROM runs").await, 30, "chunks of ten rows, all along");
}

#[tokio::test]
async fn a_loader_that_lost_the_database_resumes() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    let loader = stuck_loader(&stack, &object).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'assay-loader'";
    assert!(stack.database.count(cut).await > 0, "the loader has connections");
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    loader.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn chunks_of_a_killed_predictor_are_scored_by_the_next() {
    let (stack, file, object) = stack_with_file(Script::Hold).await;
    let _writer = stack.writer().start();
    let predictor = stack.predictor().start();
    let loader = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").start();
    stack.ml_api.asked(1).await;
    predictor.kill().await;

    stack.ml_api.set(Script::Score);
    let _next = stack.predictor().start();
    loader.end().await.expect_exit(0);
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn a_stopped_predictor_finishes_its_chunks() {
    let (stack, file, object) = stack_with_file(Script::Hold).await;
    let mut predictor = stack.predictor().start();
    stack.loader(&object).env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    stack.ml_api.asked(1).await;
    predictor.terminate();
    predictor.says("shutting down").await;
    stack.ml_api.set(Script::Score);
    predictor.end().await.expect_exit(0);

    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn idle_predictors_and_writers_stop_at_once() {
    let stack = Stack::new(Script::Score).await;
    let [mut predictor, writer] = stack.start_stages();
    predictor.says("scoring with up to").await;
    stack
        .database
        .until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'assay-writer')",
        )
        .await;
    for idle in [predictor, writer] {
        idle.terminate();
        idle.end().await.expect_exit(0);
    }
}

/// Each checkpoint waits while the lock is held.
const HANGING_CHECKPOINTS: &str = "
    CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
    CREATE TRIGGER hang BEFORE UPDATE OF checkpoint_chunk ON runs FOR EACH ROW EXECUTE FUNCTION hang()";

#[tokio::test]
async fn a_hanging_checkpoint_delays_no_chunk() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    stack.database.execute(HANGING_CHECKPOINTS).await;
    let mut locked = stack.database.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(1)").execute(&mut *locked).await.unwrap();
    let loader = stack.loader(&object).env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20");
    let mut loader = loader.env("PUBLISH_WINDOW", "2").start();
    loader.says("Batch 14: published 20 transactions").await;
    assert_eq!(stack.database.count("SELECT checkpoint_chunk FROM runs").await, 0);
    locked.rollback().await.unwrap();
    loader.end().await.expect_exit(0);
    assert_eq!(stack.database.count("SELECT checkpoint_chunk FROM runs").await, 30, "the last one is waited for");
    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}

/// Publishes all rows and lets them be scored; then a lock is held that a writer runs into.
async fn scored_and_locked<'a>(
    stack: &'a Stack,
    object: &str,
    lock: &'static str,
) -> (assay_tests::Running, Transaction<'a, Postgres>) {
    stack.loader(object).env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    let predictor = stack.predictor().start();
    let mut transaction = stack.database.pool().begin().await.unwrap();
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    (predictor, transaction)
}

/// A writer that waits for a lock.
const BLOCKED: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'assay-writer' AND wait_event_type = 'Lock')";

/// Kills a writer that waits for the lock, once the database says that it has come so `far`; the next writer does the rest.
async fn the_next_writer_resumes_after_a_kill(lock: &'static str, far: &str) {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    let (_predictor, locked) = scored_and_locked(&stack, &object, lock).await;
    let writer = stack.writer().start();
    stack.database.until(far).await;
    stack.database.until(BLOCKED).await;
    writer.kill().await;
    locked.rollback().await.unwrap();

    let _next = stack.writer().start();
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn uncommitted_chunks_of_a_killed_writer_are_written_by_the_next() {
    the_next_writer_resumes_after_a_kill("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE", BLOCKED).await;
}

#[tokio::test]
async fn committed_unacknowledged_chunks_of_a_killed_writer_are_not_written_again() {
    // A writer closes runs between its commit and its ack: it commits, and then waits for this lock.
    let lock = "SELECT * FROM runs FOR NO KEY UPDATE";
    the_next_writer_resumes_after_a_kill(lock, "SELECT EXISTS (SELECT FROM chunks)").await;
}

#[tokio::test]
async fn a_writer_that_lost_the_database_in_a_transaction_repeats_it() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    let lock = "LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE";
    let (_predictor, locked) = scored_and_locked(&stack, &object, lock).await;
    let writer = stack.writer().start();
    stack.database.until(BLOCKED).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'assay-writer'";
    assert!(stack.database.count(cut).await > 0, "the writer has connections");
    locked.rollback().await.unwrap();

    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
    writer.terminate();
    writer.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
}

#[tokio::test]
async fn a_stopped_writer_commits_its_batch() {
    let (stack, file, object) = stack_with_file(Script::Score).await;
    let lock = "LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE";
    let (_predictor, locked) = scored_and_locked(&stack, &object, lock).await;
    let mut writer = stack.writer().start();
    stack.database.until(BLOCKED).await;
    writer.terminate();
    writer.says("shutting down").await;
    locked.rollback().await.unwrap();
    writer.end().await.expect_exit(0);
    assert!(stack.database.count("SELECT count(*) FROM transactions").await > 0, "what had begun is committed");

    let _next = stack.writer().start();
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}
