//! Wrong or missing settings: refused at start-up, with the name, the value and what is allowed.

use assay_tests::{Database, Program, Script, Stack};

#[tokio::test]
async fn a_wrong_value_is_named_with_what_is_allowed() {
    let stack = Stack::new(Script::Score).await;
    let loader = || stack.loader("s3://transactions/a.csv");
    let cases: [(Program, &str, &str, &str); 17] = [
        (loader(), "ROW_BATCH_SIZE", "x", "a whole number"),
        (loader(), "ROW_BATCH_SIZE", "0", "at least 1"),
        (loader(), "API_BATCH_SIZE", "-1", "a whole number"),
        (loader(), "BATCH_RUN_ID", "a/b", "letters, digits"),
        (loader(), "TIME_ZONE", "Paris", "Europe/Paris"),
        (loader(), "WAIT_TIMEOUT", "soon", "30s"),
        (loader(), "DELIMITER", "dot", "semicolon"),
        (loader(), "ENCODING", "ebcdic", "windows-1252"),
        (loader(), "LOG_FORMAT", "xml", "json"),
        (loader(), "QUEUE_PREFIX", "a b", "letters, digits"),
        (stack.predictor(), "API_MAX_WORKERS", "many", "a whole number"),
        (stack.predictor(), "API_CONCURRENCY", "auto", "adaptive"),
        (stack.predictor(), "MAX_RETRIES", "1.5", "a whole number"),
        (stack.predictor(), "API_TIMEOUT", "0", "30s"),
        (stack.writer(), "DB_ROW_BATCH_SIZE", "1_000", "a whole number"),
        (stack.writer(), "FLUSH_INTERVAL", "200", "ms"),
        (stack.writer(), "ID_CONFLICT", "maybe", "fail, update"),
    ];
    for (program, name, value, allowed) in cases {
        let ended = program.env(name, value).run().await;
        ended.expect_one_clear_line(2, &[name, &format!("`{value}`"), allowed]);
    }
}

#[tokio::test]
async fn a_mistyped_setting_is_refused_by_its_programs() {
    let stack = Stack::new(Script::Score).await;
    let loader = || stack.loader("s3://transactions/a.csv");
    let cases: [(Program, &str, &str); 6] = [
        (loader(), "API_BATCHSIZE", "API_BATCH_SIZE"),
        (loader(), "AMPQ_URL", "AMQP_URL"),
        (stack.predictor(), "API_MAX_WORKRES", "API_MAX_WORKERS"),
        (stack.writer(), "DATABASE_SHEMA", "DATABASE_SCHEMA"),
        (Program::new("streamer").arg("serve"), "STREAMER_TOKENs", "STREAMER_TOKENS"),
        (Program::new("assay").arg("runs"), "databaseurl", "DATABASE_URL"),
    ];
    for (program, variable, setting) in cases {
        let ended = program.without(setting).env(variable, "1").run().await;
        ended.expect_exit(2).expect_says(&format!("unknown setting {variable}, did you mean {setting}? rename it"));
    }
    // The right one is set too: the other is another program's.
    let program = loader().env("LOGLEVEL", "loud").env("LOG_LEVEL", "warn").run().await;
    program.expect_silent_about("LOGLEVEL");
    loader().env("LOG_LEVEL", "foo").run().await.expect_one_clear_line(2, &["LOG_LEVEL", "`foo`", "error, warn"]);
}

#[tokio::test]
async fn a_missing_required_setting_is_named() {
    let stack = Stack::new(Script::Score).await;
    let cases: [(Program, &str); 7] = [
        (stack.loader("a.csv"), "AMQP_URL"),
        (stack.predictor(), "AMQP_URL"),
        (stack.writer(), "AMQP_URL"),
        (stack.loader("a.csv"), "DATABASE_URL"),
        (stack.writer(), "DATABASE_URL"),
        (Program::new("assay").arg("migrate"), "DATABASE_URL"),
        (stack.predictor(), "ML_API_URL"),
    ];
    for (program, name) in cases {
        program.without(name).run().await.expect_one_clear_line(2, &[name, "not set"]);
    }
    let no_source = stack.known_to(Program::new("loader")).run().await;
    no_source.expect_exit(2).expect_says("SOURCE_URL");
}

#[tokio::test]
async fn urls_of_another_kind_are_refused_without_their_password() {
    let stack = Stack::new(Script::Score).await;
    let cases = [
        (stack.writer(), "AMQP_URL", "https://user:a-password@host"),
        (stack.writer(), "DATABASE_URL", "mysql://user:a-password@host/db"),
        (stack.predictor(), "ML_API_URL", "ftp://user:a-password@host"),
        (stack.loader("s3://transactions/a.csv"), "ENDPOINT_URL", "ftp://user:a-password@host"),
    ];
    for (program, name, url) in cases {
        let ended = program.env(name, url).run().await;
        ended.expect_one_clear_line(2, &[name]).expect_silent_about("a-password");
    }
}

#[tokio::test]
async fn help_names_every_setting_and_shows_no_secret() {
    let database = Database::nowhere();
    for name in ["loader", "predictor", "writer"] {
        let program = Program::new(name).arg("--help");
        let help = program.env("DATABASE_URL", database.as_str()).env("AMQP_URL", "amqp://u:a-password@h").run().await;
        help.expect_exit(0).expect_says("AMQP_URL").expect_silent_about("a-password").expect_silent_about(&database);
    }
}
