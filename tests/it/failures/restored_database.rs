//! A PostgreSQL restored to an earlier point: the audit names what is missing, and a repair reads it from the source again.

use assay_tests::{Database, Program, Rows, STORED, Script, Stack, assert_same, content, law};
use assay_transaction::Tally;

const ROWS: u64 = 300;
const TABLES: &str = "SELECT string_agg(format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', tablename), ';') || ';'
    FROM pg_tables WHERE schemaname = 'public'";
const PUT_BACK: &str = "SELECT string_agg(format('TRUNCATE public.%1$I; INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE
    SELECT * FROM kept.%1$I', tablename), ';') || ';' FROM pg_tables WHERE schemaname = 'public'";

/// Keeps the content of all tables as it is at this moment, as a backup does.
async fn back_up(database: &Database) {
    let copy = &database.texts(TABLES).await[0];
    database.execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA kept; {copy} COMMIT")).await;
}

/// Brings it back under the running programs, whose connections are ended, as with a server that is started from the backup.
async fn restore(database: &Database) {
    let put_back = &database.texts(PUT_BACK).await[0];
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'assay-%'";
    database.execute(&format!("BEGIN; {end}; {put_back} COMMIT; {end}")).await;
}

/// Chunks of ten rows, a short queue, and a lease that is over soon.
fn small(program: Program) -> Program {
    program.with_small_queues().env("BATCH_RUN_ID", "first").env("LEASE_TIMEOUT", "5s")
}

fn start_stages(stack: &Stack) -> [assay_tests::Running; 2] {
    [small(stack.predictor()).start(), small(stack.writer()).start()]
}

async fn nothing_is_lost_or_doubled(stack: &Stack, file: &Rows) {
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: ROWS, ..Tally::default() });
    stack.assay(["audit", "--all"]).run().await.expect_exit(0).expect_says("1 run: audit passed");
}

#[tokio::test]
async fn restored_to_the_middle_of_a_load() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    // Four chunks are published and confirmed, and none is recorded.
    let loader = small(stack.loader(&object)).arg("--wait").start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    back_up(&stack.database).await;
    let _stages = start_stages(&stack);
    loader.end().await.expect_exit(0);
    nothing_is_lost_or_doubled(&stack, &file).await;

    restore(&stack.database).await;
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 0);
    // The next loader resumes at the checkpoint, and seals the run.
    small(stack.loader(&object)).run().await.expect_exit(0).expect_says("resuming at row ");
    stack.database.until("SELECT state = 'sealed' FROM runs").await;
    let rest = "SELECT count(*) = (SELECT now.chunks_total - before.checkpoint_chunk
        FROM public.runs now JOIN kept.runs before USING (run_id)) FROM chunks";
    stack.database.until(rest).await;

    let audit = small(stack.assay(["audit", "first"])).run().await;
    audit
        .expect_exit(1)
        .expect_says("run first (sealed)")
        .expect_says("CHUNKS ARE LOST")
        .expect_says("assay repair first");
    let all = small(stack.assay(["audit", "--all", "--json"])).run().await.expect_exit(1).json();
    assert!(all[0]["chunks_stranded"].as_u64() >= Some(4), "{all}");
    small(stack.assay(["repair", "first", "--wait"])).run().await.expect_exit(0);
    stack.database.until_finished().await;
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn restored_to_a_sealed_run() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    let chunks_of_ten = |program: Program| program.env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "first");
    chunks_of_ten(stack.loader(&object)).run().await.expect_exit(0);
    back_up(&stack.database).await;
    let _stages = stack.start_stages();
    stack.database.until_finished().await;

    restore(&stack.database).await;
    let audit = stack.assay(["audit", "first"]).run().await;
    audit.expect_exit(1).expect_says("missing (30): chunks 0-29").expect_says("assay repair first");
    chunks_of_ten(stack.loader(&object)).run().await.expect_exit(0).expect_says("already loaded");
    stack.assay(["repair", "first", "--wait"]).run().await.expect_exit(0).expect_says("300 rows in 30 chunks");
    nothing_is_lost_or_doubled(&stack, &file).await;
}

#[tokio::test]
async fn restored_to_before_a_run() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    back_up(&stack.database).await;
    let chunks_of_ten = |program: Program| program.env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "first");
    chunks_of_ten(stack.loader(&object)).run().await.expect_exit(0);
    restore(&stack.database).await;

    // What is in the queues belongs to no run: nothing of it is stored.
    let _stages = stack.start_stages();
    stack.database.until("SELECT count(*) = 30 FROM dead_letters WHERE outcome = 'refused'").await;
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions").await, 0);
    stack.assay(["audit", "first"]).run().await.expect_exit(2);
    stack.assay(["audit", "--all"]).run().await.expect_exit(0);
    // Under the same name: those dead letters are not its own.
    chunks_of_ten(stack.loader(&object)).arg("--wait").run().await.expect_exit(0);
    nothing_is_lost_or_doubled(&stack, &file).await;
}
