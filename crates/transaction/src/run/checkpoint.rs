//! Positions in a source, and the counts up to there.

use serde::{Deserialize, Serialize};

use crate::AmountSum;

/// A position in a source, between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next row, from 1.
    pub row: u64,
    /// The physical line that row starts at, or a blank line before it, from 1.
    pub line: u64,
    /// The byte of the decompressed source that row starts at, from 0.
    pub offset: u64,
}

impl Position {
    /// The first byte.
    pub const START: Self = Self { row: 1, line: 1, offset: 0 };
}

/// The counts of a source up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckpointCounts {
    /// Rows that broke a rule.
    pub invalid: u64,
    /// The sum of all parseable amounts, including those of rejected rows.
    pub amount: AmountSum,
    /// Invalid rows that fit only another reading than the recognised one: the other decimal mark, or another order of
    /// day, month and year.
    #[serde(default)]
    pub other_reading: u64,
}

/// Where a run resumes: the next chunk, its start, and the counts before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next chunk, from 0.
    pub chunk: u64,
    /// Where it starts.
    pub at: Position,
    /// The counts before it.
    pub counted: CheckpointCounts,
}

impl Checkpoint {
    /// The start of the source.
    pub const START: Self = Self::first(Position::START);

    /// At the first row.
    pub const fn first(at: Position) -> Self {
        Self { chunk: 0, at, counted: CheckpointCounts { invalid: 0, amount: AmountSum::ZERO, other_reading: 0 } }
    }

    /// Number of rows before it.
    pub fn rows_before(self) -> u64 {
        self.at.row - 1
    }
}

/// The totals of a source once it is read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTotals {
    /// Data rows, whatever their outcome.
    pub rows_read: u64,
    /// Chunks: their numbers are 0 to this, exclusive.
    pub chunks_total: u64,
    /// The sum of all parseable amounts. Unknown if someone other than its reader sealed the run.
    pub amount: Option<AmountSum>,
}

impl SealedTotals {
    /// The totals up to a checkpoint.
    pub fn at(checkpoint: Checkpoint) -> Self {
        let amount = Some(checkpoint.counted.amount);
        Self { rows_read: checkpoint.rows_before(), chunks_total: checkpoint.chunk, amount }
    }

    /// Whether both end at the same row and chunk.
    pub fn ends_like(self, other: Self) -> bool {
        (self.rows_read, self.chunks_total) == (other.rows_read, other.chunks_total)
    }
}
