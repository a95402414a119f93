//! A little of what `scripts/faults` does for long: programs, services and an ML API that fail while a file is loaded.

use assay_tests::faults::{Options, Tools, run};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "who runs the tests is to know that this one did not")]
async fn no_row_is_lost_or_doubled_whatever_fails() {
    let Some(tools) = Tools::from_environment() else {
        println!(
            "NOT RUN: PostgreSQL and RabbitMQ that may be killed are installed ones; run scripts/faults, which brings them"
        );
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    // One of the two seeds restarts nothing that takes long to start, the other crashes the database.
    let options = Options { rounds: 2, seed: 5, only: None, logs: logs.path().to_owned(), keep_logs: false };
    let mut said = Vec::new();
    let summary = run(&options, &tools, &mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(summary.is_good(), "logs are in {}:\n{said}", logs.keep().display());
    assert!(summary.injected.total() >= 4, "few faults found their moment:\n{said}");
}
