//! No secret in logs, results, error texts or the list of processes: not where a service is unreachable or refuses the
//! password, nor where a setting is malformed, at no level of logs, as it was written or percent-encoded.

use assay_tests::{ClosedPort, Database, Ended, Program, Rows, Running, S3Server, Script, Stack, post};
use url::Url;

/// What every secret of these tests holds, and what it is percent-encoded and not.
const TELLTALE: &str = "hush4711";
const RAW: &str = "hush4711/p@ss#w%rd";
const ENCODED: &str = "hush4711%2Fp%40ss%23w%25rd";
/// How `user:hush…` begins in base64, as HTTP sends it.
const BASIC: &str = "dXNlcjpodXNo";

/// Every level: as it is, all of Assay, and the libraries too.
const LEVELS: [&str; 3] = [
    "info",
    "trace",
    "trace,lapin=trace,amq_protocol_tcp=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,sqlx=trace,\
     aws_config=trace,aws_sdk_s3=trace,aws_runtime=trace,aws_smithy_runtime=trace,aws_sigv4=trace,h2=trace",
];

fn programs() -> Vec<Program> {
    let assay = |arguments: &[&str]| arguments.iter().fold(Program::new("assay"), Program::arg);
    vec![
        Program::new("loader").arg("s3://transactions/a.csv"),
        Program::new("loader").args(["watch", "s3://transactions/in/"]).env("WEBHOOK_ADDR", "127.0.0.1:0"),
        Program::new("predictor"),
        Program::new("writer"),
        Program::new("streamer").arg("serve").env("STREAMER_ADDR", "127.0.0.1:0"),
        Program::new("streamer").args(["simulate", "--count", "1"]),
        assay(&["run", "s3://transactions/a.csv"]),
        assay(&["migrate"]),
        assay(&["declare"]),
        assay(&["status", "a-run"]),
        assay(&["replay", "a-run"]),
        assay(&["watch-setup", "s3://transactions"]),
    ]
}

/// A program with a secret in every setting that takes one, and with services at these addresses.
fn with_secrets(program: Program, broker: &str, database: &str, http: &str) -> Program {
    program
        .env("AMQP_URL", format!("amqp://user:{ENCODED}@{broker}"))
        .env("DATABASE_URL", format!("postgres://user:{ENCODED}@{database}/assay"))
        .env("ML_API_URL", format!("http://user:{ENCODED}@{http}"))
        .env("ML_API_HEADERS", format!("x-api-key: key-{TELLTALE}"))
        .env("ENDPOINT_URL", format!("http://{http}"))
        .env("KEY", format!("key-{RAW}"))
        .env("SECRET", format!("secret-{RAW}"))
        .env("WEBHOOK_SECRET", format!("webhook-{TELLTALE}"))
        .env("STREAMER_TOKENS", format!("token-{TELLTALE}"))
        .env("SOURCE_TIMEOUT", "1s")
        .env("STARTUP_TIMEOUT", "500ms")
}

/// Runs a program to its end, or until it has had time to say what it has to say.
async fn heard(program: Program) -> Ended {
    let running = program.start();
    silent_processes(&running);
    match tokio::time::timeout(std::time::Duration::from_secs(15), running.until_ended()).await {
        Ok(()) => running.end().await,
        Err(_) => running.kill().await,
    }
}

/// What others see in the list of processes.
fn silent_processes(running: &Running) {
    let line = running.command_line();
    assert!(!line.contains(TELLTALE), "the list of processes shows: {line}");
}

fn silent(ended: &Ended, situation: &str) {
    let said = format!("{}\n{}", ended.stdout, ended.stderr);
    for secret in [TELLTALE, RAW, ENCODED, BASIC] {
        if let Some(line) = said.lines().find(|line| line.contains(secret)) {
            panic!("{situation}: {} says: {line}", ended.name);
        }
    }
    assert!(!said.contains("panicked"), "{situation}: {} says:\n{said}", ended.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_without_services_print_no_secret() {
    let nobody = ClosedPort::new();
    let address = nobody.address();
    for level in LEVELS {
        for program in programs() {
            let ended = heard(with_secrets(program, &address, &address, &address).env("LOG_LEVEL", level)).await;
            assert_ne!(ended.code, Some(0), "{} has found a server", ended.name);
            silent(&ended, &format!("away, {level}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_with_wrong_passwords_print_no_secret() {
    let stack = Stack::new(Script::Score).await;
    let place = |url: &str| {
        let url = Url::parse(url).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
    };
    let (broker, database) = (place(stack.broker.url()), place(stack.database.url()));
    let s3 = place(&stack.s3.endpoint());
    for level in LEVELS {
        for program in programs() {
            let ended = heard(with_secrets(program, &broker, &database, &s3).env("LOG_LEVEL", level)).await;
            assert_ne!(ended.code, Some(0), "{} was let in", ended.name);
            silent(&ended, &format!("refused, {level}"));
        }
    }
    // Where all but S3 let in: its key is wrong.
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(1));
    for level in LEVELS {
        let wrong = [("KEY", format!("key-{RAW}")), ("SECRET", format!("secret-{RAW}"))];
        for (name, value) in wrong {
            let loader = stack.loader(&object).env(name, value).env("LOG_LEVEL", level);
            silent(heard(loader).await.expect_exit(4), &format!("S3 refuses, {level}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_settings_are_not_printed() {
    let malformed = [
        format!("{{}}://user:{RAW}@127.0.0.1:1"),
        format!("{{}}://user:{ENCODED}@127.0.0.1:port/name"),
        format!("{{}}://user:{ENCODED}"),
        format!("{{}}://user:{RAW}"),
        format!("{{}}:user:{ENCODED}@127.0.0.1"),
        format!("{{}}://{ENCODED}:{ENCODED}@"),
        format!("other{{}}://user:{ENCODED}@127.0.0.1"),
        format!("user:{RAW}@127.0.0.1"),
        RAW.to_owned(),
    ];
    let closed_port = ClosedPort::new();
    let address = closed_port.address();
    let settings = [
        ("AMQP_URL", "amqp", "predictor"),
        ("DATABASE_URL", "postgres", "writer"),
        ("ML_API_URL", "http", "predictor"),
        ("ENDPOINT_URL", "http", "loader"),
    ];
    for (name, scheme, stage) in settings {
        for url in &malformed {
            let url = url.replace("{}", scheme);
            let program = || {
                let program = Program::new(stage);
                let program = if stage == "loader" { program.arg("s3://transactions/a.csv") } else { program };
                with_secrets(program, &address, &address, &address).env("LOG_LEVEL", "trace")
            };
            let ended = heard(program().env(name, &url)).await;
            silent(&ended, &format!("{name}={url}"));
            assert_ne!(ended.code, Some(0), "{name}={url}");
            if name == "ENDPOINT_URL" {
                continue;
            }
            // The same from a mounted file.
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &url).unwrap();
            let ended = heard(program().without(name).env(&format!("{name}_FILE"), file.path())).await;
            silent(&ended, &format!("{name}_FILE with {url}"));
            assert_ne!(ended.code, Some(0), "{name}_FILE with {url}");
        }
    }
    // A key in place of the certificates, and the other way round.
    let authority = assay_tests::Authority::new();
    let client = authority.client("assay");
    let key = client.key.lines().nth(1).expect("a key has lines").to_owned();
    let program = || with_secrets(Program::new("predictor"), &address, &address, &address);
    for (cert, key_file) in [(&client.key_file, &client.key_file), (&client.key_file, &client.cert_file)] {
        let program = program().env("AMQP_URL", format!("amqps://user:{ENCODED}@{address}"));
        let ended = heard(program.env("AMQP_CERT_FILE", cert).env("AMQP_KEY_FILE", key_file)).await;
        silent(&ended, "key and certificate mixed up");
        ended.expect_one_clear_line(2, &["AMQP_"]).expect_silent_about(&key);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn working_programs_print_no_secret_and_no_content() {
    let stack = Stack::new(Script::Refuse).await;
    let secrets: Vec<String> = [stack.broker.url(), stack.database.url()]
        .iter()
        .map(|url| Url::parse(url).unwrap().password().expect("the services of the tests have passwords").to_owned())
        .chain([S3Server::SECRET.to_owned()])
        .collect();
    let rows = Rows::valid(40).replace("Card payment 7,", "refuse me,").with("no-amount,Card payment 41,x,y,z,,debit");
    for (number, level) in LEVELS.into_iter().enumerate() {
        let object = stack.s3.put("transactions", &format!("{number}.csv"), &rows);
        let stages = [stack.predictor(), stack.writer()].map(|program| program.env("LOG_LEVEL", level).start());
        let loader = stack.loader(&object).args(["--wait"]).env("LOG_LEVEL", level);
        let mut ended = vec![loader.run().await];
        for stage in stages {
            silent_processes(&stage);
            stage.terminate();
            ended.push(stage.end().await);
        }
        for ended in &ended {
            for secret in &secrets {
                ended.expect_silent_about(secret);
            }
            ended.expect_silent_about("Card payment");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_not_printed() {
    let database = Database::migrated().await;
    let stack = Stack::new(Script::Score).await;
    let mut streamer = stack
        .known_to(Program::new("streamer"))
        .args(["serve", "--streamer-addr", "127.0.0.1:0"])
        .env("DATABASE_URL", database.url())
        .env("STREAMER_TOKENS", format!("token-{TELLTALE}"))
        .env("LOG_LEVEL", LEVELS[2])
        .start();
    let address = streamer.address_after("are accepted at http://").await;
    let refused = post(&address, &format!("/transactions?token={TELLTALE}"), "[]").await.unwrap();
    assert_eq!(refused.status, 401);
    streamer.terminate();
    silent(&streamer.end().await, "a wrong token");
}
