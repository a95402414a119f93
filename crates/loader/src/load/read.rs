//! The reader: judges the rows of a source (`judge`) and cuts them into chunks, `ROW_BATCH_SIZE` rows at a time.

use assay_source::{RowReader, SourceError};
use assay_transaction::{Checkpoint, Chunker, CutChunk, Mapping, Position, Run};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::load::judge::{Judge, LastRow, RowStats};
use crate::totals::TrailerFound;
use crate::{LoadError, LoadProgress, metrics};

/// Rows that are read together while they are only counted.
const COUNTED_TOGETHER: usize = 5_000;

/// Messages of the reader to the publisher, in the order of the source.
#[derive(Debug)]
pub(crate) enum ReaderMessage {
    /// A chunk is full.
    Cut(CutChunk),
    /// A batch is read. Its last chunk may still be open.
    Batch(ReadBatch),
}

/// A batch of rows: the unit of reading, validating and checkpointing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadBatch {
    /// Index in the source, from 0.
    pub(crate) number: u64,
    pub(crate) last_row: u64,
    pub(crate) transactions: u64,
}

pub(crate) type ReaderTask = AbortOnDropHandle<Result<(ReadEnd, RowStats), LoadError>>;

/// How the reader ended. Only a complete reading may be sealed with its counts.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// At the end of the source, or of the scope; with the trailer row.
    Complete(Checkpoint, TrailerFound),
    /// The source is damaged, gone or replaced. Every row before the position is in a chunk.
    Broken(SourceError, Position),
    /// The receiver was dropped.
    Abandoned,
    /// Too many rows are invalid, fit only another reading, or cannot be counted; with the reason.
    BudgetSpent(String),
}

/// Reads and counts a run's source from a checkpoint to its end, or to the chunk `until` (exclusive).
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

#[expect(clippy::too_many_arguments, reason = "the arguments of `read`, and two values derived from them")]
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
    progress.set_bytes_before(reader.bytes_read());
    progress.set_rows_before(from.rows_before());
    let mut chunker = Chunker::new(run.run_id.clone(), &run.settings, from);
    let mut batches = BatchCounter::new(from, batch_rows);
    let mut last = from;
    let is_over = |at: Checkpoint| until.is_some_and(|until| at.chunk >= until);
    if is_over(last) {
        return Ok(ReadEnd::Complete(last, TrailerFound::NotAsked));
    }
    let mut trailer = if run.settings.trailer.is_some() { TrailerFound::Missing } else { TrailerFound::NotAsked };
    // The position after the last data row: a resumed reader must find the trailer again.
    let mut data_end = from.at;
    let end = 'reading: loop {
        let rows = match reader.next_batch(batches.missing()).await {
            Ok(Some(rows)) => rows,
            Ok(None) => break None,
            // The open chunk ends here, so that its rows are kept.
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
            let judged = match judge.judge(&row) {
                Ok(judged) => judged,
                Err(LastRow::Uncountable(reason)) => return Ok(ReadEnd::BudgetSpent(reason)),
                Err(LastRow::OtherHeader(difference)) => {
                    let at = Position { line: row.line, ..data_end };
                    break 'reading Some((SourceError::OtherHeader(difference), at));
                }
            };
            data_end = row.end;
            full = batches.count(row.number, judged.row.is_ok());
            if let Some(cut) = chunker.push(judged)? {
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
        progress.set_bytes_read(reader.bytes_read());
        // A batch of long rows comes in several parts: only the last one fills it.
        if let Some(batch) = full
            && to.send(ReaderMessage::Batch(batch)).await.is_err()
        {
            return Ok(ReadEnd::Abandoned);
        }
        // A scope with an end was within its budget before.
        if let Some(reason) = judge.spent(chunker.counted(), rows_read, false).filter(|_| until.is_none()) {
            return Ok(ReadEnd::BudgetSpent(reason));
        }
    };
    let ends_at_data = trailer.is_found() || matches!(end, Some((SourceError::OtherHeader(_), _)));
    if let Some(cut) = chunker.finish(if ends_at_data { data_end } else { reader.position() })? {
        last = cut.next;
        if to.send(ReaderMessage::Cut(cut)).await.is_err() {
            return Ok(ReadEnd::Abandoned);
        }
    }
    if let Some(batch) = batches.finish(last.rows_before()) {
        // Only for the log: its chunks are sent.
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

/// Counts rows into batches. A batch ends at the same row from whichever checkpoint the source is read.
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

    /// Rows until the batch is full.
    fn missing(&self) -> usize {
        self.size - self.rows
    }

    /// Counts a row. Returns the batch that it fills.
    fn count(&mut self, row: u64, valid: bool) -> Option<ReadBatch> {
        self.rows += 1;
        self.transactions += u64::from(valid);
        if self.rows == self.size { self.finish(row) } else { None }
    }

    /// Ends the open batch, if it has rows.
    fn finish(&mut self, last_row: u64) -> Option<ReadBatch> {
        if self.rows == 0 {
            return None;
        }
        self.rows = 0;
        let number = (last_row - 1) / self.size as u64;
        Some(ReadBatch { number, last_row, transactions: std::mem::take(&mut self.transactions) })
    }
}

/// Whether ids of the run count equal rows, so that a resumed load must read its source from the first row.
pub(crate) fn counts_equal_rows(run: &Run) -> bool {
    run.settings.mapping.as_deref().is_some_and(Mapping::counts_rows)
}

/// Counts the rows before a row. Returns the end if the reading ends there, or the receiver is gone.
pub(crate) async fn count_rows_before(
    reader: &mut RowReader,
    judge: &mut Judge<'_>,
    before: u64,
    is_abandoned: impl Fn() -> bool,
) -> Result<Option<ReadEnd>, LoadError> {
    loop {
        let left = before.saturating_sub(reader.position().row);
        if left == 0 {
            return Ok(None);
        }
        if is_abandoned() {
            return Ok(Some(ReadEnd::Abandoned));
        }
        let rows =
            match reader.next_batch(COUNTED_TOGETHER.min(usize::try_from(left).unwrap_or(COUNTED_TOGETHER))).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return Ok(None),
                Err(error) if error.is_final() => return Ok(Some(ReadEnd::Broken(error, reader.position()))),
                Err(error) => return Err(error.into()),
            };
        for row in rows.rows() {
            if let Err(error) = judge.count(&row) {
                return Ok(Some(ReadEnd::BudgetSpent(error.to_string())));
            }
        }
    }
}

#[cfg(test)]
mod tests;
