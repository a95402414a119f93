//! A row is found by its number without reading the table, whatever else is written at the same time.

use assay_store::{IdConflict, RowOutcome};
use assay_transaction::RunId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::server::pool;
use crate::chunks::{Row, begin, chunk, part, run_id, scored, transaction};
use crate::database::{Database, address};

const PARTITIONS: &str = include_str!("../../../../../deploy/postgres/partitions.sql");
/// Rows of one page, more or less.
const PAGE: i64 = 7;
/// Pages of one summary.
const RANGE: i64 = 128;

/// Inserts rows as a batch of a writer does, in no order.
async fn fill(database: &Database, run: &str, (first, last): (i64, i64), processing_type: &str) {
    let statement = format!(
        "INSERT INTO transactions (id, description, amount, \"timestamp\", operation_type, side, run_id, row_number, processing_type)
         SELECT md5('{run}' || n)::uuid, repeat('x', 1000), 1, now(), 'payment', 'debit', '{run}', n, '{processing_type}'
         FROM generate_series({first}, {last}) n ORDER BY md5(n::text)"
    );
    execute(database, &statement).await;
}

/// Executes a statement on a connection that ends.
async fn execute(database: &Database, statement: &str) {
    let mut connection = PgConnection::connect(address(&database.options)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Pages and sequential scans of the table of transactions by connections that have ended: they report what they read at their end.
async fn read(watching: &mut PgConnection) -> (i64, i64) {
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type IN ('client backend', 'parallel worker') AND pid <> pg_backend_pid()";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *watching).await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    let question = "SELECT CAST(sum(heap_blks_read + heap_blks_hit) AS bigint), CAST(sum(seq_scan) AS bigint)
        FROM pg_statio_user_tables JOIN pg_stat_user_tables USING (relid, relname)
        WHERE relname = 'transactions' OR relname LIKE 'transactions__'";
    sqlx::query_as(question).fetch_one(watching).await.unwrap()
}

/// Has the database summarise, on a connection that ends.
async fn summarise(database: &Database) {
    let writing = database.another().await;
    writing.summarise_rows().await.unwrap();
    writing.close().await;
}

/// The pages that are read for a row, and whether it is there.
async fn pages_for(database: &Database, run: &str, row: i64) -> (i64, bool) {
    let mut watching = PgConnection::connect(address(&database.options)).await.unwrap();
    let before = read(&mut watching).await;
    let asking = database.another().await;
    let row = row.unsigned_abs();
    let outcome = asking.row(&run_id(run), row).await.unwrap();
    asking.close().await;
    let after = read(&mut watching).await;
    assert_eq!(after.1, before.1, "{run}/{row}: no table is read from end to end");
    (after.0 - before.0, matches!(outcome, RowOutcome::Predicted(found) if found.row == row))
}

async fn assert_is_found(database: &Database, run: &str, row: i64, most: i64) {
    let (pages, is_found) = pages_for(database, run, row).await;
    assert!(is_found, "{run}/{row}");
    assert!((1..=most).contains(&pages), "{run}/{row}: {pages} pages");
}

/// The first value of a query, on a connection that ends.
async fn ask(database: &Database, question: &'static str) -> i64 {
    let mut connection = PgConnection::connect(address(&database.options)).await.unwrap();
    let answer = sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

/// How many pages are summarised.
async fn summarised(database: &Database) -> i64 {
    ask(database, "SELECT CAST(coalesce(sum(ranges), 0) AS bigint) FROM row_summaries").await * RANGE
}

async fn pages(database: &Database) -> i64 {
    ask(database, "SELECT pg_relation_size('transactions') / current_setting('block_size')::bigint").await
}

/// Nobody collects statistics, and no vacuum summarises.
async fn leave_alone(database: &Database) {
    let each_part = "DO $$ DECLARE part regclass; BEGIN
        FOR part IN SELECT relid FROM pg_partition_tree('transactions') WHERE isleaf UNION SELECT 'transactions'::regclass
            WHERE NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = 'transactions'::regclass) LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', part);
        END LOOP; END $$";
    execute(database, each_part).await;
}

/// In an open run, nothing of which is summarised, next to another and to live rows; and a row that a replay stored.
#[tokio::test]
async fn a_row_that_the_ledger_names_is_found_by_its_id() {
    let database = Database::postgres().await;
    leave_alone(&database).await;
    fill(&database, "other", (1, 4 * RANGE * PAGE), "batch").await;
    let writing = database.another().await;
    begin(&*writing, "a").await;
    for number in 0..3 {
        let mut rows: Vec<Row> = (0..300).map(|at| scored(u128::from(number * 300 + at + 1), "1")).collect();
        rows[7] = Row::Invalid(b"x");
        rows[8] = Row::Failed(transaction(u128::from(number * 300 + 9), "1"));
        writing.write(&[chunk("a", number, number * 300 + 1, &rows)], IdConflict::Fail).await.unwrap();
    }
    let again = part("a", 0, 0, &[(309, scored(309, "1"))]);
    assert_eq!(writing.write_replay(&again, IdConflict::Fail).await.unwrap().stored, 1);
    writing.close().await;
    for row in [1, 7, 10, 300, 301, 309, 310, 611, 900] {
        assert_is_found(&database, "a", row, 3).await;
    }
    assert!(!pages_for(&database, "a", 9).await.1, "it has failed");
}

/// As an earlier version has recorded them: by no id.
#[tokio::test]
async fn a_row_is_found_in_a_few_pages() {
    let database = Database::postgres().await;
    leave_alone(&database).await;
    let batch = 2 * RANGE * PAGE;
    // Two runs at different places of their sources, and live transactions among them.
    for number in 0..8 {
        fill(&database, "early", (number * batch + 1, (number + 1) * batch), "batch").await;
        fill(&database, "live", (number * 5 + 1, (number + 1) * 5), "streaming").await;
        if number >= 4 {
            fill(&database, "late", ((number - 4) * batch + 1, (number - 3) * batch), "batch").await;
        }
        summarise(&database).await;
    }
    // As a replay writes them.
    fill(&database, "early", (8 * batch + 1, 8 * batch + 20), "batch").await;
    summarise(&database).await;

    // The pages of a batch, of the summaries at its ends, and those without a summary.
    let (all, most) = (pages(&database).await, 6 * RANGE);
    assert!(all > 3 * most, "{all} pages");
    for (run, rows) in
        [("early", [1, 3 * batch, 8 * batch + 7]), ("late", [1, 2 * batch, 3 * batch + 9]), ("live", [1, 22, 40])]
    {
        for row in rows {
            assert_is_found(&database, run, row, most).await;
        }
    }
    assert!(!pages_for(&database, "early", 9 * batch).await.1);
    assert!(!pages_for(&database, "live", 41).await.1);
}

#[tokio::test]
async fn the_pages_that_are_written_to_have_no_summary() {
    let database = Database::postgres().await;
    leave_alone(&database).await;
    summarise(&database).await;
    fill(&database, "a", (1, 10), "batch").await;
    summarise(&database).await;
    assert_eq!(summarised(&database).await, 0);
    let question = "SELECT CAST(brin_summarize_range('transactions_file_rows', 0) AS bigint)";
    assert_eq!(ask(&database, question).await, 1, "it had none, even when it was empty");
    execute(&database, "SELECT brin_desummarize_range('transactions_file_rows', 0)").await;

    // More than one transaction summarises.
    fill(&database, "a", (11, 40 * RANGE * PAGE), "batch").await;
    summarise(&database).await;
    let (all, summarised) = (pages(&database).await, summarised(&database).await);
    assert!(summarised > 32 * RANGE && (RANGE..2 * RANGE).contains(&(all - summarised)), "{summarised} of {all}");

    // A new index is complete, and what is written later is summarised again.
    execute(&database, "REINDEX INDEX transactions_file_rows").await;
    fill(&database, "b", (1, 4 * RANGE * PAGE), "batch").await;
    summarise(&database).await;
    assert_is_found(&database, "b", RANGE * PAGE, 6 * RANGE).await;
    assert_is_found(&database, "a", 5, 6 * RANGE).await;
}

/// As a vacuum holds it. A call that waited would fail, as the lock is released after it.
#[tokio::test]
async fn summaries_wait_for_nobody() {
    let database = Database::postgres().await;
    leave_alone(&database).await;
    fill(&database, "a", (1, 4 * RANGE * PAGE), "batch").await;
    let mut vacuum = PgConnection::connect(address(&database.options)).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE transactions IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut vacuum).await.unwrap();
    summarise(&database).await;
    assert_eq!(summarised(&database).await, 0);

    sqlx::raw_sql("COMMIT").execute(&mut vacuum).await.unwrap();
    summarise(&database).await;
    assert!(summarised(&database).await > 0);
}

#[tokio::test]
async fn each_partition_is_summarised() {
    let database = Database::postgres().await;
    let script = PARTITIONS.replace("'64'", "'4'");
    execute(&database, &script).await;
    // A vacuum of a partition would keep it from being summarised.
    leave_alone(&database).await;
    fill(&database, "a", (1, 4 * 2 * RANGE * PAGE), "batch").await;
    summarise(&database).await;
    assert_eq!(ask(&database, "SELECT count(*) FROM row_summaries WHERE ranges > 4").await, 4);
    assert_is_found(&database, "a", 1_000, 8 * RANGE).await;
}

/// The role may store rows, and so have them summarised; another may not, and is told what to do.
#[tokio::test]
async fn a_role_may_summarise_what_it_may_store() {
    let database = Database::postgres().await;
    let role = crate::database::unique_name();
    let asked = |granted: &str| {
        format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role}; {granted} SET ROLE {role}; SELECT summarise_rows(1); RESET ROLE; \
             DROP OWNED BY {role}; DROP ROLE {role}"
        )
    };
    let refused = sqlx::raw_sql(AssertSqlSafe(asked(""))).execute(pool(&database)).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied for function summarise_rows"), "{refused}");
    let granted = format!("GRANT EXECUTE ON FUNCTION summarise_rows(integer) TO {role};");
    sqlx::raw_sql(AssertSqlSafe(asked(&granted))).execute(pool(&database)).await.unwrap();
}

/// A count that joins nothing gives way to one that does as soon as the tables differ.
#[tokio::test]
async fn a_large_run_is_counted_exactly() {
    let database = Database::postgres().await;
    fill(&database, "a", (1, 1_000), "batch").await;
    fill(&database, "b", (1, 10), "batch").await;
    database
        .execute(
            "INSERT INTO predictions SELECT id, CASE WHEN row_number % 10 = 0 THEN 'fraud' ELSE 'legitimate' END, 0.5, NULL, run_id, now()
             FROM transactions;
             INSERT INTO chunks (run_id, chunk, first_row, rows, predicted) VALUES ('a', 0, 1, 1000, 1000)",
        )
        .await;
    let a: RunId = run_id("a");
    let counted = async || {
        let (tally, labels) = database.store.recount(&a).await.unwrap();
        (tally.predicted, labels.into_iter().map(|label| (label.prediction, label.count)).collect::<Vec<_>>())
    };
    let labels = |fraud, legitimate| vec![("legitimate".to_owned(), legitimate), ("fraud".to_owned(), fraud)];
    assert_eq!(counted().await, (1_000, labels(100, 900)));
    // As many predictions name the run as it has transactions, but they are not theirs.
    database.execute("DELETE FROM transactions WHERE run_id = 'a' AND row_number = 10").await;
    database
        .execute(
            "DELETE FROM predictions WHERE transaction_id = (SELECT id FROM transactions WHERE run_id = 'a' AND row_number = 11)",
        )
        .await;
    assert_eq!(counted().await, (998, labels(99, 899)));
    // Another run's row replaced one.
    database
        .execute(
            "UPDATE predictions SET run_id = 'b', prediction = 'fraud'
             WHERE transaction_id = (SELECT id FROM transactions WHERE run_id = 'a' AND row_number = 1)",
        )
        .await;
    assert_eq!(counted().await, (998, labels(100, 898)));
}
