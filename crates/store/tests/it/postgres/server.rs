//! What only a server can do: refuse text that JSON may hold, and become unreachable.

use std::time::{Duration, Instant};

use assay_store::{ChunkOutcome, IdConflict, ReplayCounts};
use assay_transaction::{FailureClass, RunState, SealedTotals, Tally};
use sqlx::postgres::PgPool;

use crate::chunks::{Row, audit_context, begin, chunk, chunk_of_ids, lease, part, run_id, scored, transaction};
use crate::database::{Database, DirectAccess};
use crate::operations::dead_letters::letter;

pub(crate) fn pool(database: &Database) -> &PgPool {
    let DirectAccess::Postgres(pool) = &database.raw else { panic!("it is PostgreSQL") };
    pool
}

/// Waits until one of our connections waits for a lock.
pub(crate) async fn wait_for_a_blocked_connection(pool: &PgPool) {
    wait_for_blocked_connections(pool, "assay-test", 1).await;
}

pub(crate) async fn wait_for_blocked_connections(pool: &PgPool, name: &str, connections: i64) {
    let question = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = $1 AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(question).bind(name).fetch_one(pool).await.unwrap() < connections {
        assert!(Instant::now() < deadline, "{connections} connections should wait by now");
        // There is no event to wait for.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A connection whose call was abandoned while it began a transaction is not used again.
#[tokio::test]
async fn an_abandoned_call_spoils_no_connection() {
    let database = Database::postgres().await;
    begin(&*database.store, "a").await;
    for polls in 0..200_u32 {
        // At every point at which the call waits.
        let chunks = [chunk_of_ids("a", 0, 1, &[1])];
        let mut call = database.store.write(&chunks, IdConflict::Fail);
        let mut left = polls % 20;
        std::future::poll_fn(|context| {
            if left == 0 || call.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(());
            }
            left -= 1;
            std::task::Poll::Pending
        })
        .await;
        // A read begins another kind of transaction, which cannot begin within one that writes.
        assert_eq!(database.store.runs(None, 1).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn text_that_postgres_refuses_fails_alone() {
    let database = Database::postgres().await;
    let mut description = transaction(2, "1");
    description.description = "a\0b".into();
    let mut attribute = transaction(3, "1");
    attribute.attributes.insert("note".into(), "a\0b".into());
    let rows = [
        scored(1, "1"),
        Row::Scored(description, "x", 0.5),
        Row::Scored(attribute, "x", 0.5),
        Row::Scored(transaction(4, "1"), "fra\0ud", 0.5),
        Row::Failed(transaction(5, "1")),
        Row::Invalid(b"a\0b\xff"),
        scored(6, "1"),
    ];
    let mut chunk = chunk("a", 0, 1, &rows);
    chunk.failed[0].reason = "the answer was \0".into();
    chunk.failed[0].class = FailureClass::Other("\0".into());
    chunk.rejected[0].message = "`id` is \0".into();
    database.write(&[chunk], IdConflict::Fail).await.unwrap();
    let tally = Tally { predicted: 2, invalid: 1, failed: 4, duplicate: 0 };
    assert_eq!(database.store.tally(&run_id("a")).await.unwrap(), tally);
    let failed =
        "SELECT row_number || '|' || class || '|' || substring(reason FROM 'SQLSTATE .....') FROM failed_transactions
        WHERE class = 'database' ORDER BY row_number";
    assert_eq!(
        database.texts(failed).await,
        ["2|database|SQLSTATE 22021", "3|database|SQLSTATE 22P05", "4|database|SQLSTATE 22021"]
    );
    assert_eq!(database.texts("SELECT message FROM invalid_transactions").await, ["`id` is \u{fffd}"]);
}

#[tokio::test]
async fn a_killed_connection_is_transient() {
    let database = Database::postgres().await;
    let mut blocker = pool(&database).begin().await.unwrap();
    sqlx::query("INSERT INTO transactions SELECT $1, NULL, 'x', 1, now(), NULL, 'x', 'x', NULL, 'other', 1, 'batch'")
        .bind(uuid::Uuid::from_u128(2))
        .execute(&mut *blocker)
        .await
        .unwrap();
    let chunks = [chunk_of_ids("a", 0, 1, &[1, 2, 3])];
    let kill = async {
        wait_for_a_blocked_connection(pool(&database)).await;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'assay-test' AND wait_event_type = 'Lock'";
        assert_eq!(database.count(kill).await, 1);
    };
    let (result, ()) = tokio::join!(database.write(&chunks, IdConflict::Fail), kill);
    let error = result.unwrap_err();
    assert!(error.is_transient(), "{error}");
    blocker.rollback().await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM chunks").await, 0);
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!((written.outcomes, written.transactions), (vec![ChunkOutcome::Recorded], 3));
}

#[tokio::test]
async fn a_claim_waits_for_the_one_before() {
    let database = Database::postgres().await;
    let mut blocker = pool(&database).begin().await.unwrap();
    sqlx::query("INSERT INTO chunks (run_id, chunk, first_row, rows, predicted) VALUES ('a', 0, 1, 3, 3)")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let chunks = [chunk_of_ids("a", 0, 1, &[1, 2, 3])];
    let commit = async {
        wait_for_a_blocked_connection(pool(&database)).await;
        blocker.commit().await.unwrap();
    };
    let (written, ()) = tokio::join!(database.write(&chunks, IdConflict::Fail), commit);
    assert_eq!(written.unwrap().outcomes, [ChunkOutcome::AlreadyRecorded]);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 0);
}

#[tokio::test]
async fn a_missing_table_is_a_configuration_error() {
    let database = Database::postgres().await;
    database.execute("ALTER TABLE predictions RENAME TO elsewhere").await;
    let error = database.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().ends_with("(SQLSTATE 42P01): run `assay migrate`"), "{error}");
    database.execute("ALTER TABLE elsewhere RENAME TO predictions").await;
    let written = database.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    assert_eq!(written.transactions, 1, "nothing was left behind");
}

#[tokio::test]
async fn connections_name_their_stage() {
    let database = Database::postgres().await;
    database.store.ping().await.unwrap();
    let stages = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'assay%'";
    assert_eq!(database.texts(stages).await, ["assay-test"]);
}

/// A row that fails again elsewhere is a new row, which the replay must see.
#[tokio::test]
async fn a_replay_sees_a_row_that_failed_again_meanwhile() {
    let database = Database::postgres().await;
    database.write(&[chunk("a", 0, 1, &[Row::Failed(transaction(1, "1"))])], IdConflict::Fail).await.unwrap();
    let mut blocker = pool(&database).begin().await.unwrap();
    sqlx::raw_sql(
        "CREATE TEMPORARY TABLE taken AS SELECT * FROM failed_transactions;
        DELETE FROM failed_transactions;
        INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload) 
            SELECT run_id, row_number, transaction_id, class, reason, 7, payload FROM taken",
    )
    .execute(&mut *blocker)
    .await
    .unwrap();
    let part = part("a", 1, 0, &[(1, Row::Failed(transaction(1, "1")))]);
    let commit = async {
        wait_for_a_blocked_connection(pool(&database)).await;
        blocker.commit().await.unwrap();
    };
    let (exchanged, ()) = tokio::join!(database.store.write_replay(&part, IdConflict::Fail), commit);
    assert_eq!(exchanged.unwrap(), ReplayCounts { is_new: true, stored: 0, failed: 1, gone: 0 });
    assert_eq!(database.count("SELECT attempts FROM failed_transactions").await, 10);
}

#[tokio::test]
async fn a_concurrent_part_waits_for_the_first() {
    let database = Database::postgres().await;
    database.write(&[chunk("a", 0, 1, &[Row::Failed(transaction(1, "1"))])], IdConflict::Fail).await.unwrap();
    let mut blocker = pool(&database).begin().await.unwrap();
    sqlx::query("INSERT INTO replay_parts (run_id, replay, part, stored, failed, gone) VALUES ('a', 1, 0, 1, 0, 0)")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let part = part("a", 1, 0, &[(1, scored(1, "1"))]);
    let commit = async {
        wait_for_a_blocked_connection(pool(&database)).await;
        blocker.commit().await.unwrap();
    };
    let (exchanged, ()) = tokio::join!(database.store.write_replay(&part, IdConflict::Fail), commit);
    assert_eq!(exchanged.unwrap(), ReplayCounts::default());
    assert_eq!(database.count("SELECT count(*) FROM failed_transactions").await, 1);
}

/// Overlapping writers share the run's lock in turn, so that a seal would never find it free.
#[tokio::test]
async fn writers_do_not_starve_a_seal() {
    let database = Database::postgres().await;
    let (store, pool) = (&database.store, pool(&database));
    begin(&**store, "a").await;
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO transactions SELECT $1, NULL, 'x', 1, now(), NULL, 'x', 'x', NULL, 'other', 1, 'batch'")
        .bind(uuid::Uuid::from_u128(1))
        .execute(&mut *blocker)
        .await
        .unwrap();
    let (first, beyond) = ([chunk_of_ids("a", 0, 1, &[1])], [chunk_of_ids("a", 1, 2, &[2])]);
    let sealed = SealedTotals { rows_read: 1, chunks_total: 1, amount: None };
    let id = run_id("a");
    let writing = database.write(&first, IdConflict::Fail);
    let sealing = async {
        wait_for_blocked_connections(pool, "assay-test", 1).await;
        store.seal(&lease("a"), sealed, None).await
    };
    let overtaking = async {
        wait_for_blocked_connections(pool, "assay-test", 2).await;
        database.write(&beyond, IdConflict::Fail).await
    };
    let release = async {
        wait_for_blocked_connections(pool, "assay-test", 3).await;
        blocker.rollback().await.unwrap();
    };
    let (written, sealed, late, ()) = tokio::join!(writing, sealing, overtaking, release);
    sealed.unwrap();
    assert_eq!(written.unwrap().outcomes, [ChunkOutcome::Recorded]);
    assert!(matches!(late.unwrap().outcomes[..], [ChunkOutcome::Refused { .. }]));
    assert_eq!(store.close_run(&id).await.unwrap(), RunState::Complete);
}

/// The seal that held the lock first has changed the run before the writer reads it.
#[tokio::test]
async fn a_writer_that_waited_for_a_seal_records_nothing_beyond_it() {
    let database = Database::postgres().await;
    begin(&*database.store, "a").await;
    let mut sealer = pool(&database).begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(hashtextextended('a', 0))").execute(&mut *sealer).await.unwrap();
    let chunks = [chunk_of_ids("a", 0, 1, &[1]), chunk_of_ids("a", 1, 2, &[2])];
    let seal = async {
        wait_for_a_blocked_connection(pool(&database)).await;
        // No row lock that would make the writer read it again.
        let seal = "UPDATE runs SET state = 'sealed', rows_read = 1, chunks_total = 1 WHERE run_id = 'a'";
        sqlx::raw_sql(seal).execute(&mut *sealer).await.unwrap();
        sealer.commit().await.unwrap();
    };
    let (written, ()) = tokio::join!(database.store.write(&chunks, IdConflict::Fail), seal);
    let outcomes = written.unwrap().outcomes;
    assert_eq!(outcomes[0], ChunkOutcome::Recorded);
    assert!(
        matches!(&outcomes[1], ChunkOutcome::Refused { reason } if reason.contains("beyond the end")),
        "{outcomes:?}"
    );
    assert_eq!(database.store.close_run(&run_id("a")).await.unwrap(), RunState::Complete);
}

/// A confirmed commit is on disk, whatever the database has set.
#[tokio::test]
async fn commits_are_at_least_as_durable_as_on() {
    for (set, expected) in [("off", "on"), ("local", "local"), ("on", "on"), ("remote_apply", "remote_apply")] {
        let database = Database::postgres().await;
        let tables = ["runs", "chunks", "transactions", "dead_letters", "operations", "replays", "replay_parts"];
        let mut statements = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = {set}', current_database()); END $$;
            CREATE TABLE seen (name text, level text);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO seen VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NEW;
            END $$;"
        );
        for table in tables {
            let trigger =
                ["CREATE TRIGGER note AFTER INSERT OR UPDATE ON ", table, " FOR EACH ROW EXECUTE FUNCTION note();"];
            statements.extend(trigger);
        }
        database.execute(&statements).await;
        let store = database.another().await;
        begin(&*store, "a").await;
        let rows = [scored(1, "1"), Row::Failed(transaction(2, "1"))];
        store.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
        store.begin_replay(&run_id("a"), &serde_json::json!({}), &audit_context()).await.unwrap();
        store.write_replay(&part("a", 1, 0, &[(2, scored(2, "1"))]), IdConflict::Fail).await.unwrap();
        store.record_dead_letter(&letter()).await.unwrap();
        let seen = database.texts("SELECT DISTINCT name || ' ' || level FROM seen ORDER BY 1").await;
        let mut all: Vec<_> = tables.iter().map(|table| format!("{table} {expected}")).collect();
        all.sort();
        assert_eq!(seen, all);
    }
}
