//! No row content in a log, on stderr, in `runs.error`, in `operations` or in the reason of a dead letter, whatever is wrong with the
//! row: values enter by every input, and every output is searched for them. And a log line stays one line.

use assay_tests::{Ended, HEADER, Program, Rows, Script, Stack, post};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

/// What rows hold: a card number, a name, an account.
const CARD: &str = "4111111111111111";
const NAME: &str = "Jean Dupont";
const ACCOUNT: &str = "DE89370400440532013000";
/// Pieces by which they are known.
const PIECES: [&str; 5] = ["411111", "111111", "Dupont", "370400", "013000"];
/// What is recorded of runs and messages as a whole.
const RECORDED: &str = "
    SELECT concat_ws('|', run_id, error) FROM runs
    UNION ALL SELECT concat_ws('|', operator, reason, details::text) FROM operations
    UNION ALL SELECT concat_ws('|', queue, message_id, message_type, run_id, reason) FROM dead_letters";

fn silent(said: &str, situation: &str) {
    for piece in PIECES {
        if let Some(line) = said.lines().find(|line| line.contains(piece)) {
            panic!("{situation}: `{piece}` stands in: {line}");
        }
    }
    assert!(!said.contains(['\u{1b}', '\u{202e}', '\u{85}']), "{situation}: {said:?}");
}

/// Each line of a log begins with a moment and a level.
fn whole_lines(ended: &Ended) {
    for line in ended.stderr.lines() {
        assert!(line.starts_with("20") && line.contains(" - "), "{}: a line is broken: {line:?}", ended.name);
    }
}

/// Files in which a value stands where something else is expected.
fn files() -> Vec<(&'static str, String)> {
    let row = format!("{CARD};{NAME};12.50;2026-01-01 10:00:00;{ACCOUNT};card;debit");
    let header = HEADER.trim_end().replace(',', ";");
    let good = |id: usize| format!("{id};x;1.50;2026-01-01 10:00:00;;card;debit\n");
    let all = |amount: &str| {
        (0..40).map(|id| format!("{id};{NAME};{amount};2026-01-01 10:00:00;;card;debit\n")).collect::<Vec<_>>().concat()
    };
    let object = format!(r#"{{"id":"{CARD}","{NAME}":"{ACCOUNT}"}}"#);
    vec![
        ("no-header.csv", format!("{row}\n{row}\n")),
        ("no-header-commas.csv", row.replace(';', ",")),
        ("passwd", format!("root:x:0:0:{NAME}:/home/{CARD}:/bin/sh\n")),
        ("one-value.csv", CARD.to_owned()),
        ("not-utf8.csv", format!("{header}\n{row}\n")),
        ("amounts.csv", format!("{header}\n{}", all(CARD))),
        ("names.csv", format!("{header}\n{}", all(NAME))),
        ("ambiguous.csv", format!("{header}\n{}", all("4.111"))),
        ("dates.csv", format!("{header}\n{}", all("1.50").replace("2026-01-01 10:00:00", "04/05/2026"))),
        ("dates-of-names.csv", format!("{header}\n{}", all("1.50").replace("2026-01-01 10:00:00", NAME))),
        ("other-header.csv", format!("{header}\n{}{}\n", good(1), header.replace("amount", CARD))),
        ("keys.json", format!("{object}\n{object}\n")),
        ("nested.json", format!(r#"{{"{NAME}":{object}}}"#)),
        ("array.json", format!("[{object}]")),
        ("broken.json", format!(r#"{{"id":"{CARD}","description":"{NAME}"#)),
        ("a\nERROR - forged\u{1b}[31m\u{202e}.csv", row),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_refused_or_read_without_row_content_in_logs() {
    let folder = tempfile::tempdir().unwrap();
    let mut endings = Vec::new();
    for (name, content) in files() {
        let mut bytes = content.into_bytes();
        if name == "not-utf8.csv" {
            bytes.extend(NAME.bytes().chain(*b"\xe9\xe8;"));
        }
        std::fs::write(folder.path().join(name), bytes).unwrap();
        for settings in [
            &[][..],
            &[("DELIMITER", ";"), ("LOG_LEVEL", "trace")],
            &[("FORMAT", "json-lines")],
            &[("ENCODING", "utf-16le")],
        ] {
            let program = Program::new("assay").args(["run", "--force", name]).within(folder.path());
            let program = settings.iter().fold(program, |program, (name, value)| program.env(name, value));
            let ended = program.run().await;
            silent(&ended.stderr, name);
            silent(&ended.stdout, name);
            whole_lines(&ended);
            endings.push(ended.code);
        }
    }
    assert!(endings.contains(&Some(4)) && endings.contains(&Some(1)), "some are refused, some are read: {endings:?}");
    let file = SqliteConnectOptions::new().filename(folder.path().join("assay.db"));
    let mut database = SqliteConnection::connect_with(&file).await.unwrap();
    let errors: Vec<String> =
        sqlx::query_scalar("SELECT error FROM runs WHERE error IS NOT NULL").fetch_all(&mut database).await.unwrap();
    assert!(!errors.is_empty());
    for error in &errors {
        silent(error, "runs.error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_logs_no_row_content_from_any_input() {
    let stack = Stack::new(Script::Score).await;
    let level = |program: Program| program.env("LOG_LEVEL", "trace");
    let mut predictor = level(stack.predictor()).start();
    predictor.says("scoring with up to").await;
    let writer = level(stack.writer()).start();
    // Objects, of which one is right. No listing has names with control characters: events have.
    for (name, content) in files().into_iter().filter(|(name, _)| !name.contains('\n')) {
        stack.s3.put("drops", &format!("in/{name}"), content);
    }
    stack.s3.put("drops", "in/last.csv", Rows::valid(3));
    let mut watcher =
        level(stack.watcher()).env("WEBHOOK_ADDR", "127.0.0.1:0").env("WEBHOOK_SECRET", "open sesame").start();
    watcher.says("events are accepted at http://").await;
    let streamer = level(stack.known_to(Program::new("streamer"))).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0");
    let mut streamer = streamer.start();
    let live = streamer.address_after("are accepted at http://").await;

    // What is recorded of objects.
    let key = "in%2Fa%0A2026-01-01+-+ERROR+-+forged%1B%C2%85.csv";
    let forged = json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "drops"}, "object": {"key": key}}});
    for body in [
        CARD.to_owned(),
        json!(NAME).to_string(),
        json!({"Records": NAME}).to_string(),
        json!({"Records": [forged]}).to_string(),
    ] {
        stack.broker.tell("assay.events", body.as_bytes()).await;
    }
    // Messages of ours that are none, and messages of others.
    let rest = r#""chunk":0,"first_row":1,"rows":0,"lane":"batch","predicted_at":"2026-01-01T00:00:00Z""#;
    let forged = [
        format!(r#"{{"run_id":"{NAME}",{rest},"transactions":[],"rejected":[],"predicted":[]}}"#),
        format!(r#"{{"run_id":"r","chunk":"{CARD}, expected {ACCOUNT}"}}"#),
        format!(r#"{{"{CARD}":"{NAME}"}}"#),
        format!("\"{ACCOUNT}\""),
        NAME.to_owned(),
    ];
    let queues = [
        ("transactions.batch", "assay.chunk.v1"),
        ("transactions.realtime", "assay.live.v1"),
        ("transactions.realtime", ""),
        ("predictions.batch", "assay.scored.v1"),
        ("transactions.batch", NAME),
    ];
    for (number, (queue, kind)) in queues.into_iter().enumerate() {
        let queue = stack.broker.look_at(queue).await;
        for body in &forged {
            // A message that arrives twice is recorded once.
            queue.put(kind, format!("{body}{}", " ".repeat(number)).as_bytes()).await;
        }
    }
    // Requests.
    for body in [
        NAME.to_owned(),
        json!({"id": CARD, "description": NAME, "amount": ACCOUNT, "timestamp": NAME, "side": "debit"}).to_string(),
        json!([{"id": CARD, NAME: ACCOUNT}]).to_string(),
    ] {
        let answer = post(&live, &format!("/transactions?wait={CARD}"), &body).await.unwrap();
        assert!(answer.status >= 400, "{}", answer.status);
        assert!(post(&live, "/transactions", &body).await.unwrap().status >= 400);
    }
    assert_eq!(assay_tests::get(&live, &format!("/transactions/{CARD}")).await.unwrap().status, 404);

    stack
        .database
        .until("SELECT count(*) = 1 FROM runs WHERE source_location LIKE '%last.csv' AND state = 'complete'")
        .await;
    stack.database.until("SELECT count(*) >= 20 FROM dead_letters").await;
    // Each object that is none has its run, which says why.
    stack.database.until("SELECT count(*) >= 6 FROM runs WHERE error IS NOT NULL").await;
    for program in [watcher, streamer, predictor, writer] {
        program.terminate();
        let ended = program.end().await;
        silent(&ended.stderr, ended.name);
        whole_lines(&ended);
        ended.expect_silent_about("\n2026-01-01");
    }
    for told in stack.database.texts(RECORDED).await {
        // The type of a message is its sender's own word, and a column of its own.
        silent(&told.replace(&format!("|{NAME}|"), "|"), "the tables");
    }
}
