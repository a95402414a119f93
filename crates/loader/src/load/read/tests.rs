//! Chunks, batches, footers, and ids that count equal rows.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use assay_source::{FormatOptions, S3Options, SourceUrl, Sources};
use assay_transaction::{Namespace, REQUIRED_COLUMNS, RunSettings, SourceIdentity};
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    format: FormatOptions,
}

/// A run that has just begun.
fn run_of(source: SourceIdentity, settings: RunSettings) -> Run {
    Run {
        run_id: "run".parse().unwrap(),
        source,
        state: assay_transaction::RunState::Loading,
        settings,
        checkpoint: Checkpoint::START,
        sealed: None,
        error: None,
        stop: None,
        source_bytes: None,
        started_at: chrono::Utc::now().into(),
        finished_at: None,
        removal: None,
    }
}

/// The batches of a file with this trailer, read in batches of four rows.
async fn read_in_batches_of_four(path: &Path, trailer: &str) -> (Vec<(u64, u64, u64)>, ReadEnd) {
    let options = Options::parse_from(["test"]);
    let sources = Sources::new(&options.s3).unwrap();
    let url = SourceUrl::File(path.to_owned());
    let found = sources.identify(&url).await.unwrap();
    let layout = sources.inspect(&url, &found, &options.format).await.unwrap().layout;
    let settings = RunSettings {
        dialect: layout.dialect,
        header: layout.header,
        start: Some(layout.start),
        trailer: Some(trailer.parse().unwrap()),
        ..RunSettings::standard(Namespace::new("test"))
    };
    let reader = sources.rows(&url, &found, &settings, layout.start).await.unwrap();
    let run = run_of(found.identity, settings);
    let (sender, mut heard) = mpsc::channel(100);
    let (from, progress) = (Checkpoint::first(layout.start), LoadProgress::default());
    let (end, _) = read(reader, &run, from, None, 4, &progress, sender).await.unwrap();
    let mut batches = Vec::new();
    while let Some(read) = heard.recv().await {
        if let ReaderMessage::Batch(ReadBatch { number, last_row, transactions }) = read {
            batches.push((number, last_row, transactions));
        }
    }
    (batches, end)
}

/// Encoded bytes and rows of the chunks of a file.
async fn chunks(path: &Path) -> Vec<(usize, u64)> {
    let options = Options::parse_from(["test"]);
    let sources = Sources::new(&options.s3).unwrap();
    let url = SourceUrl::File(path.to_owned());
    let found = sources.identify(&url).await.unwrap();
    let layout = sources.inspect(&url, &found, &options.format).await.unwrap().layout;
    let from = Checkpoint::first(layout.start);
    let settings = layout.freeze(RunSettings::standard(Namespace::new("test")));
    let reader = sources.rows(&url, &found, &settings, from.at).await.unwrap();
    let run = run_of(found.identity, settings);
    let (sender, mut heard) = mpsc::channel(1_000);
    read(reader, &run, from, None, 5_000, &LoadProgress::default(), sender).await.unwrap();
    let mut chunks = Vec::new();
    while let Some(read) = heard.recv().await {
        if let ReaderMessage::Cut(Cut { chunk, .. }) = read {
            chunks.push((chunk.encode().unwrap().len(), chunk.range.rows));
        }
    }
    chunks
}

#[tokio::test]
async fn a_chunk_is_bounded_by_its_encoded_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let (mut many, none) = (String::new(), String::new());
    (0..20_000).for_each(|column| write!(many, ",c{column}").unwrap());
    // Names of further columns, a description, the number of rows, and the most bytes of a row.
    let cases: [(&String, String, usize, usize); 4] = [
        (&none, "a".repeat(250_000), 20, 251_000),
        (&none, format!("\"{}\"", "\u{1}".repeat(50_000)), 40, 301_000),
        (&none, "\u{fffd}\\".repeat(10_000), 40, 60_000),
        (&many, "x".to_owned(), 10, 300_000),
    ];
    for (columns, description, rows, most) in cases {
        let mut text = format!("{}{columns}\n", REQUIRED_COLUMNS.join(","));
        for row in 1..=rows {
            let commas = ",".repeat(columns.matches(',').count());
            writeln!(text, "{row},{description},1.50,2026-01-11 10:00:00,payment,debit{commas}").unwrap();
        }
        std::fs::write(&path, text).unwrap();
        let chunks = chunks(&path).await;
        assert_eq!(chunks.iter().map(|(_, rows)| rows).sum::<u64>(), rows as u64);
        let largest = chunks.iter().map(|(bytes, _)| *bytes).max().unwrap();
        let bound = RunSettings::CHUNK_BYTES.get() as usize + most;
        assert!((bound / 4..bound).contains(&largest), "{largest} of {bound}: {chunks:?}");
    }
}

#[tokio::test]
async fn a_trailer_row_is_in_no_batch() {
    let (full, rest) = ([(0, 4, 4), (1, 8, 4)], (2, 9, 1));
    let cases =
        [(0, vec![]), (1, vec![(0, 1, 1)]), (4, vec![full[0]]), (8, full.to_vec()), (9, vec![full[0], full[1], rest])];
    let folder = tempfile::tempdir().unwrap();
    for (rows, expected) in cases {
        let path = folder.path().join(format!("{rows}.csv"));
        let mut text = format!("{}\n", REQUIRED_COLUMNS.join(","));
        for row in 1..=rows {
            writeln!(text, "{row},x,1.50,2026-01-11 10:00:00,payment,debit").unwrap();
        }
        std::fs::write(&path, format!("{text}END,{rows},0\n")).unwrap();
        let (batches, end) = read_in_batches_of_four(&path, "END,{rows},{amount}").await;
        assert_eq!(batches, expected, "{rows} rows");
        assert!(matches!(end, ReadEnd::Complete(_, TrailerFound::Totals(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_footer_may_go_over_lines_in_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let text = format!("{}\n1,x,1.50,2026-01-11 10:00:00,payment,debit\n", REQUIRED_COLUMNS.join(","));
    for (footer, is_found) in [("\"END of\nthe file\"\n\nx,y\n", true), ("\"The END\nof it\"\n", false)] {
        std::fs::write(&path, format!("{text}{footer}")).unwrap();
        let (batches, end) = read_in_batches_of_four(&path, "END of*").await;
        assert_eq!(batches.len(), 1, "{footer}");
        assert!(matches!(end, ReadEnd::Complete(_, trailer) if trailer.is_found() == is_found), "{footer}");
    }
}

#[test]
fn a_batch_ends_at_the_same_row_from_every_checkpoint() {
    for before in 0..12 {
        let from = Checkpoint::first(Position { row: before + 1, ..Position::START });
        let mut batches = BatchCounter::new(from, 5);
        let ends: Vec<ReadBatch> = (before + 1..=20).filter_map(|row| batches.count(row, row % 2 == 0)).collect();
        let numbers: Vec<_> = ends.iter().map(|batch| (batch.number, batch.last_row)).collect();
        let all = [(0, 5), (1, 10), (2, 15), (3, 20)];
        assert_eq!(numbers, &all[usize::try_from(before / 5).unwrap()..], "from row {}", before + 1);
        let counted: u64 = ends.iter().map(|batch| batch.transactions).sum();
        assert_eq!(counted, 10 - before / 2, "from row {}", before + 1);
        assert!(batches.finish(20).is_none(), "no batch is open");
    }
}

const MAPPING: &str = r#"{"id":{"columns":["Date","Payee"]},"description":"Payee","amount":"Amount","timestamp":"Date","operation_type":{"constant":"bank"},"side":{"constant":"debit"},"namespace":"account-1"}"#;

/// The checkpoints of a file in chunks of two rows, and the ids of its rows from a chunk on.
async fn read_from(csv: &str, chunk: usize) -> (Vec<Checkpoint>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, csv).unwrap();
    let sources = Sources::new(&S3Options::default()).unwrap();
    let url = SourceUrl::File(path);
    let found = sources.identify(&url).await.unwrap();
    let options =
        FormatOptions { mapping: Some(Arc::new(serde_json::from_str(MAPPING).unwrap())), ..FormatOptions::default() };
    let layout = sources.inspect(&url, &found, &options).await.unwrap().layout;
    let standard = RunSettings::standard(Namespace::new("account-1"));
    let settings = layout.freeze(RunSettings { chunk_rows: 2.try_into().unwrap(), ..standard });
    let run = run_of(found.identity.clone(), settings);
    let first = Checkpoint::first(run.settings.start.unwrap());
    let (mut checkpoints, mut ids) = (vec![first], Vec::new());
    for from in [0, chunk] {
        let (sender, mut heard) = mpsc::channel(100);
        let reader = sources.rows(&url, &found, &run.settings, first.at).await.unwrap();
        read(reader, &run, checkpoints[from], None, 3, &LoadProgress::default(), sender).await.unwrap();
        ids.clear();
        while let Some(heard) = heard.recv().await {
            let ReaderMessage::Cut(cut) = heard else { continue };
            ids.extend(cut.chunk.transactions.into_iter().filter_map(|entry| entry.external_id));
            if from == 0 {
                checkpoints.push(cut.next);
            }
        }
        if chunk == 0 {
            break;
        }
    }
    (checkpoints, ids)
}

#[tokio::test]
async fn a_resumed_load_assigns_the_same_ids() {
    let row = |payee: &str, amount: &str| format!("2024-03-15 00:00:00,{payee},{amount}\n");
    let rows = [
        row("A", "1"),
        row("A", "1"),
        row("B", "1"),
        row("A", "x"),
        row("A", "1"),
        "2024-03-15 00:00:00,A\n".to_owned(),
        row("B", "1"),
        row("A", "1"),
        row("C", "1"),
    ];
    let csv = format!("Date,Payee,Amount\n{}", rows.concat());
    let (checkpoints, whole) = read_from(&csv, 0).await;
    let ids = ["A", "A|2", "B", "A|4", "B|2", "A|5", "C"].map(|id| format!("2024-03-15 00:00:00|{id}"));
    assert_eq!((checkpoints.len(), &whole[..]), (6, &ids[..]));
    for (chunk, passed) in [(1, 2), (2, 3), (3, 4), (4, 6), (5, 7)] {
        let (_, rest) = read_from(&csv, chunk).await;
        assert_eq!(rest, ids[passed..], "from chunk {chunk}");
    }
}
