//! Dependencies that are unreachable, wrong or not ready: one clear line that names the setting, and an exit code.

use assay_tests::{Broker, ClosedPort, DEADLINE, Database, Program, Rows, Script, Stack, law};

/// A time limit for an unreachable dependency that suffices to reach the others on a busy machine.
const REACHABLE: &str = "5s";

#[tokio::test]
async fn an_unreachable_broker_ends_every_stage() {
    let stack = Stack::new(Script::Score).await;
    let closed_port = ClosedPort::new();
    let url = format!("amqp://guest:a-password@{}", closed_port.address());
    let programs = [stack.loader("s3://transactions/a.csv"), stack.predictor(), stack.writer()];
    for running in programs.map(|program| program.env("AMQP_URL", &url).env("STARTUP_TIMEOUT", REACHABLE).start()) {
        let ended = running.end().await;
        ended
            .expect_one_clear_line(3, &["AMQP_URL", &closed_port.address(), "refused"])
            .expect_silent_about("a-password");
    }
}

#[tokio::test]
async fn a_broker_that_rejects_the_login_is_not_retried() {
    let stack = Stack::new(Script::Score).await;
    let mut url = url::Url::parse(&std::env::var("TEST_AMQP_URL").expect("./scripts/test sets it")).unwrap();
    url.set_password(Some("a-wrong-password")).unwrap();
    for program in [stack.predictor(), stack.writer()] {
        // Far less than the time-out for what may still be starting.
        let ended = program.env("AMQP_URL", url.as_str()).env("STARTUP_TIMEOUT", "1h").run().await;
        ended.expect_one_clear_line(2, &["AMQP_URL"]).expect_silent_about("a-wrong-password");
    }
}

#[tokio::test]
async fn an_unreachable_database_ends_the_stages_that_need_it() {
    let broker = Broker::new();
    let closed_port = ClosedPort::new();
    let url = format!("postgres://assay:a-password@{}/assay", closed_port.address());
    for program in [Program::new("loader").arg("a.csv"), Program::new("writer"), Program::new("assay").arg("migrate")] {
        let ended = broker.known_to(program).env("DATABASE_URL", &url).env("STARTUP_TIMEOUT", "1s").run().await;
        ended
            .expect_one_clear_line(3, &["DATABASE_URL", &closed_port.address(), "refused"])
            .expect_silent_about("a-password");
    }
}

#[tokio::test]
async fn a_missing_database_or_a_rejected_login_is_not_retried() {
    let broker = Broker::new();
    let nowhere = Database::nowhere();
    let mut wrong = url::Url::parse(&nowhere).unwrap();
    wrong.set_password(Some("a-wrong-password")).unwrap();
    for url in [nowhere.as_str(), wrong.as_str()] {
        for program in [Program::new("loader").arg("a.csv"), Program::new("writer")] {
            let ended = broker.known_to(program).env("DATABASE_URL", url).env("STARTUP_TIMEOUT", "1h").run().await;
            ended.expect_one_clear_line(2, &["DATABASE_URL"]).expect_silent_about("a-wrong-password");
        }
    }
}

#[tokio::test]
async fn a_database_without_tables_asks_for_migrate() {
    let database = Database::empty().await;
    let broker = Broker::new();
    for program in [Program::new("loader").arg("a.csv"), Program::new("writer")] {
        let ended = broker.known_to(program).env("DATABASE_URL", database.url()).run().await;
        ended.expect_one_clear_line(2, &["assay migrate"]);
    }
    for _ in 0..2 {
        Program::new("assay").arg("migrate").env("DATABASE_URL", database.url()).run().await.expect_exit(0);
    }
    assert_eq!(database.count("SELECT count(*) FROM runs").await, 0);
}

#[tokio::test]
async fn an_unreachable_ml_api_ends_the_predictor() {
    let broker = Broker::new();
    let closed_port = ClosedPort::new();
    let url = format!("http://{}", closed_port.address());
    let predictor =
        broker.known_to(Program::new("predictor")).env("ML_API_URL", &url).env("STARTUP_TIMEOUT", REACHABLE);
    predictor.run().await.expect_one_clear_line(3, &["ML_API_URL", &closed_port.address(), "refused"]);
}

#[tokio::test]
async fn a_program_that_waits_for_a_dependency_can_be_stopped() {
    let stack = Stack::new(Script::Score).await;
    // It hangs up at once, as a service does that is still starting.
    let starting = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = starting.local_addr().unwrap();
    let waiting = [
        stack.predictor().env("AMQP_URL", format!("amqp://{address}")),
        stack.predictor().env("ML_API_URL", format!("http://{address}")),
        stack.writer().env("DATABASE_URL", format!("postgres://{address}")),
        stack.loader("a.csv").env("AMQP_URL", format!("amqp://{address}")),
    ];
    for program in waiting {
        let program = program.env("STARTUP_TIMEOUT", "1h").start();
        for _ in 0..2 {
            let asked = tokio::time::timeout(DEADLINE, starting.accept()).await;
            drop(asked.expect("it asks again and again"));
        }
        program.terminate();
        let ended = program.end().await;
        assert!(matches!(ended.code, Some(0 | 3)), "{} ended with {:?}:\n{}", ended.name, ended.code, ended.stderr);
    }
}

#[tokio::test]
async fn a_waiting_loader_warns_that_there_is_no_predictor() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    let writer = stack.writer().start();
    let loader = stack.loader(&object).arg("--wait");
    let ended = loader.env("WAIT_TIMEOUT", "5s").run().await;
    ended
        .expect_one_clear_line(3, &["WAIT_TIMEOUT", "0 of 2 chunks", "no consumer on transactions.batch"])
        .expect_says(" - WARN - no consumer on transactions.batch");

    // Published messages wait for the next predictor.
    let _predictor = stack.predictor().start();
    stack.database.until_finished().await;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 150);
    writer.terminate();
    writer.end().await.expect_exit(0);
}

#[tokio::test]
async fn a_waiting_loader_warns_that_there_is_no_writer() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    let _predictor = stack.predictor().start();
    let mut loader = stack.loader(&object).arg("--wait").start();
    loader.says("no consumer on predictions.batch").await;
    let _writer = stack.writer().start();
    loader.end().await.expect_exit(0);
    law::holds_for_one_run(&stack.database).await;
}
