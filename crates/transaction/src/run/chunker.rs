//! Cuts the rows of a source into chunks.
//!
//! The cuts depend only on the source's rows and the run's frozen sizes, never on validity or on how the rows arrived.
//! So a resumed or repaired run makes the same chunks again, and a chunk's identity always means the same rows.

use crate::message::ChunkBody;
use crate::{
    Amount, CheckedFields, Checkpoint, CheckpointCounts, ChunkId, EncodedChunk, IdScheme, Position, RejectedRow,
    RowRange, RunId, RunSettings, WireError,
};

/// A finished chunk, and where its run would resume after it.
#[derive(Debug, Clone, PartialEq)]
pub struct CutChunk {
    /// The chunk.
    pub chunk: EncodedChunk,
    /// The position after its last row.
    pub next: Checkpoint,
}

/// Collects rows, encoded, and cuts a chunk whenever one is full.
#[derive(Debug)]
pub struct Chunker {
    run_id: RunId,
    ids: IdScheme,
    max_rows: u64,
    max_bytes: u64,
    next_chunk: u64,
    counted: CheckpointCounts,
    open: OpenChunk,
}

/// A checked row for a [`Chunker`].
#[derive(Debug)]
pub struct CheckedRow<'a> {
    /// A transaction, or a rejected row.
    pub row: Result<CheckedFields<'a>, RejectedRow>,
    /// Its amount, if it could be parsed.
    pub amount: Option<Amount>,
    /// Whether it is rejected, and fits only another reading than the recognised one.
    pub other_reading: bool,
    /// The bytes it takes of a chunk; see [`RowBytes`](crate::RowBytes).
    pub bytes: u64,
    /// The position after it.
    pub end: Position,
}

#[derive(Debug)]
struct OpenChunk {
    first_row: u64,
    rows: u64,
    bytes: u64,
    body: ChunkBody,
}

impl OpenChunk {
    /// An empty one, for a body of about as many bytes.
    fn at(first_row: u64, expected: usize) -> Self {
        Self { first_row, rows: 0, bytes: 0, body: ChunkBody::with_capacity(expected) }
    }
}

/// Bytes by which the body of a chunk may exceed that of the one before without being moved.
const MORE_BYTES: usize = 4 * 1024;

impl Chunker {
    /// Starts at a checkpoint: at [`Checkpoint::START`] for a new run.
    pub fn new(run_id: RunId, settings: &RunSettings, from: Checkpoint) -> Self {
        Self {
            run_id,
            ids: settings.ids,
            max_rows: u64::from(settings.chunk_rows.get()),
            max_bytes: u64::from(settings.chunk_bytes.get()),
            next_chunk: from.chunk,
            counted: from.counted,
            open: OpenChunk::at(from.at.row, 0),
        }
    }

    /// Adds the next row; returns a chunk if that filled one. A chunk is full with `chunk_rows` rows, or at least
    /// `chunk_bytes` bytes.
    pub fn push(&mut self, judged: CheckedRow<'_>) -> Result<Option<CutChunk>, WireError> {
        self.counted.invalid += u64::from(judged.row.is_err());
        self.open.body.push(judged.row);
        if let Some(amount) = judged.amount {
            self.counted.amount.add(amount);
        }
        self.counted.other_reading += u64::from(judged.other_reading);
        self.open.rows += 1;
        self.open.bytes += judged.bytes;
        let full = self.open.rows >= self.max_rows || self.open.bytes >= self.max_bytes;
        if full { self.cut(judged.end) } else { Ok(None) }
    }

    /// Cuts the rest at the end of the source.
    pub fn finish(&mut self, end: Position) -> Result<Option<CutChunk>, WireError> {
        self.cut(end)
    }

    /// Number of rows so far, including those before the first row given.
    pub fn rows(&self) -> u64 {
        self.open.first_row + self.open.rows - 1
    }

    /// The counts so far.
    pub fn counted(&self) -> CheckpointCounts {
        self.counted
    }

    fn cut(&mut self, end: Position) -> Result<Option<CutChunk>, WireError> {
        if self.open.rows == 0 {
            return Ok(None);
        }
        let next_row = self.open.first_row + self.open.rows;
        let expected = self.open.body.bytes() + MORE_BYTES;
        let full = std::mem::replace(&mut self.open, OpenChunk::at(next_row, expected));
        let id = ChunkId { run_id: self.run_id.clone(), chunk: self.next_chunk };
        self.next_chunk += 1;
        let range = RowRange { first_row: full.first_row, rows: full.rows };
        let chunk = full.body.finish(id, range, self.ids)?;
        let at = Position { row: next_row, ..end };
        let next = Checkpoint { chunk: self.next_chunk, at, counted: self.counted };
        Ok(Some(CutChunk { chunk, next }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RawText, RejectReason};
    use proptest::prelude::*;

    fn rejected(row: u64) -> RejectedRow {
        RejectedRow {
            row,
            line: row + 1,
            reason: RejectReason::FieldCount,
            message: String::new(),
            raw: RawText::default(),
        }
    }

    fn cuts(lengths: &[u64], settings: &RunSettings, from: Checkpoint) -> Vec<CutChunk> {
        let mut chunker = Chunker::new("run".parse().unwrap(), settings, from);
        let (mut cuts, mut end) = (Vec::new(), from.at);
        for (row, length) in (from.at.row..).zip(lengths) {
            end = Position { row: row + 1, line: row + 2, offset: end.offset + length };
            let amount = format!("{length}.{row:04}").parse().ok();
            let other_reading = length % 2 == 0;
            let judged = CheckedRow { row: Err(rejected(row)), amount, other_reading, bytes: *length, end };
            cuts.extend(chunker.push(judged).unwrap());
        }
        assert_eq!(chunker.rows(), end.row - 1);
        cuts.extend(chunker.finish(end).unwrap());
        cuts
    }

    #[test]
    fn cuts_by_rows_and_by_bytes() {
        let settings = RunSettings {
            chunk_rows: 3.try_into().unwrap(),
            chunk_bytes: 100.try_into().unwrap(),
            ..RunSettings::example()
        };
        let found = cuts(&[10, 10, 10, 10, 95, 10, 200, 1], &settings, Checkpoint::START);
        let ranges: Vec<_> = found.iter().map(|cut| (cut.chunk.range.first_row, cut.chunk.range.rows)).collect();
        assert_eq!(ranges, [(1, 3), (4, 2), (6, 2), (8, 1)]);
        let counted = CheckpointCounts { invalid: 8, amount: "346.0036".parse().unwrap(), other_reading: 6 };
        assert_eq!(found[3].next, Checkpoint { chunk: 4, at: Position { row: 9, line: 10, offset: 346 }, counted });
    }

    proptest! {
        /// A resumed run relies on this: starting at any checkpoint makes the same chunks.
        #[test]
        fn a_checkpoint_makes_the_same_chunks(lengths in proptest::collection::vec(1_u64..50, 0..200), rows in 1_u32..20, bytes in 1_u32..300) {
            let settings = RunSettings {
                chunk_rows: rows.try_into().unwrap(),
                chunk_bytes: bytes.try_into().unwrap(),
                ..RunSettings::example()
            };
            let whole = cuts(&lengths, &settings, Checkpoint::START);
            prop_assert_eq!(whole.iter().map(|cut| cut.chunk.range.rows).sum::<u64>(), lengths.len() as u64);
            for (index, cut) in whole.iter().enumerate() {
                let resumed = cuts(&lengths[usize::try_from(cut.next.at.row - 1).unwrap()..], &settings, cut.next);
                prop_assert_eq!(&resumed[..], &whole[index + 1..]);
            }
        }
    }
}
