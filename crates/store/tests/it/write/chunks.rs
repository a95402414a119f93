//! Chunks become rows, once and completely, even if they are redelivered.

use assay_store::ChunkOutcome::{AlreadyRecorded, Recorded};
use assay_store::{ChunkOutcome, IdConflict, PredictionCount, WriteReport};
use assay_transaction::{Entry, Lane, Tally};

use crate::chunks::{Row, chunk, chunk_of_ids, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    every_row_is_stored_in_its_table,
    queries_of_users_still_work,
    a_redelivery_changes_nothing,
    part_of_a_call_may_be_repeated,
    a_chunk_twice_in_one_call_is_written_once,
    a_contradicting_chunk_is_refused_alone,
    many_rows_go_into_one_call,
    the_lane_is_kept,
    an_empty_call_does_nothing,
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM transactions) * 1000000 + (SELECT count(*) FROM predictions) * 10000 \
    + (SELECT count(*) FROM invalid_transactions) * 100 + (SELECT count(*) FROM failed_transactions)";

async fn every_row_is_stored_in_its_table(database: &Database) {
    let store = &*database.store;
    let rows = [
        Row::Scored(transaction(1, "-952.40"), "fraud", 0.97),
        Row::Invalid(b"7;caf\xe9\0;1.00001"),
        scored(3, "9999999999999999.9999"),
        Row::Failed(transaction(4, "1")),
    ];
    let written = database.write(&[chunk("a", 0, 101, &rows)], IdConflict::Fail).await.unwrap();
    assert_eq!((written.outcomes, written.transactions), (vec![ChunkOutcome::Recorded], 2));
    let tally = Tally { predicted: 2, invalid: 1, failed: 1, duplicate: 0 };
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), Tally::default());

    let content = "SELECT row_number || '|' || external_id || '|' || description || '|' || amount || '|' ||
        coalesce(merchant, '-') || '|' || operation_type || '|' || side || '|' || run_id || '|' || processing_type
        FROM transactions ORDER BY id";
    let amount = |amount: &str| if database.is_sqlite() { amount.to_owned() } else { amount.replace(".40", ".4000") };
    assert_eq!(
        database.texts(content).await,
        [
            amount("101|id 1|Café 1|-952.40|SNCF|card_payment|debit|a|batch"),
            "103|id 3|Café 3|9999999999999999.9999|SNCF|card_payment|debit|a|batch".to_owned()
        ]
    );
    let attributes = "SELECT coalesce(CAST(attributes AS text), 'none') FROM transactions ORDER BY id";
    let attributes: Vec<_> = database.texts(attributes).await.iter().map(|text| text.replace(' ', "")).collect();
    assert_eq!(attributes, ["none", r#"{"country":"FR"}"#]);
    let predictions = "SELECT prediction || '|' || fraud_score || '|' || model_version || '|' || run_id FROM predictions \
        ORDER BY transaction_id";
    assert_eq!(database.texts(predictions).await, ["fraud|0.97|demo-1|a", "legitimate|0.25|demo-1|a"]);

    let invalid = "SELECT run_id || '|' || row_number || '|' || line || '|' || reason || '|' || message FROM invalid_transactions";
    assert_eq!(database.texts(invalid).await, ["a|102|103|amount_scale|`amount` has more than 4 decimals"]);
    assert_eq!(database.bytes("SELECT raw FROM invalid_transactions").await, [b"7;caf\xe9\0;1.00001"]);

    let failed = "SELECT run_id || '|' || row_number || '|' || class || '|' || reason || '|' || attempts FROM failed_transactions";
    assert_eq!(database.texts(failed).await, ["a|104|rejected|422 Unprocessable Entity|3"]);
    let payload = &database.bytes("SELECT payload FROM failed_transactions").await[0];
    let entry: Entry = serde_json::from_slice(payload).unwrap();
    assert_eq!((entry.row, entry.transaction.decode().unwrap()), (104, transaction(4, "1")));

    let counts = store.recount(&run_id("a")).await.unwrap().1;
    let count = |prediction: &str, mean_score| PredictionCount { prediction: prediction.into(), count: 1, mean_score };
    assert_eq!(counts, [count("fraud", Some(0.97)), count("legitimate", Some(0.25))]);
    assert_eq!(store.invalid_counts(&run_id("a")).await.unwrap(), [("amount_scale".to_owned(), 1)]);
    assert_eq!(store.failed_counts(&run_id("a")).await.unwrap(), [("rejected".to_owned(), 1)]);
}

async fn queries_of_users_still_work(database: &Database) {
    let mut chunk = chunk_of_ids("a", 0, 1, &[1, 2, 3]);
    chunk.predicted[2].prediction.fraud_score = None;
    database.write(&[chunk], IdConflict::Fail).await.unwrap();
    assert_eq!(database.count("SELECT COUNT(*) FROM transactions;").await, 3);
    let by_prediction =
        "SELECT prediction, COUNT(*) AS count, AVG(fraud_score) AS avg_score FROM predictions GROUP BY prediction;";
    let by_date = "SELECT DATE(created_at) AS date, COUNT(*) AS transactions FROM transactions GROUP BY DATE(created_at) ORDER BY date DESC;";
    let mean = database.texts(&in_one_column(by_prediction, "prediction || '|' || count || '|' || avg_score")).await;
    assert_eq!(mean, ["legitimate|3|0.25"]);
    let today = if database.is_sqlite() { "date('now')" } else { "CURRENT_DATE" };
    let days = database.texts(&in_one_column(by_date, &format!("({today} - date) || '|' || transactions"))).await;
    assert_eq!(days, ["0|3"]);
}

fn in_one_column(query: &str, columns: &str) -> String {
    format!("SELECT {columns} FROM ({}) AS answer", query.trim_end_matches(';'))
}

async fn a_redelivery_changes_nothing(database: &Database) {
    let store = &*database.store;
    let rows = [scored(1, "1"), Row::Invalid(b"x"), Row::Failed(transaction(2, "2")), scored(3, "3"), scored(1, "1")];
    let first = chunk("a", 0, 1, &rows);
    database.write(std::slice::from_ref(&first), IdConflict::Fail).await.unwrap();
    let tally = Tally { predicted: 2, invalid: 1, failed: 1, duplicate: 1 };
    // Even with other content: the predictor asked twice, and the first answer counts.
    let mut other = first.clone();
    other.predicted[0].prediction.prediction = "fraud".into();
    for again in [first, other] {
        for on_conflict in [IdConflict::Fail, IdConflict::Update] {
            let written = database.write(std::slice::from_ref(&again), on_conflict).await.unwrap();
            assert_eq!((written.outcomes, written.transactions), (vec![ChunkOutcome::AlreadyRecorded], 0));
            assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
        }
    }
    assert_eq!(database.count(COUNTS).await, 2_020_101);
    assert_eq!(database.count("SELECT count(*) FROM predictions WHERE prediction = 'fraud'").await, 0);
}

async fn part_of_a_call_may_be_repeated(database: &Database) {
    let store = &*database.store;
    let chunks: Vec<_> =
        (0..6).map(|number| chunk_of_ids("a", number, number * 2 + 1, &[u128::from(number), 99])).collect();
    database.write(&chunks[1..3], IdConflict::Fail).await.unwrap();
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes, [Recorded, AlreadyRecorded, AlreadyRecorded, Recorded, Recorded, Recorded]);
    assert_eq!(written.transactions, 4);
    let tally = Tally { predicted: 7, duplicate: 5, ..Tally::default() };
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
    let predicted = "SELECT chunk || '|' || predicted FROM chunks ORDER BY chunk";
    assert_eq!(database.texts(predicted).await, ["0|1", "1|2", "2|1", "3|1", "4|1", "5|1"]);
}

async fn a_chunk_twice_in_one_call_is_written_once(database: &Database) {
    let first = chunk_of_ids("a", 0, 1, &[1, 2]);
    let other_range = chunk_of_ids("a", 0, 1, &[1, 2, 3]);
    let chunks = [chunk_of_ids("a", 1, 3, &[3]), first.clone(), first, other_range];
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes[..3], [ChunkOutcome::Recorded, ChunkOutcome::Recorded, ChunkOutcome::AlreadyRecorded]);
    assert!(matches!(&written.outcomes[3], ChunkOutcome::Refused { reason } if reason.contains("a/0 has 3 rows")));
    assert_eq!(database.store.tally(&run_id("a")).await.unwrap().predicted, 3);
}

async fn a_contradicting_chunk_is_refused_alone(database: &Database) {
    database.write(&[chunk_of_ids("a", 0, 1, &[1, 2]), chunk_of_ids("a", 4, 9, &[9])], IdConflict::Fail).await.unwrap();
    let mut uncounted = chunk_of_ids("b", 0, 1, &[11, 12]);
    uncounted.range.rows = 3;
    let mut outside = chunk_of_ids("b", 1, 1, &[11, 12]);
    outside.predicted[0].entry.row = 7;
    let mut twice = chunk_of_ids("b", 2, 1, &[11, 12]);
    twice.predicted[0].entry.row = 2;
    let mut unreadable = chunk_of_ids("b", 3, 1, &[11]);
    unreadable.predicted[0].entry.transaction = serde_json::from_str(r#"{"id":1}"#).unwrap();
    let mut endless = chunk_of_ids("b", 4, 1, &[11]);
    endless.range.first_row = u64::MAX;
    let cases = [
        (chunk_of_ids("a", 0, 1, &[1, 2, 3]), "a/0 has 3 rows from row 1 on, but is known with 2 rows from row 1 on"),
        (chunk_of_ids("a", 0, 2, &[1, 2]), "a/0 has 2 rows from row 2 on"),
        (chunk_of_ids("a", 1, 2, &[3, 4]), "a/1 has rows of another chunk"),
        (chunk_of_ids("a", 3, 7, &[7, 8, 10]), "a/3 has rows of another chunk"),
        (uncounted, "b/0 covers 3 rows and has 2"),
        (outside, "b/1 has row 7, which is not in its range"),
        (twice, "b/2 has row 2 twice"),
        (unreadable, "row 1 of chunk b/3"),
        (endless, "b/4 has numbers that no database takes"),
    ];
    for (chunk, expected) in cases {
        let good = chunk_of_ids("good", 0, 1, &[100]);
        let written = database.write(&[chunk, good], IdConflict::Fail).await.unwrap();
        assert!(
            matches!(&written.outcomes[0], ChunkOutcome::Refused { reason } if reason.contains(expected)),
            "{expected}: {written:?}"
        );
        assert!(matches!(written.outcomes[1], ChunkOutcome::Recorded | ChunkOutcome::AlreadyRecorded));
    }
    assert_eq!(database.texts("SELECT run_id || '/' || chunk FROM chunks ORDER BY 1").await, ["a/0", "a/4", "good/0"]);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 4);
}

async fn many_rows_go_into_one_call(database: &Database) {
    let mut rows: Vec<Row> = (0..3_000).map(|id| scored(id, "5.5")).collect();
    rows.extend((0..200).map(|_| Row::Invalid(b"\xff")));
    rows.extend((0..200).map(|id| Row::Failed(transaction(10_000 + id, "1"))));
    rows.extend((0..300).map(|id| scored(id * 2, "5.50")));
    let chunks: Vec<_> = (0..37)
        .map(|number| {
            let rows = &rows[usize::try_from(number * 100).unwrap()..][..100];
            chunk("a", number, number * 100 + 1, rows)
        })
        .collect();
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.transactions, 3_000);
    let tally = Tally { predicted: 3_000, invalid: 200, failed: 200, duplicate: 300 };
    assert_eq!(database.store.tally(&run_id("a")).await.unwrap(), tally);
}

async fn the_lane_is_kept(database: &Database) {
    let mut live = chunk_of_ids("a", 0, 1, &[1]);
    live.lane = Lane::Realtime;
    database.write(&[live], IdConflict::Fail).await.unwrap();
    assert_eq!(database.texts("SELECT processing_type FROM transactions").await, ["streaming"]);
}

async fn an_empty_call_does_nothing(database: &Database) {
    assert_eq!(database.write(&[], IdConflict::Fail).await.unwrap(), WriteReport::default());
    database.store.ping().await.unwrap();
}
