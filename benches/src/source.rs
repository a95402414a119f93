//! Generated files, each made once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_tests::Program;

/// The same rows in every run.
const SEED: &str = "--seed=11";
/// A few invalid rows and a few duplicates, as in real files.
const AT_FAULT: [&str; 2] = ["--invalid=0.001", "--duplicates=0.001"];

/// The generated files, by number of rows and whether some are at fault.
#[derive(Debug)]
pub(crate) struct SourceFiles {
    folder: tempfile::TempDir,
    made: BTreeMap<(u64, bool), PathBuf>,
}

impl SourceFiles {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary directory"), made: BTreeMap::new() }
    }

    /// Returns the file with this number of rows.
    pub(crate) async fn of(&mut self, rows: u64) -> PathBuf {
        self.made(rows, true).await
    }

    /// Returns the file with this number of rows, all of them valid and new.
    pub(crate) async fn faultless(&mut self, rows: u64) -> PathBuf {
        self.made(rows, false).await
    }

    async fn made(&mut self, rows: u64, at_fault: bool) -> PathBuf {
        if let Some(file) = self.made.get(&(rows, at_fault)) {
            return file.clone();
        }
        let file = self.folder.path().join(format!("{rows}{}.csv", if at_fault { "" } else { "-faultless" }));
        let generate = Program::new("assay").args(["generate", SEED]).arg(format!("--rows={rows}"));
        let generate = if at_fault { generate.args(AT_FAULT) } else { generate };
        let ended = generate.arg("--output").arg(&file).start().end_within(crate::load::time_limit(rows)).await;
        ended.expect_exit(0);
        self.made.insert((rows, at_fault), file.clone());
        file
    }
}
