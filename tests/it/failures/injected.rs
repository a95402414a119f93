//! A short run of what `scripts/faults` does for hours: programs, services and an ML API that fail during a load.

use std::io::Write as _;

use assay_tests::faults::{Options, Tools, run};

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_lost_or_doubled_under_faults() {
    let Some(tools) = Tools::from_environment() else {
        // Not by `eprintln!`, whose output is captured if the test passes.
        let words = "faults: NOT RUN, as they take installed services that may be killed: run scripts/faults, which brings them";
        writeln!(std::io::stderr(), "{words}").unwrap();
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    // None of these seeds restarts RabbitMQ, which takes longer than all else, or takes a pooler. They kill a predictor, crash the
    // database while it commits later, cut connections, poison queues, have wide rows, and let the ML API fail in some of its ways.
    let options = Options { rounds: 3, seed: 13, only: None, logs: logs.path().to_owned(), keep_logs: false };
    let mut said = Vec::new();
    let summary = run(&options, &tools, &mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(summary.is_good(), "logs are in {}:\n{said}", logs.keep().display());
    assert!(summary.injected.total() >= 8, "few faults found their moment:\n{said}");
}
