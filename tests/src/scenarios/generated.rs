//! Large files, as `assay generate` writes them.

use crate::Program;

/// The delimiter of [`transactions`].
pub(super) const DELIMITER: u8 = b';';
/// And its decimal mark.
pub(super) const DECIMAL_MARK: char = ',';

/// A file of valid rows, each of them another transaction.
pub(super) async fn transactions(rows: u64, seed: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let generate = Program::new("assay").arg("generate").within(folder.path());
    let generate =
        generate.arg(format!("--rows={rows}")).arg(format!("--seed={seed}")).arg("--output=transactions.csv");
    generate.run().await.expect_exit(0);
    std::fs::read(folder.path().join("transactions.csv")).expect("the file is written")
}
