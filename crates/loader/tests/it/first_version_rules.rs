//! Runs of an earlier version are resumed and repaired by the rules of that version.

use std::sync::Arc;

use assay_loader::{RepairOptions, repair};
use assay_store::{FailedRowSelection, IdConflict, NewRun, RunStart};
use assay_transaction::{
    Entry, FieldAccess as _, Position, RawText, ReadingRules, RejectReason, RejectedRow, RowRange, Run, RunSettings,
    RunState, ScoredChunk,
};
use tokio_util::sync::CancellationToken;

use crate::fixture::{LEASE, LoaderFixture, LoaderProcess};
use crate::stopped_early::rejected_chunk;

/// Frozen by version 0.1.
const SETTINGS: &str = r#"{"chunk_rows":2,"chunk_bytes":1048576,"dialect":{"delimiter":"comma","decimal_mark":"point","encoding":"utf-8"},"timestamps":"%d/%m/%Y %H:%M:%S","header":["id","description","amount","timestamp","operation_type","side","note"],"start":{"row":1,"line":2,"offset":57},"time_zone":"UTC","namespace":"f8b72323-0e40-5a08-bd7f-039dfb85a9b2","durable_broker":true,"budgets":{}}"#;

const FILE: &str = "\
id,description,amount,timestamp,operation_type,side,note
1, padded ,1.50,11/01/2026 10:00:00,payment,debit,\\N
2,\"quoted, text\",2.50,11/01/2026 10:00:00,payment,debit,NULL
3,a \"stray\" quote,-3.000,11/01/2026 10:00:00,payment,debit,=\"0001\"
4, \"behind a blank\",4.50,11/01/2026 10:00:00,payment, debit,x
5,grouped,\"1,234.50\",11/01/2026 10:00:00,payment,debit,x
6,\"closed\" early,6.50,11/01/2026 10:00:00,payment,debit,x
7,behind,5.50-,11/01/2026 10:00:00,payment,debit,x
8,id,amount,timestamp,operation_type,side,note
id,description,amount,timestamp,operation_type,side,note
10,\"never closed,7.50,11/01/2026 10:00:00,payment,debit,x
11,last,8.50,11/01/2026 10:00:00,payment,debit, x 
";

/// The outcomes by that version: each row with its chunk, and its values or its reason.
const EXPECTED: &[&str] = &[
    r#"1 " padded " 1.50 2026-01-11T10:00:00Z "debit" "\\N""#,
    r#"2 "quoted, text" 2.50 2026-01-11T10:00:00Z "debit" "NULL""#,
    r#"3 "a \"stray\" quote" -3.000 2026-01-11T10:00:00Z "debit" "=\"0001\"""#,
    r#"4 " \"behind a blank\"" 4.50 2026-01-11T10:00:00Z " debit" "x""#,
    "5 line 6 amount_format",
    r#"6 "closed early" 6.50 2026-01-11T10:00:00Z "debit" "x""#,
    "7 line 8 amount_format",
    "8 line 9 amount_format",
    "9 line 10 amount_format",
    "10 line 11 unterminated_quote",
    r#"11 "last" 8.50 2026-01-11T10:00:00Z "debit" " x ""#,
];

async fn outcomes(process: &LoaderProcess, run: &Run) -> Vec<String> {
    let store = &process.dependencies.store;
    let mut rows = Vec::new();
    for failed in store.failed_rows(&run.run_id, &FailedRowSelection::default(), 1, 100).await.unwrap() {
        let entry: Entry = serde_json::from_slice(&failed.payload).unwrap();
        let it = entry.transaction.decode().unwrap();
        let note = it.attributes.get("note").map_or("none", String::as_str);
        rows.push((failed.row, format!("{:?} {} {} {:?} {note:?}", it.description, it.amount, it.timestamp, it.side)));
    }
    for invalid in store.invalid_rows(&run.run_id, None, 1, 100).await.unwrap() {
        rows.push((invalid.row, format!("line {} {}", invalid.line, invalid.reason)));
    }
    rows.sort();
    rows.into_iter().map(|(row, text)| format!("{row} {text}")).collect()
}

async fn begun_by_the_first_version(fixture: &LoaderFixture) -> (LoaderProcess, Run) {
    std::fs::write(fixture.file(), FILE).unwrap();
    let process = fixture.process(&["--row-batch-size", "3"], 100, true).await;
    let settings: RunSettings = serde_json::from_str(SETTINGS).unwrap();
    assert_eq!(settings.reading, ReadingRules::First);
    let found = process.dependencies.sources.identify(&process.url).await.unwrap();
    let new = NewRun {
        run_id: "first".parse().unwrap(),
        explicit_id: false,
        source: found.identity,
        settings,
        force: false,
        source_bytes: Some(found.size),
        fingerprint: None,
        owner: "elsewhere/1/2/other".into(),
        lease: LEASE,
    };
    let RunStart::Started(run, lease) = process.dependencies.store.begin_run(&new).await.unwrap() else {
        panic!("it is new")
    };
    process.dependencies.store.release_lease(&lease).await.unwrap();
    (process, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_the_first_rules_is_resumed_by_them() {
    let fixture = LoaderFixture::new(0);
    let (process, run) = begun_by_the_first_version(&fixture).await;
    let ended = process.load().await.unwrap();
    assert_eq!((&ended.run.run_id, ended.run.state), (&run.run_id, RunState::Complete));
    assert_eq!(outcomes(&process, &run).await, EXPECTED);
}

/// The previous loader had read half of the source; of its chunks, only the second is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_makes_the_chunks_that_are_missing() {
    let fixture = LoaderFixture::new(0);
    let (process, run) = begun_by_the_first_version(&fixture).await;
    let store = &process.dependencies.store;
    store.write(&[recorded(&run, 1)], IdConflict::Fail).await.unwrap();
    let options = RepairOptions { row_batch_size: 3.try_into().unwrap(), dry_run: false };
    let run = store.run(&run.run_id).await.unwrap().unwrap();
    let never = CancellationToken::new();
    let repaired = repair(&process.dependencies, &run, &options, &Arc::default(), &never).await.unwrap();
    assert_eq!((repaired.chunks_missing, repaired.rows_missing, repaired.sealed.rows_read), (5, 9, 11));
    while !store.run(&run.run_id).await.unwrap().unwrap().state.is_finished() {
        tokio::task::yield_now().await;
    }
    let mut expected = EXPECTED.to_vec();
    // Recorded rows stay.
    expected.splice(2..4, ["3 line 4 field_count", "4 line 5 field_count"]);
    assert_eq!(outcomes(&process, &run).await, expected);
}

/// A loader that resumes at a checkpoint relies on this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_resumed_after_any_row_is_the_same() {
    let fixture = LoaderFixture::new(0);
    let (process, run) = begun_by_the_first_version(&fixture).await;
    let found = process.dependencies.sources.identify(&process.url).await.unwrap();
    let rows_from = async |from: Position| {
        let sources = &process.dependencies.sources;
        let mut reader = sources.rows(&process.url, &found, &run.settings, from).await.unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = reader.next_batch(3).await.unwrap() {
            rows.extend(batch.rows().map(|row| {
                let fields = (0..row.fields.count()).map(|at| row.fields.get(at).unwrap().to_vec()).collect::<Vec<_>>();
                (row.number, row.line, row.malformed, fields, row.end)
            }));
        }
        rows
    };
    let all = rows_from(run.settings.start.unwrap()).await;
    assert_eq!(all.len(), EXPECTED.len());
    for (at, (.., end)) in all.iter().enumerate() {
        assert_eq!(rows_from(*end).await, all[at + 1..], "behind row {}", at + 1);
    }
}

/// A recorded chunk of two rows.
fn recorded(run: &Run, chunk: u64) -> ScoredChunk {
    let first_row = 2 * chunk + 1;
    let rejected = (first_row..first_row + 2).map(|row| RejectedRow {
        row,
        line: row + 1,
        reason: RejectReason::FieldCount,
        message: String::new(),
        raw: RawText::default(),
    });
    ScoredChunk { range: RowRange { first_row, rows: 2 }, rejected: rejected.collect(), ..rejected_chunk(run, chunk) }
}
