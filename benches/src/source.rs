//! Generated files, each made once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_tests::Program;

/// The same rows in every run.
const SEED: &str = "--seed=11";
/// A few invalid rows and a few duplicates, as in real files.
const AT_FAULT: [&str; 2] = ["--invalid=0.001", "--duplicates=0.001"];

/// The generated files, by number of rows.
#[derive(Debug)]
pub(crate) struct SourceFiles {
    folder: tempfile::TempDir,
    made: BTreeMap<u64, PathBuf>,
}

impl SourceFiles {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary directory"), made: BTreeMap::new() }
    }

    /// Returns the file with this number of rows.
    pub(crate) async fn of(&mut self, rows: u64) -> PathBuf {
        if let Some(file) = self.made.get(&rows) {
            return file.clone();
        }
        let file = self.folder.path().join(format!("{rows}.csv"));
        let generate = Program::new("assay").args(["generate", SEED]).args(AT_FAULT).arg(format!("--rows={rows}"));
        let ended = generate.arg("--output").arg(&file).start().end_within(crate::load::time_limit(rows)).await;
        ended.expect_exit(0);
        self.made.insert(rows, file.clone());
        file
    }
}
