//! `assay doctor` on real services: what is well, and each dependency broken in turn. It names that one and what to do, as
//! `/health/ready` of the programs does, and leaves nothing behind.

use assay_tests::{ClosedPort, Database, Ended, Program, Proxy, Role, Rows, Script, Stack};
use serde_json::Value;
use url::Url;

use crate::metrics_and_health::{shown, until};

/// `assay doctor` with everything that it can check.
fn doctor(stack: &Stack) -> Program {
    stack.assay(["doctor", "s3://drops/in/", "--json", "--timeout", "60s"]).env("ML_API_URL", stack.ml_api.url())
}

/// A stack that has been used: with an object, queues and tables.
async fn used() -> Stack {
    let stack = Stack::new(Script::Score).await;
    stack.s3.put("drops", "in/a.csv", Rows::valid(1));
    stack.assay(["declare"]).run().await.expect_exit(0);
    stack
}

fn checks(ended: &Ended) -> Vec<Value> {
    ended.json()["checks"].as_array().expect("there are checks").clone()
}

/// The checks that failed: each as dependency, check, what was found with what to do.
fn failed(ended: &Ended) -> Vec<(String, String, String)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let failed = checks(ended).into_iter().filter(|line| line["verdict"] == "failed");
    let words = |line: &Value| format!("{}: {}", text(line, "found"), text(line, "remedy"));
    failed.map(|line| (text(&line, "dependency"), text(&line, "check"), words(&line))).collect()
}

#[tokio::test]
async fn a_healthy_fleet_has_no_failure_and_notices_nothing() {
    let stack = used().await;
    let ended = doctor(&stack).run().await;
    assert_eq!(failed(&ended), []);
    ended.expect_exit(0);
    let checks = checks(&ended);
    let verdict = |dependency: &str, check: &str| {
        let line = checks.iter().find(|line| line["dependency"] == dependency && line["check"] == check);
        line.unwrap_or_else(|| panic!("no {check} of {dependency} in {checks:?}"))["verdict"].clone()
    };
    for (dependency, names) in [
        ("s3", &["connection", "clock", "credentials", "bucket", "listing"][..]),
        ("rabbitmq", &["connection", "version", "topology", "alarms", "rights", "queues"]),
        ("postgresql", &["connection", "version", "pooler", "tables", "rights", "write", "connections", "clock"]),
        ("ml_api", &["protocol", "connection", "health", "probe", "version", "latency"]),
        ("machine", &["open files"]),
    ] {
        for name in names {
            assert_eq!(verdict(dependency, name), "ok", "{name} of {dependency}");
        }
    }
    // One transaction, which says what it is.
    let bodies = stack.ml_api.bodies();
    assert!(bodies.len() == 1 && bodies[0].contains("Assay connection check"), "{bodies:?}");
    assert_eq!(stack.database.count("SELECT count(*) FROM operations").await, 0);
    for queue in ["transactions.batch", "transactions.realtime", "predictions.batch", "dead_letters"] {
        assert_eq!(stack.broker.depth(queue).await.unwrap(), 0, "{queue}");
    }
    let silent = doctor(&stack).arg("--no-probe").run().await;
    silent.expect_exit(0);
    assert_eq!(stack.ml_api.requests(), 1, "--no-probe sends nothing");
    let text = stack.assay(["doctor"]).run().await;
    text.expect_exit(0).expect_says("not checked  all").expect_says("ML_API_URL is not set").expect_says("0 failed, ");
}

/// Settings that break something: the dependency, its check, and words of what was found and what to do.
type Broken<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str, &'a [&'a str]);

#[tokio::test]
async fn each_broken_dependency_is_named_with_what_to_do() {
    let stack = used().await;
    let closed_port = ClosedPort::new();
    let closed = closed_port.address();
    let mut wrong_password = Url::parse(stack.broker.url()).unwrap();
    wrong_password.set_password(Some("a-wrong-password")).unwrap();
    let empty = Database::empty().await;
    let role = Role::new().await;
    let login_only = {
        let mut url = Url::parse(&role.may_use(&empty).await).unwrap();
        url.set_path(Url::parse(stack.database.url()).unwrap().path());
        url
    };
    // Which settings break what, and the words that name the remedy.
    let cases: [Broken<'_>; 13] = [
        (&[("ML_API_URL", &format!("http://{closed}"))], "ml_api", "connection", &["refused", "check ML_API_URL"]),
        (&[("ML_API_PATH", "elsewhere")], "ml_api", "probe", &["404", "ML_API_PATH"]),
        (&[("MODEL_VERSION", "another")], "ml_api", "probe", &["MODEL_VERSION"]),
        (&[("ML_API_PROTOCOL", "mlflow")], "ml_api", "protocol", &["needs ML_API_FEATURES"]),
        (&[("ENDPOINT_URL", &format!("http://{closed}"))], "s3", "connection", &["refused", "check ENDPOINT_URL"]),
        (&[("SECRET", "a-wrong-secret")], "s3", "credentials", &["denied", "check KEY and SECRET"]),
        (&[("SECRET", "")], "s3", "connection", &["KEY is set, but SECRET is not"]),
        (
            &[("DATABASE_URL", &format!("postgres://u:a-password@{closed}/a"))],
            "postgresql",
            "connection",
            &["refused", "check DATABASE_URL"],
        ),
        (&[("DATABASE_URL", empty.url())], "postgresql", "tables", &["has no tables", "run `assay migrate`"]),
        (&[("DATABASE_URL", login_only.as_str())], "postgresql", "tables", &["permission denied", "grant"]),
        (
            &[("AMQP_URL", &format!("amqp://u:a-password@{closed}"))],
            "rabbitmq",
            "connection",
            &["refused", "check AMQP_URL"],
        ),
        (
            &[("AMQP_URL", wrong_password.as_str())],
            "rabbitmq",
            "connection",
            &["refuses user", "check user and password"],
        ),
        (&[("QUEUE_MAX_LENGTH", "7")], "rabbitmq", "topology", &["other settings", "set QUEUE_MAX_LENGTH as it was"]),
    ];
    for (settings, dependency, check, words) in cases {
        let program = settings.iter().fold(doctor(&stack), |program, (name, value)| program.env(name, value));
        let ended = program.run().await;
        let failed = failed(&ended);
        let [(found_dependency, found_check, found)] = &failed[..] else { panic!("{settings:?}: {failed:?}") };
        assert_eq!((found_dependency.as_str(), found_check.as_str()), (dependency, check), "{found}");
        assert!(words.iter().all(|word| found.contains(word)), "{settings:?}: {found}");
        ended.expect_exit(1).expect_silent_about("a-wrong").expect_silent_about("a-password");
    }
    let missing = stack.assay(["doctor", "s3://nowhere", "--json"]).run().await;
    let failed = failed(missing.expect_exit(1));
    assert!(
        matches!(&failed[..], [(s3, bucket, words)] if s3 == "s3" && bucket == "bucket" && words.contains("no bucket `nowhere`")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn what_an_ml_api_answers_is_judged() {
    let stack = used().await;
    for (script, verdict, words) in [
        (Script::Broken(401), "failed", "ML_API_TOKEN"),
        (Script::Broken(500), "failed", "look into the log of the ML API"),
        (Script::Broken(503), "failed", "check that it runs at ML_API_URL"),
        (Script::Broken(429), "warning", "API_RATE_LIMIT"),
        (Script::Broken(422), "warning", "if it scores real rows"),
        (Script::Hold, "failed", "raise API_TIMEOUT"),
    ] {
        stack.ml_api.set(script);
        let time = if script == Script::Hold { "1s" } else { "60s" };
        let ended = stack.assay(["doctor", "--for", "predictor", "--json", "--timeout", time]);
        let ended = ended.env("ML_API_URL", stack.ml_api.url()).run().await;
        let checks = checks(&ended);
        let probe = checks.iter().find(|line| line["check"] == "probe").unwrap();
        assert!(probe["verdict"] == verdict && probe["remedy"].to_string().contains(words), "{script:?}: {probe}");
        let after = checks.iter().find(|line| line["dependency"] == "ml_api" && line["check"] == "latency").unwrap();
        assert_eq!(after["verdict"], "not checked", "{script:?}");
    }
}

/// Waits until a program is ready, or is not ready for a reason that begins so; returns the reasons.
async fn readiness(address: &str, begins: Option<&str>) -> String {
    until(address, "/health/ready", &format!("{begins:?}"), |status, reasons| {
        begins.map_or(status == 200, |begins| status == 503 && reasons.starts_with(begins))
    })
    .await
}

/// The same address through a proxy.
async fn through(url: &str) -> (Proxy, String) {
    let mut url = Url::parse(url).unwrap();
    let proxy = Proxy::before(url.host_str().unwrap(), url.port().unwrap()).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.port())).unwrap();
    (proxy, url.into())
}

#[tokio::test]
async fn readiness_names_the_same_dependency() {
    let stack = used().await;
    let (broker, amqp_url) = through(stack.broker.url()).await;
    let (database, database_url) = through(stack.database.url()).await;
    let at = |program: Program| program.env("AMQP_URL", &amqp_url).env("DATABASE_URL", &database_url);
    let (_writer, writer) = shown(at(stack.writer())).await;
    let (_predictor, predictor) = shown(at(stack.predictor())).await;
    for address in [&writer, &predictor] {
        readiness(address, None).await;
    }
    let diagnosed = async || {
        let ended = at(doctor(&stack)).run().await;
        let failed = failed(&ended);
        ended.expect_exit(1);
        let [(dependency, ..)] = &failed[..] else { panic!("{failed:?}") };
        format!("{dependency}: ")
    };
    broker.refuse().await;
    let named = diagnosed().await;
    assert_eq!(named, "rabbitmq: ");
    assert!(readiness(&writer, Some(&named)).await.contains("no connection to RabbitMQ at "));
    readiness(&predictor, Some(&named)).await;
    broker.accept().await;

    database.refuse().await;
    let named = diagnosed().await;
    assert_eq!(named, "postgresql: ");
    readiness(&writer, Some(&named)).await;
    database.accept().await;

    for address in [&writer, &predictor] {
        readiness(address, None).await;
    }
    stack.ml_api.stop().await;
    let object = stack.s3.put("drops", "in/b.csv", Rows::valid(10));
    at(stack.loader(&object)).run().await.expect_exit(0);
    let named = diagnosed().await;
    assert_eq!(named, "ml_api: ");
    assert!(readiness(&predictor, Some(&named)).await.contains("refused"));

    stack.ml_api.start_again();

    // A watcher does not even start, and says why in the same words.
    std::fs::remove_dir_all(stack.s3.file("drops", "")).unwrap();
    let ended = doctor(&stack).run().await;
    let failed = failed(&ended);
    let [(dependency, _, words)] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(dependency, "s3");
    stack.watcher().run().await.expect_one_clear_line(4, &[words]);
}

#[tokio::test]
async fn waiting_messages_without_a_consumer_are_a_warning() {
    let stack = used().await;
    let object = stack.s3.put("drops", "in/b.csv", Rows::valid(10));
    stack.loader(&object).run().await.expect_exit(0);
    let ended = doctor(&stack).run().await;
    let checks = checks(ended.expect_exit(0));
    let queues = checks.iter().find(|line| line["check"] == "queues").unwrap();
    assert_eq!(queues["verdict"], "warning", "{queues}");
    assert!(queues["remedy"].to_string().contains("start a predictor"), "{queues}");
}

#[tokio::test]
async fn a_file_of_assay_run_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let url = "sqlite://runs.db";
    let doctor = || Program::new("assay").within(folder.path()).args(["doctor", "--json"]).env("DATABASE_URL", url);
    let ended = doctor().run().await;
    let missing = failed(ended.expect_exit(1));
    assert!(
        matches!(&missing[..], [(sqlite, _, words)] if sqlite == "sqlite" && words.contains("run `assay migrate`")),
        "{missing:?}"
    );
    Program::new("assay").within(folder.path()).arg("migrate").env("DATABASE_URL", url).run().await.expect_exit(0);
    let ended = doctor().run().await;
    assert_eq!(failed(ended.expect_exit(0)), []);
    let nothing = Program::new("assay").arg("doctor").run().await;
    nothing.expect_one_clear_line(2, &["nothing to check", "AMQP_URL"]);
}

#[tokio::test]
async fn each_stage_is_measured_and_nothing_is_left() {
    let stack = used().await;
    let queues = "SELECT count(*) FROM transactions";
    let ended = doctor(&stack).arg("--measure").env("API_MAX_WORKERS", "2").run().await;
    let measured = ended.expect_exit(0).json()["measured"].clone();
    let stages = measured["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["read and validate", "queue round trip", "ml_api", "copy into the database"]);
    assert!(stages.iter().all(|stage| stage["rows_per_second"].as_u64().is_some_and(|rate| rate > 0)), "{measured}");
    assert!(names.contains(&measured["bottleneck"].as_str().unwrap()) && measured["remedy"].is_string(), "{measured}");
    assert_eq!(stack.database.count(queues).await, 0, "the copies are rolled back");
    assert_eq!(stack.broker.depth("transactions.batch").await.unwrap(), 0);
}
