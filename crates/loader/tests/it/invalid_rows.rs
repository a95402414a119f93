//! Sources with all or nearly all rows invalid; headers and footers among the rows.

use std::fmt::Write as _;

use assay_loader::LoadError;
use assay_source::SourceError;
use assay_telemetry::Failure as _;
use assay_transaction::{Exit, REQUIRED_COLUMNS, RejectReason, RunState};

use crate::fixture::LoaderFixture;

/// A file with this text after its header.
fn fixture_of(text: &str) -> LoaderFixture {
    let fixture = LoaderFixture::new(0);
    std::fs::write(fixture.file(), format!("{}\n{text}", REQUIRED_COLUMNS.join(","))).unwrap();
    fixture
}

/// Valid rows.
fn rows(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.fold(String::new(), |mut text, row| {
        writeln!(text, "{row},first,1.50,2026-01-11 10:00:00,payment,debit").unwrap();
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_valid_row_has_failed_and_can_be_loaded_again() {
    let fixture = LoaderFixture::new(1_000);
    fixture.spoil(1_000);
    let process = fixture.process(&["--row-batch-size", "300"], 100, true).await;
    for attempt in 1..=2 {
        let error = process.load().await.unwrap_err();
        assert!(matches!(error, LoadError::NothingValid { rows: 1_000, .. }), "{error}");
        assert_eq!(error.exit(), Exit::FailedRows);
        let text = error.to_string();
        for part in ["not one of 1000 rows is valid", "description_empty", "`description` is empty", "MAPPING"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let runs = process.dependencies.store.runs(None, 10).await.unwrap();
        assert_eq!(runs.len(), attempt, "nothing of it counts as loaded");
        for run in runs {
            assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some(text.as_str())));
            assert!(process.dependencies.store.tally(&run.run_id).await.unwrap().accounts_for(1_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_alone_is_complete() {
    let ended = fixture_of("").process(&[], 100, true).await.load().await.unwrap();
    assert_eq!((ended.run.state, ended.run.sealed.unwrap().rows_read), (RunState::Complete, 0));
    assert_eq!(ended.exit(), Exit::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prevailing_reason_names_its_setting() {
    for (rows, spoiled, is_told) in
        [(1_000, 999, true), (1_000, 900, true), (1_000, 899, false), (3, 2, true), (3, 1, false)]
    {
        let fixture = LoaderFixture::new(rows);
        fixture.spoil(spoiled);
        let ended = fixture.process(&["--row-batch-size", "300"], 100, true).await.load().await.unwrap();
        assert_eq!(ended.run.state, RunState::Complete);
        let prevailing = ended.warnings.prevailing;
        assert_eq!(prevailing.is_some(), is_told, "{spoiled} of {rows}");
        if let Some(prevailing) = prevailing {
            assert_eq!((prevailing.reason, prevailing.rejected), (RejectReason::DescriptionEmpty, spoiled as u64));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_header_costs_one_row() {
    let header = REQUIRED_COLUMNS.join(",");
    let fixture = fixture_of(&format!("{}{header}\n{}{}\n", rows(1..=2), rows(3..=4), header.to_uppercase()));
    let process = fixture.process(&[], 100, true).await;
    let ended = process.load().await.unwrap();
    let tally = ended.tally.unwrap();
    assert_eq!((tally.invalid, tally.failed, ended.run.state), (2, 4, RunState::Complete));
    let invalid = process.dependencies.store.invalid_rows(&ended.run.run_id, None, 1, 10).await.unwrap();
    let found: Vec<_> = invalid.iter().map(|row| (row.row, row.line, row.reason.as_str())).collect();
    assert_eq!(found, [(3, 4, "header_repeated"), (6, 7, "header_repeated")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_header_ends_the_run_before_it() {
    let headers = [
        ("id,amount,description,timestamp,side,operation_type", "`amount` in place of `description`, as field 2"),
        ("description,id,amount,timestamp,operation_type,side,country", "it has `country`"),
    ];
    for (header, difference) in headers {
        for before in [0, 2, 450] {
            let fixture = fixture_of(&format!("{}{header}\n{}", rows(1..=before), rows(before + 1..=before + 300)));
            let process = fixture.process(&["--row-batch-size", "70"], 100, true).await;
            let error = process.load().await.unwrap_err();
            let LoadError::SourceBroken { row, line, cause, .. } = &error else { panic!("{error}") };
            assert!(matches!(**cause, SourceError::OtherHeader(_)), "{error}");
            assert_eq!((*row, *line), (u64::from(before) + 1, u64::from(before) + 2));
            assert!(error.to_string().contains(difference), "{error}");
            assert_eq!(error.exit(), Exit::SourceUnreadable);
            let (run, tally) = process.only_run().await;
            assert_eq!((run.state, run.sealed.unwrap().rows_read), (RunState::Failed, u64::from(before)));
            assert_eq!((tally.failed, tally.invalid), (u64::from(before), 0), "nothing behind it is stored");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_footer_is_not_data() {
    let cases = [
        ("***END OF FILE***", "***END OF FILE***\n", None),
        ("***END OF FILE***", "***END OF FILE***,,,,,\n\n", None),
        ("Balance as of *", "\n\"Balance as of 15/03/2024\",\"1,234.56\"\n\"This is for information only.\"\n", None),
        ("Balance as of *", "Balance as of today\n7,\"never closed\n8\n", None),
        ("END", "", Some("the footer is missing: no row is the trailer `END`")),
        (
            "END",
            "END\n5,first,1.50,2026-01-11 10:00:00,payment,debit\n",
            Some("the footer is not the end: row 6 follows the trailer row"),
        ),
    ];
    for (pattern, footer, expected) in cases {
        let fixture = fixture_of(&format!("{}{footer}", rows(1..=4)));
        let process = fixture.process(&["--trailer", pattern], 100, true).await;
        let ended = process.load().await;
        let (run, tally) = process.only_run().await;
        assert_eq!((run.sealed.unwrap().rows_read, tally.failed, tally.invalid), (4, 4, 0), "{footer}");
        assert_eq!(ended.err().map(|error| error.to_string()).as_deref(), expected, "{footer}");
    }
}

/// Writes a row in one of two readings.
type Write = fn(usize, bool) -> String;

/// The rows of the sample prove one reading; some later rows fit only the other.
fn two_readings(rows: usize, others: usize, row: Write) -> LoaderFixture {
    let fixture = LoaderFixture::new(0);
    let mut text = format!("{}\n", REQUIRED_COLUMNS.join(";"));
    for number in 1..=rows {
        writeln!(text, "{}", row(number, number + others > rows)).unwrap();
    }
    std::fs::write(fixture.file(), text).unwrap();
    fixture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_thousandth_of_another_reading_ends_the_run() {
    let amounts = |number: usize, is_other: bool| {
        format!("{number};x;{};2026-01-11 10:00:00;payment;debit", if is_other { "1.5" } else { "1,25" })
    };
    let dates = |number: usize, is_other: bool| {
        format!("{number};x;1,25;{};payment;debit", if is_other { "01/25/2026" } else { "25/01/2026" })
    };
    let cases: [(Write, usize, Option<&str>); 4] = [
        (amounts, 20, None),
        (amounts, 21, Some("DECIMAL_MARK")),
        (dates, 20, None),
        (dates, 21, Some("TIMESTAMP_FORMAT")),
    ];
    for (row, others, setting) in cases {
        let fixture = two_readings(20_000, others, row);
        let process = fixture.process(&["--row-batch-size", "500"], 100, true).await;
        let ended = process.load().await;
        let (run, tally) = process.only_run().await;
        assert!(tally.accounts_for(run.sealed.unwrap().rows_read), "{tally:?}");
        match (ended, setting) {
            (Ok(ended), None) => assert_eq!((ended.run.state, ended.tally.unwrap().invalid), (RunState::Complete, 20)),
            (Err(error), Some(setting)) => {
                assert_eq!((error.exit(), run.state), (Exit::FailedRows, RunState::Failed));
                let text = error.to_string();
                for part in
                    ["21 of 20000 rows fit another reading than", "(recognised)", "row 19980 (line 19981)", setting]
                {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
            (ended, _) => panic!("{others} others: {ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_local_times_are_counted() {
    let times = ["2024-10-27 01:30:00", "2024-10-27 02:15:00", "2024-10-27 02:45:00", "2024-10-27 03:30:00"];
    let rows = times.map(|time| format!("{},first,1.50,{time},payment,debit\n", &time[11..]));
    let fixture = fixture_of(&rows.concat());
    let process = fixture.process(&["--time-zone", "Europe/Paris"], 100, true).await;
    let warnings = process.load().await.unwrap().warnings;
    assert_eq!(warnings.ambiguous_hours, 2);
    assert!(warnings.lines()[0].contains("comes twice in Europe/Paris"), "{:?}", warnings.lines());
}
