//! Reading: rows are judged (`judging`) and cut into chunks, `ROW_BATCH_SIZE` of them at a time.

use assay_source::{RowReader, SourceError};
use assay_transaction::{Checkpoint, Chunker, Cut, Position, Run};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::load::counting::{count_rows_before, counts_equal_rows};
use crate::load::judge::{Judge, RowKind, RowStats};
use crate::totals::TrailerFound;
use crate::{LoadError, LoadProgress, metrics};

/// What the reader tells the publisher, in the order of the source.
#[derive(Debug)]
pub(crate) enum ReaderMessage {
    /// A chunk is full.
    Cut(Cut),
    /// A batch of rows is read; its last chunk may still be open.
    Batch(ReadBatch),
}

/// A batch of rows: the unit of reading, validating and checkpointing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadBatch {
    /// Counted from 0 over the source.
    pub(crate) number: u64,
    /// Its last row.
    pub(crate) last_row: u64,
    /// How many of its rows are valid.
    pub(crate) transactions: u64,
}

/// A task that reads.
pub(crate) type ReaderTask = AbortOnDropHandle<Result<(ReadEnd, RowStats), LoadError>>;

/// Where a reader stopped. Only what was read to its end may be sealed as it was counted.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// At the end of the source, or of what was asked for, and what the trailer row said.
    Complete(Checkpoint, TrailerFound),
    /// Where the source is damaged, or gone, or becomes another one: every row before it is in a chunk.
    Broken(SourceError, Position),
    /// Somewhere, as nobody listened any more.
    Abandoned,
    /// Somewhere, as too many rows are invalid, fit another reading alone, or cannot be counted: why, for a person.
    BudgetSpent(String),
}

/// Reads a run's source from a checkpoint to its end, and counts what it holds; not beyond the chunk `until`, where there is
/// one.
pub(crate) async fn read(
    mut reader: RowReader,
    run: &Run,
    from: Checkpoint,
    until: Option<u64>,
    batch_rows: usize,
    progress: &LoadProgress,
    to: mpsc::Sender<ReaderMessage>,
) -> Result<(ReadEnd, RowStats), LoadError> {
    let mut judge = Judge::of_run(&run.settings)?;
    let end = read_all(&mut reader, &mut judge, run, from, until, batch_rows, progress, to).await?;
    Ok((end, judge.stats))
}

#[expect(clippy::too_many_arguments, reason = "those of `read`, and what it makes of them")]
async fn read_all(
    reader: &mut RowReader,
    judge: &mut Judge<'_>,
    run: &Run,
    from: Checkpoint,
    until: Option<u64>,
    batch_rows: usize,
    progress: &LoadProgress,
    to: mpsc::Sender<ReaderMessage>,
) -> Result<ReadEnd, LoadError> {
    if counts_equal_rows(run)
        && let Some(end) = count_rows_before(reader, judge, from.at.row, || to.is_closed()).await?
    {
        return Ok(end);
    }
    let mut chunker = Chunker::new(run.run_id.clone(), &run.settings, from);
    let mut batches = BatchCounter::new(from, batch_rows);
    let mut last = from;
    let is_over = |at: Checkpoint| until.is_some_and(|until| at.chunk >= until);
    if is_over(last) {
        return Ok(ReadEnd::Complete(last, TrailerFound::NotAsked));
    }
    let mut trailer = if run.settings.trailer.is_some() { TrailerFound::Missing } else { TrailerFound::NotAsked };
    // The place behind the last row that is data: a reader that goes on from there finds the trailer again.
    let mut behind = from.at;
    let end = 'reading: loop {
        let rows = match reader.next_batch(batches.missing()).await {
            Ok(Some(rows)) => rows,
            Ok(None) => break None,
            // The open chunk ends here for good, so that its rows are kept.
            Err(error @ SourceError::Damaged { .. }) => break Some((error, reader.position())),
            Err(error) if error.is_final() => return Ok(ReadEnd::Broken(error, reader.position())),
            Err(error) => return Err(error.into()),
        };
        let before = (chunker.rows(), chunker.counted().invalid);
        let mut full = None;
        for row in rows.rows() {
            if trailer.is_found() {
                if judge.is_of_footer(&row) {
                    continue;
                }
                trailer = TrailerFound::Wrong(format!("row {} follows the trailer row", row.number));
                break 'reading None;
            }
            if let Some(found) = judge.trailer_in(&row) {
                trailer = found;
                continue;
            }
            let judged = match judge.judge(&row)? {
                RowKind::Row(judged) => judged,
                RowKind::Uncountable(reason) => return Ok(ReadEnd::BudgetSpent(reason)),
                RowKind::OtherHeader(difference) => {
                    let at = Position { line: row.line, ..behind };
                    break 'reading Some((SourceError::OtherHeader(difference), at));
                }
            };
            behind = row.end;
            full = batches.count(row.number, judged.row.is_ok());
            if let Some(cut) = chunker.push(judged) {
                last = cut.next;
                if to.send(ReaderMessage::Cut(cut)).await.is_err() {
                    return Ok(ReadEnd::Abandoned);
                }
                if is_over(last) {
                    return Ok(ReadEnd::Complete(last, TrailerFound::NotAsked));
                }
            }
        }
        let (rows_read, invalid) = (chunker.rows(), chunker.counted().invalid);
        metrics::judged(rows_read - before.0, invalid - before.1);
        progress.set_rows_read(rows_read);
        progress.set_rows_invalid(invalid);
        progress.set_bytes_read(reader.bytes_taken());
        // A batch of long rows comes in several parts.
        if let Some(batch) = full
            && to.send(ReaderMessage::Batch(batch)).await.is_err()
        {
            return Ok(ReadEnd::Abandoned);
        }
        // What has an end already was judged before.
        if let Some(reason) = judge.spent(chunker.counted(), rows_read, false).filter(|_| until.is_none()) {
            return Ok(ReadEnd::BudgetSpent(reason));
        }
    };
    let is_behind = trailer.is_found() || matches!(end, Some((SourceError::OtherHeader(_), _)));
    if let Some(cut) = chunker.finish(if is_behind { behind } else { reader.position() }) {
        last = cut.next;
        if to.send(ReaderMessage::Cut(cut)).await.is_err() {
            return Ok(ReadEnd::Abandoned);
        }
    }
    if let Some(batch) = batches.finish(last.rows_before()) {
        // The last batch is only spoken of: its chunks are out.
        let _ = to.send(ReaderMessage::Batch(batch)).await;
    }
    if let Some((error, at)) = end {
        return Ok(ReadEnd::Broken(error, at));
    }
    match judge.spent(last.counted, last.rows_before(), true).filter(|_| until.is_none()) {
        Some(reason) => Ok(ReadEnd::BudgetSpent(reason)),
        None => Ok(ReadEnd::Complete(last, trailer)),
    }
}

/// Counts rows into batches. A batch ends at the same row whoever reads the source, and from whichever checkpoint.
struct BatchCounter {
    size: usize,
    rows: usize,
    transactions: u64,
}

impl BatchCounter {
    fn new(from: Checkpoint, size: usize) -> Self {
        let rows = usize::try_from(from.rows_before() % size as u64).unwrap_or_default();
        Self { size, rows, transactions: 0 }
    }

    /// How many rows the batch still takes; its whole size where it has none.
    fn missing(&self) -> usize {
        self.size - self.rows
    }

    /// Counts a row; gives the batch, if that filled one.
    fn count(&mut self, row: u64, valid: bool) -> Option<ReadBatch> {
        self.rows += 1;
        self.transactions += u64::from(valid);
        if self.rows == self.size { self.finish(row) } else { None }
    }

    /// Ends the batch that has begun, where one has: a trailer row, or none at all, begins none.
    fn finish(&mut self, last_row: u64) -> Option<ReadBatch> {
        if self.rows == 0 {
            return None;
        }
        self.rows = 0;
        let number = (last_row - 1) / self.size as u64;
        Some(ReadBatch { number, last_row, transactions: std::mem::take(&mut self.transactions) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

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
    pub(crate) fn run_of(source: SourceIdentity, settings: RunSettings) -> Run {
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

    /// The batches of a file with such a trailer that is read by fours from its first row on.
    async fn read_by_fours(path: &Path, trailer: &str) -> (Vec<(u64, u64, u64)>, ReadEnd) {
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

    /// The bytes of the chunks of a file, as they travel, and their rows.
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
    async fn a_chunk_is_bounded_by_what_travels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let (mut many, none) = (String::new(), String::new());
        (0..20_000).for_each(|column| write!(many, ",c{column}").unwrap());
        // The names of further columns, a description, how often, and what a row has at the most.
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
        let cases = [
            (0, vec![]),
            (1, vec![(0, 1, 1)]),
            (4, vec![full[0]]),
            (8, full.to_vec()),
            (9, vec![full[0], full[1], rest]),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (rows, expected) in cases {
            let path = folder.path().join(format!("{rows}.csv"));
            let mut text = format!("{}\n", REQUIRED_COLUMNS.join(","));
            for row in 1..=rows {
                writeln!(text, "{row},x,1.50,2026-01-11 10:00:00,payment,debit").unwrap();
            }
            std::fs::write(&path, format!("{text}END,{rows},0\n")).unwrap();
            let (batches, end) = read_by_fours(&path, "END,{rows},{amount}").await;
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
            let (batches, end) = read_by_fours(&path, "END of*").await;
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
            assert!(batches.finish(20).is_none(), "none has begun");
        }
    }
}
