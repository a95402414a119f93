//! `tests/field-settings.json`: how field cases declare what they need. Every setting in it exists.

use std::collections::BTreeMap;

use assay_tests::{HEADER, Program};
use serde::Deserialize;

/// What a case declares.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

#[tokio::test]
async fn every_setting_that_a_case_declares_exists() {
    let declared: BTreeMap<String, Declared> =
        serde_json::from_str(include_str!("../../field-settings.json")).expect("it is JSON");
    let help = Program::new("assay").args(["run", "--help"]).run().await;
    for (case, Declared { env, files }) in declared {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("empty.csv"), format!("{HEADER}\n")).unwrap();
        let mut program = Program::new("assay").args(["run", "empty.csv"]).within(folder.path());
        for (name, value) in &env {
            let (shown, hidden) = (format!("[env: {name}="), format!("[env: {name}]"));
            assert!(help.stdout.contains(&shown) || help.stdout.contains(&hidden), "{case}: no setting {name}");
            program = program.env(name, value);
        }
        // What is declared may not fit this file, as it has no row; a setting that is wrong exits 2.
        let ended = program.run().await;
        assert!(matches!(ended.code, Some(0 | 1 | 4)), "{case}: {}", ended.stderr);
    }
}
