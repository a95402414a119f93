//! Each stage under its own user of PostgreSQL and RabbitMQ, with the rights that the scripts of `deploy` grant: a load and the
//! operators' commands succeed, and everything else is refused.

use std::io::Write as _;

use assay_tests::{
    Database, Extras, MlApi, Postgres, Program, RabbitMq, Rows, Running, S3Server, Script, Tools, post, row,
};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");
const PERMISSIONS: &str = include_str!("../../../deploy/rabbitmq/permissions");
/// Not `public`, and one that has to be quoted.
const SCHEMA: &str = "Fraud-1";
const PASSWORD: &str = "least-privilege";
const PREFIX: &str = "bank.";
const DATABASE_ROLES: [&str; 9] = [
    "assay_owner",
    "assay_loader",
    "assay_writer",
    "assay_streamer",
    "assay_desk",
    "assay_remover",
    "assay_purger",
    "assay_eraser",
    "assay_reader",
];
const BROKER_USERS: [&str; 7] =
    ["assay_owner", "assay_loader", "assay_predictor", "assay_writer", "assay_streamer", "assay_desk", "assay_events"];

struct Restricted {
    database: Database,
    s3: S3Server,
    ml_api: MlApi,
    rabbitmq: RabbitMq,
    _postgres: Postgres,
    _folder: tempfile::TempDir,
}

impl Restricted {
    async fn start(tools: &Tools) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let public = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(folder.path(), public).unwrap();
        let extras = Extras::default();
        let (rabbitmq, mut postgres) = tokio::join!(
            RabbitMq::start(&folder, tools.rabbitmq.clone(), &extras),
            Postgres::start(&folder, tools.postgres.clone(), &extras),
        );
        let database = Database::empty_on(postgres.url().into()).await;
        grant(&database).await;
        for role in DATABASE_ROLES {
            postgres.execute(&format!("ALTER ROLE {role} PASSWORD '{PASSWORD}'")).await;
        }
        for user in BROKER_USERS {
            rabbitmq.put_file(&format!("passwords/{user}"), &format!("{PASSWORD}\n"));
        }
        let passwords = rabbitmq.put_file("passwords/none", "").parent().unwrap().display().to_string();
        rabbitmq.run(PERMISSIONS, &["--prefix", PREFIX, "--passwords", &passwords]);
        let (s3, ml_api) = (S3Server::start().await, MlApi::start(Script::Refuse).await);
        Self { database, s3, ml_api, rabbitmq, _postgres: postgres, _folder: folder }
    }

    fn database_url(&self, role: &str) -> String {
        let mut url = Url::parse(self.database.url()).unwrap();
        url.set_username(role).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.query_pairs_mut().append_pair("options", &format!("-csearch_path=\"{SCHEMA}\""));
        url.into()
    }

    fn amqp_url(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@127.0.0.1:{}", self.rabbitmq.port())
    }

    /// A program under users of these names; with no role where it has no database.
    fn program(&self, name: &'static str, user: &str, role: Option<&str>) -> Program {
        let program = Program::new(name)
            .env("AMQP_URL", self.amqp_url(user))
            .env("QUEUE_PREFIX", PREFIX)
            .env("ML_API_URL", self.ml_api.url())
            .env("ENDPOINT_URL", self.s3.endpoint())
            .env("KEY", S3Server::KEY)
            .env("SECRET", S3Server::SECRET)
            .env("FLUSH_INTERVAL", "100ms")
            .env("MAX_RETRIES", "0")
            .env("WAIT_TIMEOUT", "60s")
            .env("STARTUP_TIMEOUT", "10s");
        match role {
            Some(role) => program.env("DATABASE_URL", self.database_url(role)),
            None => program,
        }
    }

    fn loader(&self) -> Program {
        self.program("loader", "assay_loader", Some("assay_loader"))
    }

    fn assay(&self) -> Program {
        self.program("assay", "assay_desk", Some("assay_desk"))
    }

    /// The tables, for the test itself.
    async fn count(&self, query: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.database_url("assay_reader")).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    }

    async fn until(&self, query: &'static str) {
        let mut connection = PgConnection::connect(&self.database_url("assay_reader")).await.unwrap();
        let is_so = async {
            while !sqlx::query_scalar::<_, bool>(query).fetch_one(&mut connection).await.unwrap() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(assay_tests::DEADLINE, is_so).await.unwrap_or_else(|_| panic!("not so in time: {query}"));
    }

    async fn lets(&self, role: &str, statement: &str) -> bool {
        let mut connection = PgConnection::connect(&self.database_url(role)).await.unwrap();
        match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await {
            Ok(_) => true,
            Err(error) => {
                let code = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code)
                    .unwrap_or_default()
                    .into_owned();
                assert_eq!(code, "42501", "{role}: {statement}: {error}");
                false
            }
        }
    }

    async fn connection(&self, user: &str) -> Connection {
        Connection::connect(&self.amqp_url(user), ConnectionProperties::default()).await.unwrap()
    }

    async fn lets_publish(&self, user: &str, exchange: &str, key: &str) -> bool {
        self.lets_send(user, exchange, key, "").await
    }

    async fn lets_send(&self, user: &str, exchange: &str, key: &str, body: &str) -> bool {
        let connection = self.connection(user).await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
        let exchange = if exchange.is_empty() { String::new() } else { format!("{PREFIX}{exchange}") };
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        match channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await {
            Ok(confirm) => confirm.await.is_ok(),
            Err(_) => false,
        }
    }

    /// Whether a queue takes what the user publishes.
    async fn is_routed(&self, user: &str, exchange: &str, key: &str, kind: &str, body: &str) -> bool {
        let channel = self.connection(user).await.create_channel().await.unwrap();
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_type(kind.into()).with_delivery_mode(2);
        let exchange = format!("{PREFIX}{exchange}");
        let confirm =
            channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await.unwrap();
        match confirm.await.unwrap() {
            Confirmation::Ack(returned) => returned.is_none(),
            refused => panic!("{user} to {key}: {refused:?}"),
        }
    }

    async fn lets_read(&self, user: &str, queue: &str) -> bool {
        let channel = self.connection(user).await.create_channel().await.unwrap();
        let queue = format!("{PREFIX}{queue}");
        channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await.is_ok()
    }
}

/// Runs the script on a database, for tables in another schema than `public`.
async fn grant(database: &Database) {
    database.execute(&format!("SET assay.schema = '{SCHEMA}'; {ROLES}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_has_only_the_rights_that_it_needs() {
    let Some(tools) = Tools::from_environment() else {
        let words = "roles: NOT RUN, as they take installed services with users of their own: run scripts/faults once, which brings them";
        writeln!(std::io::stderr(), "{words}").unwrap();
        return;
    };
    let restricted = Restricted::start(&tools).await;
    nothing_starts_before_the_owner_has_been_there(&restricted).await;
    restricted.program("assay", "assay_owner", Some("assay_owner")).arg("migrate").run().await.expect_exit(0);
    grant(&restricted.database).await;
    grant(&restricted.database).await;
    restricted.program("assay", "assay_owner", None).arg("declare").run().await.expect_exit(0);

    let stages = [
        restricted.program("predictor", "assay_predictor", None).start(),
        restricted.program("writer", "assay_writer", Some("assay_writer")).start(),
    ];
    a_load_and_what_is_done_about_it(&restricted).await;
    an_event_starts_a_load(&restricted).await;
    live_transactions(&restricted).await;
    a_live_producer_forges_no_chunk(&restricted).await;
    a_run_is_removed(&restricted).await;
    content_is_purged_and_erased(&restricted).await;
    for stage in stages {
        stage.terminate();
        stage.end().await.expect_exit(0).expect_silent_about("ACCESS_REFUSED").expect_silent_about("permission denied");
    }
    no_stage_does_the_work_of_another(&restricted).await;
    the_doctor_knows_what_each_user_may_do(&restricted).await;
    the_doctor_names_an_alarm(&restricted).await;
}

async fn nothing_starts_before_the_owner_has_been_there(restricted: &Restricted) {
    let writer = restricted.program("writer", "assay_writer", Some("assay_writer")).run().await;
    writer.expect_one_clear_line(2, &["assay migrate"]);
    let predictor = restricted.program("predictor", "assay_predictor", None).run().await;
    predictor.expect_one_clear_line(2, &["assay declare", "assay_predictor", "bank.assay.transactions"]);
    let declare = restricted.program("assay", "assay_writer", None).arg("declare").run().await;
    declare.expect_one_clear_line(2, &["assay_writer", "does not let"]);
}

async fn a_load_and_what_is_done_about_it(restricted: &Restricted) {
    let rows = Rows::valid(300).with(&row(301).replace("Card payment", "refuse me")).with("broken,,,,,,");
    let object = restricted.s3.put("transactions", "a.csv", rows);
    restricted
        .loader()
        .args([&object, "--wait"])
        .run()
        .await
        .expect_exit(1)
        .expect_says("300 processed, 1 failed, 1 invalid");
    // The same again is known, with the row that failed, and forced it is a run of duplicates.
    let again = restricted.loader().args([&object, "--wait"]).run().await;
    again.expect_exit(1).expect_says("is already loaded by run");
    restricted.loader().args([&object, "--wait", "--force"]).run().await.expect_exit(1);
    assert_eq!(restricted.count("SELECT count(*) FROM transactions").await, 300);

    let run = restricted.assay().args(["runs", "--json"]).run().await.expect_exit(0).json();
    let run = run.to_string();
    let run = run.split('"').find(|word| word.starts_with("batch_")).expect("a run has a name").to_owned();
    restricted.ml_api.set(Script::Score);
    restricted.assay().args(["replay", &run, "--wait", "--reason", "the model was updated"]).run().await.expect_exit(0);
    restricted.assay().args(["audit", &run]).run().await.expect_exit(0);
    restricted.assay().args(["repair", &run, "--reason", "to see whether it is whole"]).run().await.expect_exit(0);
    let reader = |arguments: [&str; 2]| {
        restricted.program("assay", "assay_desk", Some("assay_reader")).without("AMQP_URL").args(arguments).run()
    };
    for command in ["status", "audit", "failures", "invalid", "operations"] {
        reader([command, &run]).await.expect_exit(0);
    }
}

async fn a_run_is_removed(restricted: &Restricted) {
    let object = restricted.s3.put("transactions", "wrong.csv", Rows::valid(310).with("broken,,,,,,"));
    let load = restricted.loader().args([&object, "--wait"]).env("BATCH_RUN_ID", "wrong");
    load.env("ID_NAMESPACE", "elsewhere").run().await.expect_exit(0);
    let remove = |role| {
        let program = restricted.program("assay", "assay_desk", Some(role)).without("AMQP_URL");
        program.args(["remove", "wrong", "--yes", "--reason", "wrong"]).run()
    };
    remove("assay_desk").await.expect_exit(2).expect_says("permission denied");
    remove("assay_remover").await.expect_exit(0);
    assert_eq!(restricted.count("SELECT count(*) FROM failed_transactions WHERE class = 'removed'").await, 311);
}

async fn content_is_purged_and_erased(restricted: &Restricted) {
    let rows = (880_001..=880_003).fold(Rows::header(), |file, number| file.with(&row(number)));
    let rows = rows.with("880009,,1,2026-01-01 10:00:00,,x,debit");
    let object = restricted.s3.put("transactions", "customers.csv", rows);
    let load = |run| {
        let load = restricted.loader().args([object.as_str(), "--wait", "--force"]).env("BATCH_RUN_ID", run);
        load.env("ID_NAMESPACE", "customers").run()
    };
    load("customers").await.expect_exit(0);
    let assay = |role: &'static str, arguments: [&str; 3]| {
        let program = restricted.program("assay", "assay_desk", Some(role)).without("AMQP_URL").args(arguments);
        program.args(["--yes", "--reason", "as agreed"]).run()
    };
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("ids.txt").display().to_string();
    std::fs::write(&list, "880002\n880009\n").unwrap();
    for role in ["assay_desk", "assay_purger"] {
        assay(role, ["erase", &list, "--json"]).await.expect_exit(2).expect_says("permission denied");
    }
    let erased = assay("assay_eraser", ["erase", &list, "--json"]).await.expect_exit(0).json();
    assert_eq!((&erased["erased"]["transactions"], &erased["erased"]["invalid"]), (&1.into(), &1.into()));
    // The writer refuses them, under its own role.
    load("again").await.expect_exit(1);
    restricted.until("SELECT count(*) = 3 FROM failed_transactions WHERE class = 'erased'").await;
    let unmask =
        |role| restricted.program("assay", "assay_desk", Some(role)).args(["invalid", "again", "--unmasked"]).run();
    unmask("assay_reader").await.expect_exit(2).expect_says("permission denied");
    unmask("assay_desk").await.expect_exit(0);
    assay("assay_desk", ["purge", "--before", "0d"]).await.expect_exit(2).expect_says("permission denied");
    let all = "raw,failures,dead-letters,history,live-messages,erased-ids";
    let purge = restricted.program("assay", "assay_desk", Some("assay_purger")).without("AMQP_URL");
    let purge = purge.args(["purge", "--before", "0d", "--what", all, "--yes", "--reason", "retention"]);
    purge.run().await.expect_exit(0);
    restricted.assay().args(["audit", "--all"]).run().await.expect_exit(0);
}

async fn an_event_starts_a_load(restricted: &Restricted) {
    restricted.s3.put("drops", "in/first.csv", Rows::valid(1));
    let mut watcher = restricted.loader().args(["watch", "s3://drops/in/"]).env("WATCH_INTERVAL", "1h").start();
    watcher.says("in/first.csv").await;
    restricted.s3.put("drops", "in/second.csv", Rows::valid(2));
    let event = r#"{"EventName":"s3:ObjectCreated:Put","Key":"drops/in/second.csv","Records":[{"eventVersion":"2.1",
        "eventSource":"aws:s3","eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"drops"},
        "object":{"key":"in/second.csv","size":9,"eTag":"690505a0"}}}]}"#;
    assert!(restricted.lets_send("assay_events", "assay.events", "drops", event).await);
    watcher.says("in/second.csv").await;
    watcher.terminate();
    watcher.end().await.expect_exit(0).expect_silent_about("ACCESS_REFUSED").expect_silent_about("permission denied");
}

async fn live_transactions(restricted: &Restricted) {
    let mut streamer: Running = restricted
        .program("streamer", "assay_streamer", Some("assay_streamer"))
        .args(["serve", "--streamer-addr", "127.0.0.1:0"])
        .start();
    streamer.says("127.0.0.1:").await;
    let log = streamer.log();
    let at = log.find("127.0.0.1:").expect("it says where");
    let address: String = log[at..].chars().take_while(|next| next.is_ascii_digit() || ".:".contains(*next)).collect();
    let body = r#"{"id":"live-1","description":"a coffee","amount":3.5,"timestamp":"2026-01-11T10:00:00Z","merchant":"m","operation_type":"card","side":"debit"}"#;
    let answer = post(address.trim_end_matches('.'), "/transactions", body).await.unwrap();
    assert!((200..300).contains(&answer.status), "{answer:?}\n{}", streamer.log());
    restricted.until("SELECT count(*) >= 1 FROM transactions WHERE processing_type = 'streaming'").await;
    streamer.terminate();
    streamer.end().await.expect_exit(0).expect_silent_about("permission denied");
}

/// Whoever may publish live transactions may publish nothing else: neither where chunks go, nor as a chunk among the live ones.
async fn a_live_producer_forges_no_chunk(restricted: &Restricted) {
    const PRODUCER: &str = "assay_streamer";
    let forged = r#"{"run_id":"batch_20260111_100000_forged","chunk":0,"first_row":1,"rows":1,"transactions":[{"row":1,
        "transaction":{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}}]}"#;
    assert!(!restricted.lets_publish(PRODUCER, "assay.chunks", "batch").await);
    assert!(!restricted.is_routed(PRODUCER, "assay.transactions", "batch", "", "").await);

    // While programs of version 0.1 may still run, and until the upgrade is finished, there is a way.
    let channel = restricted.connection("assay_owner").await.create_channel().await.unwrap();
    let (queue, exchange) = (format!("{PREFIX}transactions.batch"), format!("{PREFIX}assay.transactions"));
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), "batch".into(), options, none).await.unwrap();
    assert!(restricted.is_routed(PRODUCER, "assay.transactions", "batch", "", "{").await);
    restricted.until("SELECT count(*) = 1 FROM dead_letters WHERE queue = 'transactions.batch'").await;
    let finish = restricted.program("assay", "assay_owner", None).args(["declare", "--finish-upgrade"]);
    finish.run().await.expect_exit(0).expect_says("transactions.batch takes chunks from assay.chunks only");
    assert!(!restricted.is_routed(PRODUCER, "assay.transactions", "batch", "", "{").await);

    assert!(restricted.is_routed(PRODUCER, "assay.transactions", "realtime", "assay.chunk.v1", forged).await);
    restricted
        .until(
            "SELECT count(*) = 1 FROM dead_letters WHERE queue = 'transactions.realtime' AND outcome = 'unreadable'
             AND run_id IS NULL AND reason LIKE '%chunk on the realtime lane%'",
        )
        .await;
    assert_eq!(restricted.count("SELECT count(*) FROM chunks WHERE run_id LIKE '%forged'").await, 0);
}

async fn no_stage_does_the_work_of_another(restricted: &Restricted) {
    let forbidden = [
        ("assay_loader", "DELETE FROM transactions"),
        ("assay_loader", "SELECT description FROM transactions"),
        ("assay_loader", "SELECT raw FROM invalid_transactions"),
        ("assay_loader", "SELECT payload FROM failed_transactions"),
        ("assay_loader", "INSERT INTO predictions VALUES (gen_random_uuid(), 'fraud', 1, NULL, 'r', now())"),
        ("assay_loader", "DELETE FROM runs"),
        ("assay_writer", "DELETE FROM transactions"),
        ("assay_writer", "DELETE FROM runs"),
        ("assay_writer", "SELECT * FROM operations"),
        ("assay_writer", "UPDATE transaction_history SET transaction = '{}'"),
        ("assay_writer", "DELETE FROM dead_letters"),
        ("assay_writer", "CREATE TABLE mine (a int)"),
        ("assay_streamer", "UPDATE transactions SET amount = 0"),
        ("assay_streamer", "SELECT raw FROM invalid_transactions"),
        ("assay_streamer", "DELETE FROM live_counts"),
        ("assay_desk", "DELETE FROM operations"),
        ("assay_desk", "DELETE FROM transactions"),
        ("assay_remover", "DELETE FROM runs"),
        ("assay_remover", "DELETE FROM failed_transactions"),
        ("assay_remover", "INSERT INTO transactions SELECT * FROM transactions"),
        ("assay_remover", "SELECT * FROM operations"),
        ("assay_desk", "UPDATE transactions SET amount = 0"),
        ("assay_purger", "DELETE FROM transactions"),
        ("assay_purger", "SELECT description FROM transactions"),
        ("assay_purger", "UPDATE operations SET operator = 'me'"),
        ("assay_purger", "DELETE FROM operations"),
        ("assay_purger", "UPDATE runs SET state = 'complete'"),
        ("assay_eraser", "DELETE FROM erased_ids"),
        ("assay_eraser", "UPDATE transactions SET amount = 0"),
        ("assay_eraser", "UPDATE operations SET reason = 'none'"),
        ("assay_eraser", "DELETE FROM runs"),
        ("assay_desk", "SELECT * FROM erasure_key"),
        ("assay_reader", "SELECT * FROM erased_ids"),
        ("assay_writer", "DELETE FROM erased_ids"),
        ("assay_reader", "UPDATE runs SET state = 'complete'"),
        ("assay_reader", "INSERT INTO operations (operator, action) VALUES ('me', 'nothing')"),
    ];
    for (role, statement) in forbidden {
        assert!(!restricted.lets(role, statement).await, "{role} may: {statement}");
    }
    assert!(restricted.lets("assay_reader", "SELECT * FROM transactions").await);
    assert!(restricted.lets("assay_writer", "SELECT summarise_rows(1)").await);
    // Tables of a later migration are readable for the reading roles only.
    assert!(restricted.lets("assay_owner", "CREATE TABLE later (a int)").await);
    assert!(restricted.lets("assay_reader", "SELECT * FROM later").await);
    assert!(!restricted.lets("assay_writer", "SELECT * FROM later").await);

    let publishing = [
        ("assay_loader", "assay.chunks", true),
        ("assay_loader", "assay.transactions", false),
        ("assay_loader", "assay.scored", false),
        ("assay_predictor", "assay.scored", true),
        ("assay_predictor", "assay.control", true),
        ("assay_predictor", "assay.transactions", false),
        ("assay_predictor", "assay.chunks", false),
        ("assay_writer", "assay.transactions", false),
        ("assay_writer", "assay.chunks", false),
        ("assay_writer", "assay.scored", false),
        ("assay_writer", "assay.predictions", true),
        ("assay_streamer", "assay.scored", false),
        ("assay_streamer", "assay.chunks", false),
        ("assay_events", "assay.transactions", false),
    ];
    for (user, exchange, expected) in publishing {
        assert_eq!(restricted.lets_publish(user, exchange, "nowhere").await, expected, "{user} to {exchange}");
    }
    for user in BROKER_USERS {
        let through_the_default = restricted.lets_publish(user, "", &format!("{PREFIX}transactions.batch")).await;
        assert!(!through_the_default, "{user} may publish to every queue");
    }
    let reading = [
        ("assay_loader", "transactions.batch", false),
        ("assay_predictor", "transactions.batch", true),
        ("assay_predictor", "predictions.batch", false),
        ("assay_writer", "predictions.batch", true),
        ("assay_writer", "transactions.batch", false),
        ("assay_streamer", "dead_letters", false),
    ];
    for (user, queue, expected) in reading {
        assert_eq!(restricted.lets_read(user, queue).await, expected, "{user} from {queue}");
    }
    let channel = restricted.connection("assay_predictor").await.create_channel().await.unwrap();
    let declared = channel.queue_declare("mine".into(), QueueDeclareOptions::default(), FieldTable::default()).await;
    assert!(declared.is_err(), "the predictor may declare queues");
    let channel = restricted.connection("assay_loader").await.create_channel().await.unwrap();
    let purged = channel.queue_purge(format!("{PREFIX}transactions.batch").into(), QueuePurgeOptions::default()).await;
    assert!(purged.is_err(), "the loader may purge queues");
}

/// With the rights of the scripts, `assay doctor` finds nothing missing for a program, and something for every other one.
async fn the_doctor_knows_what_each_user_may_do(restricted: &Restricted) {
    let doctor = async |role: &str, user: &str, database: Option<&str>| {
        let doctor =
            restricted.program("assay", user, database).args(["doctor", "--for", role, "--json", "--timeout", "60s"]);
        let report = doctor.env("SOURCE_URL", "s3://transactions").run().await.json();
        let checks = report["checks"].as_array().unwrap().iter().filter(|line| line["check"] == "rights");
        checks.map(|line| (line["verdict"].as_str().unwrap().to_owned(), line["found"].to_string())).collect::<Vec<_>>()
    };
    for (role, user, database) in [
        ("loader", "assay_loader", Some("assay_loader")),
        ("predictor", "assay_predictor", None),
        ("writer", "assay_writer", Some("assay_writer")),
        ("streamer", "assay_streamer", Some("assay_streamer")),
        ("desk", "assay_desk", Some("assay_desk")),
    ] {
        let rights = doctor(role, user, database).await;
        assert_eq!(rights.len(), 1 + usize::from(database.is_some()), "{rights:?}");
        assert!(rights.iter().all(|(verdict, _)| verdict == "ok"), "{role}: {rights:?}");
    }
    let rights = doctor("writer", "assay_loader", Some("assay_streamer")).await;
    let missing = [
        ["read from queue bank.predictions.batch", "write to exchange bank.assay.scored.delay"],
        ["INSERT and UPDATE on predictions", "DELETE and INSERT and SELECT and UPDATE on chunks"],
    ];
    for ((verdict, found), words) in rights.iter().zip(missing) {
        assert!(verdict == "failed" && words.iter().all(|word| found.contains(word)), "{verdict}: {found}");
    }
}

async fn the_doctor_names_an_alarm(restricted: &Restricted) {
    let watermark = "#!/bin/sh\nexec \"${RABBITMQCTL:-rabbitmqctl}\" set_vm_memory_high_watermark \"$1\"\n";
    restricted.rabbitmq.run(watermark, &["0"]);
    let doctor =
        restricted.program("assay", "assay_owner", None).args(["doctor", "--no-probe", "--timeout", "60s"]).run().await;
    doctor.expect_exit(1).expect_says("alarms      RabbitMQ at 127.0.0.1:").expect_says("short of memory or disk");
    doctor.expect_says("not checked  rights      as \"alarms\" failed");
    restricted.rabbitmq.run(watermark, &["0.4"]);
}
