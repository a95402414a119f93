//! The console on a run with rows of every outcome: what each page shows, who gets in, what an operator orders, and a report. What only a
//! browser shows is in scripts/test-console.

use assay_testkit::exchange;
use assay_tests::{Program, Rows, Running, Script, Stack, law, row};
use assay_transaction::Tally;
use serde_json::{Value, json};

const CARD: &str = "4111111111111111";
const MASKED: &str = "************1111";
/// Users whose tokens are their names.
const USERS: &str = "\
ada operator fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029
vic viewer 866d116d21281a3aa9375c6deca295bfe67c9989581578b10747b59da428e479
aud auditor 4275d71e90f7f09f9dcbba2aeeaafb3f30576780bc4d5419ff086d1c6f02a654
";

/// 12 rows: the ML API refuses row 7, row 11 repeats row 10, row 12 has no id.
fn file() -> Rows {
    (1..=10)
        .fold(Rows::header(), |file, number| file.with(&row(number)))
        .replace("Card payment 7,", &format!("refuse me {CARD},"))
        .with(&row(10))
        .with(&format!(",no id {CARD} <b>,1,2026-01-01 10:00:00,,x,debit"))
}

struct Shown {
    stack: Stack,
    _stages: [Running; 2],
    console: Running,
    address: String,
}

impl Shown {
    /// A console beside a fleet that has loaded the file as run `first`.
    async fn new(settings: &[(&str, &str)]) -> Self {
        let stack = Stack::new(Script::Refuse).await;
        let object = stack.s3.put("transactions", "a.csv", file());
        let stages = [stack.predictor().env("API_MAX_WORKERS", "1").start(), stack.writer().start()];
        stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(1);
        let tally = law::holds_for_one_run(&stack.database).await;
        assert_eq!(tally, Tally { predicted: 9, invalid: 1, failed: 1, duplicate: 1 });
        let console = stack.assay(["console"]).env("CONSOLE_ADDR", "127.0.0.1:0");
        let mut console = settings.iter().fold(console, |console, (name, value)| console.env(name, value)).start();
        let address = console.address_after("the console is at http://").await;
        let address = address.trim_end_matches('/').to_owned();
        Self { stack, _stages: stages, console, address }
    }

    /// Sends a request with further headers, each begun by `\r\n`.
    async fn send(&self, line: &str, token: &str, headers: &str, body: &str) -> (u16, String) {
        let authorization = if token.is_empty() { String::new() } else { format!("\r\nauthorization: Bearer {token}") };
        let head = format!("{line} HTTP/1.1{authorization}{headers}");
        let (status, head, text) = exchange(&self.address, &head, body).await.unwrap();
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{line}: {head}");
        (status, text)
    }

    async fn get(&self, path: &str, token: &str) -> (u16, String) {
        self.send(&format!("GET {path}"), token, "", "").await
    }

    async fn post(&self, path: &str, token: &str, form: &str, headers: &str) -> (u16, String) {
        let kind = "\r\ncontent-type: application/x-www-form-urlencoded";
        let headers = format!("{kind}\r\ncontent-length: {}{headers}", form.len());
        self.send(&format!("POST {path}"), token, &headers, form).await
    }

    async fn page(&self, path: &str) -> String {
        let (status, page) = self.get(path, "").await;
        assert_eq!(status, 200, "{path}: {page}");
        assert!(!page.contains(CARD) && !page.contains("<b>"), "{path}: {page}");
        page
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_the_run_and_masks_its_rows() {
    let shown = Shown::new(&[]).await;
    for (path, texts) in [
        ("/", &["/runs/first", "complete", "transactions.batch", "predictions.realtime"][..]),
        ("/?state=failures", &["/runs/first"]),
        ("/?state=failed", &["No run is like this"]),
        ("/?source=a.csv&since=hour", &["/runs/first"]),
        ("/?source=b.csv", &["No run is like this"]),
        (
            "/runs/first",
            &[
                "12 read = 9 predicted + 1 invalid + 1 failed + 1 duplicate",
                "id_empty",
                "rejected",
                "9 scores",
                "scripted-1",
                "/runs/first/rows/9",
                "recognised",
                "assay replay first",
            ],
        ),
        ("/runs/first/invalid", &["id_empty", MASKED, "&lt;b&gt;"]),
        ("/runs/first/invalid?reason=id_empty", &["Invalid rows: id_empty", MASKED]),
        ("/runs/first/invalid?reason=amount_empty", &["No row has this reason"]),
        ("/runs/first/failed?class=rejected", &["Row <data class=\"number\" value=\"7\">", MASKED]),
        ("/runs/first/failed?class=suspect", &["No transaction is like this"]),
        ("/runs/first/rows/1", &["predicted: ", "by model scripted-1"]),
        ("/runs/first/rows/7", &["failed: rejected", MASKED]),
        ("/runs/first/rows/11", &["row 10 of run first stored this transaction", "/runs/first/rows/10"]),
        ("/runs/first/rows/12", &["invalid: id_empty", MASKED]),
        ("/runs/first/rows/13", &["never read: the source has 12 rows"]),
        ("/search?q=3", &["/runs/first/rows/3"]),
        ("/search?q=nothing", &["no transaction this id"]),
        ("/operations", &["No operator has done anything"]),
    ] {
        let page = shown.page(path).await;
        for text in texts {
            assert!(page.contains(text), "{path} lacks {text}: {page}");
        }
    }
    let (_, file) = shown.get("/runs/first/rejected.csv", "").await;
    assert!(file.contains("id,description,") && file.contains(MASKED) && !file.contains(CARD), "{file}");
    let series: Value = serde_json::from_str(&shown.page("/runs/first/series").await).unwrap();
    assert_eq!(series["names"], json!(["predicted", "invalid", "failed", "duplicate"]));
    for (path, expected) in [("/runs/none", 404), ("/none", 404), ("/runs/first/rows/x", 400), ("/?page=x", 400)] {
        assert_eq!(shown.get(path, "").await.0, expected, "{path}");
    }
    // Nobody without a token orders anything, or sees a row unmasked.
    for path in ["/runs/first/actions/replay", "/runs/first/invalid", "/runs/first/rejected.csv"] {
        assert_eq!(shown.post(path, "", "reason=x&count=9", "").await.0, 403, "{path}");
    }
    // Another name for this address is not taken, as a page elsewhere could have it.
    assert_eq!(shown.send("GET /", "", "\r\nhost: evil.example", "").await.0, 421);
    let report = shown.stack.assay(["report", "latest"]).run().await;
    report.expect_exit(0).expect_says("12 read = 9 predicted").expect_silent_about(CARD).expect_silent_about("<script");
    shown.console.terminate();
    shown.console.end().await.expect_exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_recorded_with_the_name_of_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, USERS).unwrap();
    let settings = [("CONSOLE_USERS_FILE", users.to_str().unwrap()), ("CONSOLE_ACTIONS", "on")];
    let shown = Shown::new(&settings).await;
    let post = async |path: &str, token: &str, form: &str| shown.post(path, token, form, "").await;
    let replay = "/runs/first/actions/replay";
    for (token, form, expected) in [
        ("", "reason=x&count=1", 401),
        ("wrong", "reason=x&count=1", 401),
        ("vic", "reason=x&count=1", 403),
        ("aud", "reason=x&count=1", 403),
        ("ada", "count=1", 400),
        ("ada", "reason=x&count=0", 400),
        ("ada", "reason=x&count=1&class=--yes", 400),
    ] {
        assert_eq!(post(replay, token, form).await.0, expected, "{token} {form}");
    }
    let elsewhere = "\r\norigin: http://evil.example\r\nsec-fetch-site: cross-site";
    assert_eq!(shown.post(replay, "ada", "reason=x&count=1", elsewhere).await.0, 403);
    let operations = async || shown.stack.assay(["operations", "--json"]).run().await.json();
    assert_eq!(operations().await, json!([]), "a refused order is recorded or done");

    let (_, page) = shown.get("/runs/first/actions/replay?class=rejected", "ada").await;
    assert!(page.contains("rejected") && page.contains("name=\"count\" value=\"1\""), "{page}");
    let (status, page) = post(replay, "ada", "class=rejected&count=1&reason=it%27s+fixed").await;
    assert!(status == 200 && page.contains("It is done."), "{page}");
    let (_, page) = post("/runs/first/actions/audit", "ada", "").await;
    assert!(page.contains("It is done."), "{page}");
    assert_eq!(post("/runs/first/actions/cancel", "ada", "reason=x").await.0, 400, "it is finished");
    let (status, page) = post("/runs/first/invalid", "aud", "reason=to+check").await;
    assert!(status == 200 && page.contains(CARD), "{page}");
    let (_, file) = post("/runs/first/rejected.csv", "aud", "reason=to+correct").await;
    assert!(file.contains(CARD), "{file}");
    assert_eq!(post("/runs/first/invalid", "aud", "reason=+").await.0, 400);
    let operations = operations().await;
    let told: Vec<_> =
        operations.as_array().unwrap().iter().rev().map(|it| (&it["operator"], &it["action"], &it["reason"])).collect();
    assert_eq!(
        json!(told),
        json!([
            ["ada", "replay", "it's fixed"],
            ["ada", "audit", null],
            ["aud", "unmask", "to check"],
            ["aud", "unmask", "to correct"]
        ])
    );
}

#[tokio::test]
async fn an_address_that_others_reach_needs_users() {
    let console = |settings: &[(&str, &str)]| {
        let program = Program::new("assay").arg("console").env("DATABASE_URL", "sqlite:///nowhere/assay.db");
        settings.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    };
    console(&[("CONSOLE_ADDR", "0.0.0.0:0")]).await.expect_one_clear_line(2, &["CONSOLE_USERS_FILE"]);
    console(&[("CONSOLE_USERS_FILE", "/nowhere")]).await.expect_one_clear_line(2, &["/nowhere", "CONSOLE_USERS_FILE"]);
    console(&[("CONSOLE_ACTIONS", "on")]).await.expect_one_clear_line(2, &["CONSOLE_ACTIONS needs users"]);
}
