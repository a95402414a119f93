//! No row steers a terminal: whatever its bytes are, no command prints them as they are, to stdout or to the log, as text or JSON.

use std::path::Path;

use assay_tests::{Ended, MlApi, Program, Script};

/// What moves a cursor, clears a screen, sets a title, turns a line around, hides, or breaks a line.
const STEERING: [&str; 9] = [
    "\u{1b}[2J",
    "\u{1b}]0;title\u{7}",
    "\u{9b}31m",
    "\u{202e}",
    "\u{2066}",
    "\u{200f}",
    "\u{85}",
    "\u{2028}",
    "\u{8}\u{8}",
];
const CARD: &str = "4111 1111 1111 1111";

/// Rows with all of that in every column: stored, invalid, refused by the model, and twice with other content.
fn file() -> String {
    let mut file = "id,description,amount,timestamp,merchant,operation_type,side,note\u{1b}[31m\n".to_owned();
    for (number, text) in STEERING.iter().enumerate() {
        let fields = |id: &str, description: &str, amount: &str| {
            format!(
                "{id}{text},{text}{description} {CARD},{amount},2026-01-11 10:00:00,{text},{text}a,{text}b,{text}{CARD}\n"
            )
        };
        file += &fields(&format!("stored{number}"), "fine", "1.50");
        file += &fields(&format!("stored{number}"), "other", "2.50");
        file += &fields(&format!("refused{number}"), "refuse me", "1.50");
        file += &fields(&format!("invalid{number}"), "fine", &format!("1.5{text}"));
        file.extend(["\"open", text, " ", CARD, "\n"]);
    }
    file
}

#[track_caller]
fn harmless(ended: &Ended, command: &[&str]) {
    for (stream, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        let steers = |it: char| {
            it.is_control() && !matches!(it, '\n' | '\t')
                || STEERING.iter().any(|steering| steering.contains(it) && !it.is_ascii())
        };
        let found = text.lines().find(|line| line.contains(steers));
        assert!(found.is_none(), "{command:?} steers the terminal on {stream}: {found:?}");
        let shown = text.lines().find(|line| line.contains(CARD) || line.contains("4111 11"));
        assert!(shown.is_none(), "{command:?} shows a card number on {stream}: {shown:?}");
    }
}

async fn run(folder: &Path, ml_api: &MlApi, command: &[&str]) -> Ended {
    let program = Program::new("assay").within(folder).env("ML_API_URL", ml_api.url()).env("LOG_LEVEL", "trace");
    let ended = command.iter().fold(program.env("BATCH_RUN_ID", "first"), Program::arg).run().await;
    harmless(&ended, command);
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_steers_a_terminal() {
    let ml_api = MlApi::start(Script::Refuse).await;
    let folder = tempfile::tempdir().unwrap();
    let name = "a\u{1b}[2J\u{202e}.csv";
    std::fs::write(folder.path().join(name), file()).unwrap();
    std::fs::write(folder.path().join("ids\u{1b}[2J.txt"), format!("stored0{}\nlost\u{1b}[2J\n", STEERING[0])).unwrap();
    let run = async |command: &[&str]| run(folder.path(), &ml_api, command).await;
    run(&["inspect", name]).await;
    run(&["run", name, "--json"]).await;
    run(&["run", name]).await.expect_exit(1);
    let commands: [&[&str]; 10] = [
        &["runs"],
        &["status", "first"],
        &["failures", "first", "--limit", "100"],
        &["invalid", "first"],
        &["operations"],
        &["audit", "first"],
        &["transaction", "stored0\u{1b}[2J"],
        &["replay", "first", "--dry-run"],
        &["remove", "first", "--dry-run"],
        &["erase", "ids\u{1b}[2J.txt", "--dry-run"],
    ];
    for command in commands {
        run(command).await.expect_exit(0);
        run(&[command, &["--json"]].concat()).await.expect_exit(0).json();
    }
    for row in 1..=45_u32 {
        let row = row.to_string();
        let found = run(&["row", "first", &row]).await;
        assert_eq!(found.code, Some(0), "row {row}");
        if row == "1" || row == "3" || row == "5" {
            run(&["row", "first", &row, "--json", "--source"]).await.json();
        }
    }
    // Errors that repeat what they were given.
    for command in [
        &["row", "none\u{1b}[2J", "1"][..],
        &["transaction", "none\u{1b}[2J"],
        &["status", "\u{202e}"],
        &["run", "\u{9b}31m"],
    ] {
        let ended = run(command).await;
        assert_ne!(ended.code, Some(0), "{command:?}");
    }
    // Unmasked text is still harmless.
    let command = ["invalid", "first", "--unmasked", "--reason", "a test"];
    let program = command.iter().fold(Program::new("assay").within(folder.path()), Program::arg);
    let ended = program.run().await;
    assert!(ended.expect_exit(0).stdout.contains(CARD));
    assert!(!ended.stdout.contains(|it: char| it.is_control() && it != '\n' || it == '\u{202e}'));
}
