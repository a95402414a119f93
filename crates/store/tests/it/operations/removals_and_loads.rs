//! Loads during a removal: no row is the duplicate of a transaction that is gone. Only PostgreSQL has concurrent
//! writers.

use assay_store::{IdConflict, RemovalCounts, RemovalStep};
use assay_transaction::Tally;
use futures_util::future::join_all;

use crate::chunks::{audit_context, begin, chunk_of_ids, finish, run_id};
use crate::database::Database;
use crate::operations::removals::remove;
use crate::postgres::server::{pool, wait_for_a_blocked_connection, wait_for_blocked_connections};

const DANGLING: &str = "SELECT count(*) FROM chunks c CROSS JOIN LATERAL jsonb_array_elements(c.duplicate_rows) AS pair \
    WHERE NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = CAST(pair->>1 AS uuid))";
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('removals of runs', 0))";
const LOCK_SHARED: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended('removals of runs', 0))";

#[tokio::test]
async fn a_removal_waits_for_a_writer_that_compared() {
    let database = Database::postgres().await;
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    finish(store, "a", 2, 1).await;
    begin(store, "b").await;
    store.begin_removal(&run_id("a"), &audit_context()).await.unwrap();
    // A writer that found a duplicate, and is about to commit it.
    let mut writer = pool(&database).begin().await.unwrap();
    sqlx::query(LOCK_SHARED).execute(&mut *writer).await.unwrap();
    sqlx::query(
        "INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, duplicate_rows) VALUES ('b', 0, 1, 1, 0, $1)",
    )
    .bind(serde_json::json!([[1, uuid::Uuid::from_u128(1)]]))
    .execute(&mut *writer)
    .await
    .unwrap();
    let removing = tokio::spawn({
        let store = database.another().await;
        async move { store.removal_step(&run_id("a"), &RemovalStep::Tombstones { chunk: 0 }).await.unwrap() }
    });
    wait_for_blocked_connections(pool(&database), "assay-other", 1).await;
    writer.commit().await.unwrap();
    let (removed, next) = removing.await.unwrap();
    assert_eq!(removed, RemovalCounts { rows: 2, passed_on: 1, restored: 0 }, "it sees what it has waited for");
    assert_eq!(next, Some(RemovalStep::Restore));
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), Tally { predicted: 1, ..Tally::default() });
}

#[tokio::test]
async fn a_writer_that_compares_waits_for_a_removal() {
    let database = Database::postgres().await;
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    begin(store, "b").await;
    let mut remover = pool(&database).begin().await.unwrap();
    sqlx::query(LOCK).execute(&mut *remover).await.unwrap();
    sqlx::query("DELETE FROM transactions").execute(&mut *remover).await.unwrap();
    let chunks = [chunk_of_ids("b", 0, 1, &[1, 2])];
    let (written, ()) = tokio::join!(store.write(&chunks, IdConflict::Fail), async {
        wait_for_a_blocked_connection(pool(&database)).await;
        remover.commit().await.unwrap();
    });
    // It had not looked yet, or it looks again.
    if let Err(error) = written {
        assert!(error.is_transient(), "{error}");
        store.write(&chunks, IdConflict::Fail).await.unwrap();
    }
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), Tally { predicted: 2, ..Tally::default() });
}

#[tokio::test]
async fn concurrent_loads_of_the_same_ids_finish() {
    const CHUNKS: u64 = 12;
    let database = Database::postgres().await;
    let other = database.another().await;
    let ids = |number: u64| (number * 50..number * 50 + 50).map(u128::from).collect::<Vec<_>>();
    for run in ["a", "b", "c"] {
        begin(&*database.store, run).await;
    }
    for number in 0..CHUNKS {
        let chunk = chunk_of_ids("a", number, number * 50 + 1, &ids(number));
        database.store.write(&[chunk], IdConflict::Fail).await.unwrap();
    }
    finish(&*database.store, "a", CHUNKS * 50, CHUNKS).await;
    let load = |run: &'static str, backwards: bool, on_conflict| {
        let other = &other;
        async move {
            for number in 0..CHUNKS {
                let number = if backwards { CHUNKS - 1 - number } else { number };
                let chunk = [chunk_of_ids(run, number, number * 50 + 1, &ids(number))];
                while let Err(error) = other.write(&chunk, on_conflict).await {
                    assert!(error.is_transient(), "{error}");
                }
            }
        }
    };
    let loads = join_all([load("b", false, IdConflict::Fail), load("c", true, IdConflict::Update)]);
    let (removed, _) = tokio::join!(remove(&*database.store, "a", &["a", "b", "c"]), loads);
    assert_eq!(removed.rows, CHUNKS * 50);
    assert_eq!(database.count(DANGLING).await, 0);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 600);
    for run in ["a", "b", "c"] {
        if run != "a" {
            finish(&*database.store, run, CHUNKS * 50, CHUNKS).await;
        }
        let audit = database.store.audit(&run_id(run)).await.unwrap().unwrap();
        assert_eq!((audit.breaches(), audit.tally.total()), (vec![], CHUNKS * 50));
    }
}
