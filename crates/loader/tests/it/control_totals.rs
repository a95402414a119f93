//! Control totals: a source that differs fails its run, which keeps its rows.

use std::io::Write as _;

use assay_loader::LoadError;
use assay_telemetry::Failure as _;
use assay_transaction::{Exit, RunState};

use crate::fixture::LoaderFixture;

/// 1,000 rows of 1.50.
const ROWS: usize = 1_000;
const SUM: &str = "1500.0000";

fn append(fixture: &LoaderFixture, text: &str) {
    std::fs::OpenOptions::new().append(true).open(fixture.file()).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Loads. Returns the error of the run, if there is one. Its rows are stored in any case.
async fn load(fixture: &LoaderFixture, arguments: &[&str]) -> Option<String> {
    let process = fixture.process(arguments, 100, true).await;
    let ended = process.load().await;
    let (run, tally) = process.only_run().await;
    let sealed = run.sealed.expect("a run that has an end");
    assert!(tally.accounts_for(sealed.rows_read), "{tally:?}");
    assert_eq!(sealed.rows_read, ROWS as u64);
    match ended {
        Ok(ended) => {
            assert_eq!((ended.run.state, &run.error), (RunState::Complete, &None));
            None
        }
        Err(error) => {
            assert_eq!((run.state, error.exit()), (RunState::Failed, Exit::FailedRows), "{error}");
            assert_eq!(run.error, Some(error.to_string()));
            Some(error.to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expected_totals_are_compared_with_the_rows_read() {
    let differ = |what: &str| Some(format!("control totals differ: {what}"));
    let trailer = "--trailer=END,{rows},{amount}";
    let suffix = "--manifest=.manifest.json";
    let cases = [
        ("--expect-rows=1000 --expect-amount=1500", "", "", None),
        ("--expect-rows=1001", "", "", differ("1001 rows expected, 1000 read")),
        (
            "--expect-rows=999 --expect-amount=-1.5",
            "",
            "",
            differ("999 rows expected, 1000 read; an amount of -1.5000 expected, 1500.0000 read"),
        ),
        (suffix, r#"{"rows": 1000, "amount": "1500.00"}"#, "", None),
        (suffix, r#"{"amount": 1500.01}"#, "", differ("an amount of 1500.0100 expected, 1500.0000 read")),
        ("--manifest=.manifest.json --expect-rows=1000", r#"{"rows": 7}"#, "", None),
        (trailer, "", "END,1000,1500.00,,,\n", None),
        (trailer, "", "END,1000,1500.00", None),
        (trailer, "", "END,1002,1500.00,,,\n", differ("1002 rows expected, 1000 read")),
        (trailer, "", "", Some("control totals are missing: no row is the trailer `END,{rows},{amount}`".to_owned())),
        (
            trailer,
            "",
            "END,1000,1500.00\n1001,first,1.50,2026-01-11 10:00:00,payment,debit\n",
            Some("control totals are missing: row 1002 follows the trailer row".to_owned()),
        ),
        (
            trailer,
            "",
            "END,all,1500.00\n",
            Some("control totals are missing: the trailer row has `AAA` where the number of rows should be".to_owned()),
        ),
    ];
    for (arguments, manifest, end, expected) in cases {
        let fixture = LoaderFixture::new(ROWS);
        append(&fixture, end);
        if !manifest.is_empty() {
            std::fs::write(fixture.folder.path().join("transactions.csv.manifest.json"), manifest).unwrap();
        }
        let arguments: Vec<&str> = arguments.split(' ').collect();
        assert_eq!(load(&fixture, &arguments).await, expected, "{arguments:?} {manifest} {end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_rows_count_with_the_amount_that_they_have() {
    let fixture = LoaderFixture::new(ROWS);
    fixture.spoil(10);
    assert_eq!(load(&fixture, &["--expect-rows=1000", "--expect-amount", SUM]).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_is_missing_is_named_and_nothing_is_begun() {
    let fixture = LoaderFixture::new(ROWS);
    let process = fixture.process(&["--manifest=.json"], 100, true).await;
    let error = process.load().await.unwrap_err();
    assert!(matches!(error, LoadError::Manifest { .. }) && error.exit() == Exit::SourceUnreadable, "{error}");
    assert!(error.to_string().contains("transactions.csv.json cannot be used (it does not exist)"), "{error}");
    assert_eq!(process.dependencies.store.runs(None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_load_knows_its_totals_and_needs_no_settings() {
    for (expected, end) in [
        (&["--expect-rows=3000", "--expect-amount=4500"][..], ""),
        (&["--trailer=END,{rows},{amount}"], "END,3000,4500"),
    ] {
        let fixture = LoaderFixture::new(3_000);
        append(&fixture, end);
        let common = ["--row-batch-size", "1"];
        for (stop_after, more) in [(100, expected), (700, &[]), (1_500, &[])] {
            let process = fixture.process(&[&common[..], more].concat(), 4, true).await;
            let error = process.stopped_after(stop_after).await;
            assert!(matches!(error, LoadError::Stopped { .. }), "{error}");
        }
        let process = fixture.process(&common, 4, true).await;
        let ended = process.load().await.unwrap();
        let sealed = ended.run.sealed.unwrap();
        assert_eq!((ended.run.state, sealed.rows_read), (RunState::Complete, 3_000));
        assert_eq!(sealed.amount, "4500".parse().ok());
    }
}
