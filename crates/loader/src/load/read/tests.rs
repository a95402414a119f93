//! Chunks, batches, footers, and ids that count equal rows.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use assay_source::{FormatOptions, FoundSource, S3Options, SourceUrl, Sources};
use assay_transaction::{Namespace, REQUIRED_COLUMNS, RunSettings, SourceIdentity};

use super::*;

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

/// A file to read, with the settings that its run freezes.
struct Opened {
    sources: Sources,
    url: SourceUrl,
    found: FoundSource,
    run: Run,
    start: Checkpoint,
}

impl Opened {
    async fn new(path: &Path, mapping: Option<&str>, adjust: impl FnOnce(&mut RunSettings)) -> Self {
        let sources = Sources::new(&S3Options::default()).unwrap();
        let url = SourceUrl::File(path.to_owned());
        let found = sources.identify(&url).await.unwrap();
        let mapping = mapping.map(|json| Arc::new(serde_json::from_str(json).unwrap()));
        let options = FormatOptions { mapping, ..FormatOptions::default() };
        let layout = sources.inspect(&url, &found, &options).await.unwrap().layout;
        let start = Checkpoint::first(layout.start);
        let mut settings = RunSettings::standard(Namespace::new("test"));
        adjust(&mut settings);
        let run = run_of(found.identity.clone(), layout.freeze(settings));
        Self { sources, url, found, run, start }
    }

    /// Reads from the first row, and reports the chunks from a checkpoint.
    async fn read(&self, from: Checkpoint, batch_rows: usize) -> (Vec<ReaderMessage>, ReadEnd) {
        let reader = self.sources.rows(&self.url, &self.found, &self.run.settings, self.start.at).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1_000);
        let progress = LoadProgress::default();
        let (end, _) = read(reader, &self.run, from, None, batch_rows, &progress, sender).await.unwrap();
        let mut messages = Vec::new();
        receiver.recv_many(&mut messages, 1_000).await;
        (messages, end)
    }
}

/// The batches of a file with this trailer, read in batches of four rows.
async fn read_in_batches_of_four(path: &Path, trailer: &str) -> (Vec<(u64, u64, u64)>, ReadEnd) {
    let opened = Opened::new(path, None, |settings| settings.trailer = Some(trailer.parse().unwrap())).await;
    let (messages, end) = opened.read(opened.start, 4).await;
    let batch = |message| match message {
        ReaderMessage::Batch(ReadBatch { number, last_row, transactions }) => Some((number, last_row, transactions)),
        ReaderMessage::Cut(_) => None,
    };
    (messages.into_iter().filter_map(batch).collect(), end)
}

fn cut(message: ReaderMessage) -> Option<CutChunk> {
    if let ReaderMessage::Cut(cut) = message { Some(cut) } else { None }
}

/// Encoded bytes and rows of the chunks of a file.
async fn chunks(path: &Path) -> Vec<(usize, u64)> {
    let opened = Opened::new(path, None, |_| {}).await;
    let (messages, _) = opened.read(opened.start, 5_000).await;
    let cuts = messages.into_iter().filter_map(cut);
    cuts.map(|CutChunk { chunk, .. }| (chunk.body.len(), chunk.range.rows)).collect()
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
    let opened = Opened::new(&path, Some(MAPPING), |settings| settings.chunk_rows = 2.try_into().unwrap()).await;
    let cuts = async |from| -> Vec<CutChunk> { opened.read(from, 3).await.0.into_iter().filter_map(cut).collect() };
    let all = cuts(opened.start).await;
    let checkpoints: Vec<_> = std::iter::once(opened.start).chain(all.iter().map(|cut| cut.next)).collect();
    let entries = cuts(checkpoints[chunk]).await.into_iter().flat_map(|cut| cut.chunk.decode().unwrap().transactions);
    (checkpoints, entries.filter_map(|entry| entry.external_id).collect())
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
