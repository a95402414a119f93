//! Wrong or missing settings: refused at start-up, with the name, the value and what is allowed.

use assay_tests::{Database, Program, Script, Stack};
use serde_json::json;

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

#[tokio::test]
async fn a_file_of_settings_is_read_and_flags_and_variables_override_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = "CHUNK_ROWS = 2000\nMAX_LOADS = 3\nLOG_LEVEL = 'warn'\nDATABASE_URL = 'postgres://ada:a-password@h/d'\n\
                [writer]\nDB_ROW_BATCH_SIZE = 7\n";
    std::fs::write(folder.join("assay.toml"), file).unwrap();
    // For Compose alone.
    std::fs::write(folder.join(".env"), "MAX_INVALID_RATIO=0.5\n").unwrap();
    let config = |program: &str| {
        Program::new("assay").args(["config", program, "--json", "--config", "assay.toml"]).within(folder)
    };
    let ended = config("loader").args(["--", "--max-loads", "5"]).env("LOG_LEVEL", "error").run().await;
    let printed = ended.expect_exit(0).expect_silent_about("a-password").json();
    let of = |name: &str| {
        let found = printed.as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap();
        ["value", "origin", "line"].map(|key| found[key].clone())
    };
    assert_eq!(of("CHUNK_ROWS"), [json!("2000"), json!("file"), json!(1)]);
    assert_eq!(of("MAX_LOADS"), [json!("5"), json!("flag"), json!(null)]);
    assert_eq!(of("LOG_LEVEL")[..2], ["error", "environment"]);
    assert_eq!(of("LEASE_TIMEOUT")[1], "default");
    assert_eq!(of("MAX_INVALID_RATIO")[1], "unset");
    assert_eq!(of("DATABASE_URL")[0], "postgres://ada:***@h/d");
    for (text, expected) in [
        ("\nCHUNK_ROW = 1", "broken.toml, line 2, column 1: unknown setting CHUNK_ROW, did you mean CHUNK_ROWS?"),
        (
            "MAX_LOADS = 'many'",
            "for --max-loads (MAX_LOADS) in broken.toml, line 1, column 13: expected a whole number",
        ),
        ("MAX_LOADS = [1, 2]", "broken.toml, line 1, column 13: expected one value for MAX_LOADS, not a list"),
    ] {
        std::fs::write(folder.join("broken.toml"), text).unwrap();
        for program in [Program::new("loader").arg("a.csv"), Program::new("assay").args(["run", "a.csv"])] {
            let ended = program.within(folder).env("ASSAY_CONFIG", "broken.toml").run().await;
            ended.expect_exit(2).expect_says(expected);
        }
    }
}

#[tokio::test]
async fn help_needs_no_file_of_settings() {
    let help = Program::new("writer").arg("--help").env("ASSAY_CONFIG", "/nowhere.toml").run().await;
    help.expect_exit(0).expect_says("DB_ROW_BATCH_SIZE");
}

#[tokio::test]
async fn an_error_under_json_is_an_object_on_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["status", "june", "--json"][..], &["runs", "--json", "--limt", "3"], &["config", "lader", "--json"]]
    {
        let program = arguments.iter().fold(Program::new("assay"), Program::arg);
        let ended = program.within(folder.path()).run().await;
        let line = ended.expect_exit(2).stderr.lines().last().unwrap_or_default().to_owned();
        let error: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(error["exit_code"], 2, "{line}");
        assert!(error["error"].is_string() && error["hint"].is_string(), "{line}");
        assert_eq!(ended.stdout, "");
    }
}

#[tokio::test]
async fn logs_go_to_a_file_and_a_full_disk_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let generate = |file: &str| {
        let program = Program::new("assay").args(["generate", "--rows", "5", "--output", "t.csv"]).within(folder);
        program.env("LOG_FILE", file)
    };
    generate("both.log").run().await.expect_exit(0).expect_says("wrote 5 rows");
    generate("one.log").env("LOG_STDERR", "false").run().await.expect_exit(0).expect_silent_about("wrote 5 rows");
    for file in ["both.log", "one.log"] {
        let log = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(log.contains("INFO - wrote 5 rows"), "{log}");
    }
    let full = generate("/dev/full").env("LOG_STDERR", "false").run().await;
    full.expect_exit(0).expect_says("cannot write /dev/full (").expect_says("wrote 5 rows");
    generate("no/such/folder.log").run().await.expect_one_clear_line(2, &["no/such/folder.log", "check LOG_FILE"]);
    // What is printed as JSON is in the log, too.
    let failed = Program::new("assay").args(["status", "june", "--json"]).within(folder).env("LOG_FILE", "json.log");
    let stderr = failed.run().await.expect_exit(2).stderr.clone();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let log = std::fs::read_to_string(folder.join("json.log")).unwrap();
    assert!(log.contains("ERROR - no database"), "{log}");
}

#[tokio::test]
async fn a_moved_log_file_is_made_again_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("ml-api.log");
    let program = Program::new("ml-api").env("ML_API_PORT", "0").env("LOG_FILE", &log);
    let mut running = program.env("LOG_FILE_MAX_BYTES", "0").start();
    running.says("listens on").await;
    std::fs::rename(&log, folder.path().join("old.log")).unwrap();
    let hangup = std::process::Command::new("kill").args(["-HUP", &running.id().to_string()]).status().unwrap();
    assert!(hangup.success());
    running.says("the log file is reopened").await;
    running.terminate();
    running.end().await.expect_exit(0);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("the log file is reopened") && said.contains("shutting down"), "{said}");
    assert!(std::fs::read_to_string(folder.path().join("old.log")).unwrap().contains("listens on"));
}
