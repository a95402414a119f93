//! Runs every command of the operator's guide as written.

use std::path::Path;

use assay_tests::guide::commands;
use assay_tests::{Program, law};
use tempfile::TempDir;

const GUIDE: &str = include_str!("../../../docs/operations.md");

/// Runs the commands of a page in order, in a new folder with the examples. Returns the folder.
pub(crate) async fn play(page: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").canonicalize().unwrap();
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).unwrap();
    let mut variables = Vec::new();
    for (command, exit) in commands(page) {
        if let Some((name, value)) = command.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            variables.push((name, value.split(" #").next().unwrap_or_default()));
            continue;
        }
        let program = variables.iter().fold(Program::shell(command), |program, (name, value)| program.env(name, value));
        let ended = program.within(folder.path()).run().await;
        assert_eq!(ended.code, Some(exit), "exit code of `{command}`, which said:\n{}{}", ended.stdout, ended.stderr);
    }
    folder
}

#[tokio::test]
async fn every_command_works_as_documented() {
    let commands = commands(GUIDE);
    let named = |name: &str| commands.iter().any(|(command, _)| command.contains(&format!("assay {name}")));
    for name in [
        "run",
        "runs",
        "status",
        "row",
        "transaction",
        "audit",
        "invalid",
        "failures",
        "replay",
        "repair",
        "cancel",
        "remove",
    ] {
        assert!(named(name), "the guide shows `assay {name}`");
    }
    let folder = play(GUIDE).await;
    let tallies = law::holds_in_file(&folder.path().join("operations.db")).await;
    assert_eq!(tallies["january"].total(), 10_000);
    assert_eq!(tallies["changed"].failed, tallies["changed"].total(), "the run is removed");
}
