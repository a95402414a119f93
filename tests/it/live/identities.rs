//! One id is one transaction, whichever way it comes: from a file, through the streamer, from an external producer, or copied from the
//! old job; under both schemes of ids.

use assay_tests::{Answer, Program, Script, Stack, get, post};
use assay_transaction::{IdScheme, Namespace};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

const COPY: &str = include_str!("../../../deploy/from-the-old-job/copy.sql");
/// A UUID, so that the copy needs no extension for it.
const NAMESPACE: &str = "0f2c7a0e-7a3c-4f0c-9d58-1a1f6f3c2b11";
/// Ids that end in a number, that have the digits of a card, that are a UUID, and that are neither.
const IDS: [&str; 8] = [
    "4711",
    "04711",
    "A4711",
    "TX-2026-000123",
    "0000123456789012345678",
    "CB4111111111111111",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "no number",
];

fn transaction(id: &str) -> Value {
    json!({
        "id": id, "description": "Café", "amount": "-9.50", "timestamp": "2026-01-11T10:00:00Z",
        "operation_type": "card_payment", "side": "debit",
    })
}

/// The tables of the old job with the same transactions, and their copy. Returns whether the server has what that needs.
async fn copy(stack: &Stack) -> bool {
    let extension = "SELECT count(*) FROM pg_available_extensions WHERE name = 'uuid-ossp'";
    if stack.database.count(extension).await == 0 {
        return false;
    }
    let rows: Vec<String> = IDS
        .iter()
        .map(|id| format!("('{id}', 'Café', -9.50, '2026-01-11 10:00:00', 'card_payment', 'debit')"))
        .collect();
    let old = format!(
        "CREATE EXTENSION \"uuid-ossp\"; CREATE SCHEMA old;
        CREATE TABLE old.transactions (id text, description text, amount numeric, timestamp timestamp, operation_type text, side text);
        CREATE TABLE old.predictions (transaction_id text, prediction text);
        INSERT INTO old.transactions VALUES {};
        INSERT INTO old.predictions SELECT id, 'legitimate' FROM old.transactions",
        rows.join(", ")
    );
    stack.database.execute(&old).await;
    let mut connection = PgConnection::connect(stack.database.url()).await.unwrap();
    let settings = format!(
        "SET assay.schema = 'public'; SET assay.old_schema = 'old'; SET assay.id_namespace = '{NAMESPACE}'; {COPY}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(&mut connection).await.unwrap();
    true
}

async fn one_id_is_one_transaction(scheme: IdScheme) {
    let stack = Stack::new(Script::Score).await;
    if scheme == IdScheme::V5 {
        stack.database.follow_first_id_scheme().await;
    }
    let is_copied = copy(&stack).await;
    let mut predictor = stack.predictor().env("ID_NAMESPACE", NAMESPACE).start();
    predictor.says("scoring with up to").await;
    let _writer = stack.writer().start();

    let head = "id,description,amount,timestamp,operation_type,side\n";
    let line = |id: &&str| format!("{id},Café,-9.50,2026-01-11T10:00:00Z,card_payment,debit\n");
    stack.s3.put("transactions", "a.csv", format!("{head}{}", IDS.iter().map(line).collect::<String>()));
    let loaded = stack.loader("s3://transactions/a.csv").arg("--wait").env("ID_NAMESPACE", NAMESPACE).run().await;
    loaded.expect_exit(0);

    let serve = stack.known_to(Program::new("streamer")).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0");
    let mut streamer = serve.env("ID_NAMESPACE", NAMESPACE).start();
    let address = streamer.address_after("are accepted at http://").await;
    let batch = Value::Array(IDS.map(transaction).to_vec()).to_string();
    let Answer { status, body } = post(&address, "/transactions", &batch).await.unwrap();
    assert_eq!(status, 202, "{body}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("batch.json");
    std::fs::write(&file, &batch).unwrap();
    let producer = stack.broker.known_to(Program::python("examples/live/producer.py"));
    producer.args(["--producer", "till"]).arg(&file).run().await.expect_exit(0);

    // One of them has stored each transaction, and it is a duplicate of each other.
    let ways = if is_copied { 4 } else { 3 };
    stack.database.until(&format!("SELECT count(*) = {ways} FROM chunks")).await;
    let namespace = Namespace::new(NAMESPACE);
    let mut expected = IDS.map(|id| format!("{id} {}", namespace.identify(scheme, id).0));
    expected.sort_unstable();
    let mut stored =
        stack.database.texts("SELECT coalesce(external_id, id::text) || ' ' || id FROM transactions").await;
    stored.sort_unstable();
    assert_eq!(stored, expected);
    let duplicates =
        "SELECT sum(jsonb_array_length(duplicate_rows))::bigint FROM chunks WHERE duplicate_rows IS NOT NULL";
    assert_eq!(stack.database.count(duplicates).await, (ways - 1) * i64::try_from(IDS.len()).unwrap());
    let schemes = "SELECT DISTINCT coalesce(settings->>'ids', '5') FROM runs";
    assert_eq!(stack.database.texts(schemes).await, [scheme.to_string()]);

    // The look-ups find it by the id in its source.
    for id in ["4711", "TX-2026-000123"] {
        let (uuid, _) = namespace.identify(scheme, id);
        stack.assay(["transaction", id]).run().await.expect_exit(0).expect_says(&uuid.to_string());
        let Answer { status, body } = get(&address, &format!("/transactions/{id}")).await.unwrap();
        assert_eq!((status, &body["id"]), (200, &json!(uuid)), "{body}");
    }
}

#[tokio::test]
async fn one_id_is_one_transaction_in_a_new_database() {
    one_id_is_one_transaction(IdScheme::V8).await;
}

#[tokio::test]
async fn one_id_is_one_transaction_in_an_older_database() {
    one_id_is_one_transaction(IdScheme::V5).await;
}

#[tokio::test]
async fn a_message_of_another_scheme_is_refused_in_words() {
    let stack = Stack::new(Script::Score).await;
    let [mut predictor, _writer] = stack.start_stages();
    // It has declared the queues.
    predictor.says("scoring with up to").await;
    let id = "00000000-1267-8532-9e29-ee7183e7d990";
    let today = stack.database.texts("SELECT (now() AT TIME ZONE 'UTC')::date::text").await;
    let mut row = transaction(id);
    row["amount"] = json!(-9.5);
    // As a streamer of an earlier version sends it: without a scheme, which means the first.
    let message = json!({
        "producer": "till", "day": today[0], "message": "m-1",
        "digest": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "transactions": [{ "row": 1, "external_id": "A4711", "transaction": row }],
    });
    stack.broker.look_at("transactions.realtime").await.put("assay.live.v1", message.to_string().as_bytes()).await;
    stack.database.until("SELECT count(*) = 1 FROM dead_letters").await;
    let letters = stack.database.texts("SELECT outcome || ' ' || reason FROM dead_letters").await;
    assert!(
        letters[0].starts_with("refused its ids follow scheme 5, and those of this database scheme 8"),
        "{letters:?}"
    );
    for nothing in ["SELECT count(*) FROM transactions", "SELECT count(*) FROM failed_transactions"] {
        assert_eq!(stack.database.count(nothing).await, 0, "{nothing}");
    }
}
