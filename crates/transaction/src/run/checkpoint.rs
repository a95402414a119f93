//! Where a run stands in its source, and what was counted up to there.

use serde::{Deserialize, Serialize};

use crate::AmountSum;

/// A place in a source, between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next row, from 1.
    pub row: u64,
    /// The physical line that row starts at, or a blank line before it, from 1.
    pub line: u64,
    /// The byte of the unpacked source that row starts at, from 0.
    pub offset: u64,
}

impl Position {
    /// The first byte.
    pub const START: Self = Self { row: 1, line: 1, offset: 0 };
}

/// What was counted of a source on the way to a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Rows that broke a rule.
    pub invalid: u64,
    /// The sum of all amounts that could be read, those of rejected rows among them.
    pub amount: AmountSum,
    /// Rows among the invalid ones that only another reading than the recognised one fits: the other decimal mark, or another order of
    /// day, month and year.
    #[serde(default)]
    pub other_reading: u64,
}

/// Where a run goes on: the next chunk, where it starts, and what was counted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next chunk, from 0.
    pub chunk: u64,
    /// Where it starts.
    pub at: Position,
    /// What was counted before it.
    pub counted: Counted,
}

impl Checkpoint {
    /// Before everything.
    pub const START: Self = Self::first(Position::START);

    /// Before the first row, which is there.
    pub const fn first(at: Position) -> Self {
        Self { chunk: 0, at, counted: Counted { invalid: 0, amount: AmountSum::ZERO, other_reading: 0 } }
    }

    /// How many rows lie before it.
    pub fn rows_before(self) -> u64 {
        self.at.row - 1
    }
}

/// What the reader counted when it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Data rows, whatever became of them.
    pub rows_read: u64,
    /// Chunks: the identities are 0 to this, exclusive.
    pub chunks_total: u64,
    /// The sum of all amounts that could be read. Not known where somebody else sealed the run than its reader.
    pub amount: Option<AmountSum>,
}

impl Sealed {
    /// What is read up to a checkpoint.
    pub fn at(checkpoint: Checkpoint) -> Self {
        let amount = Some(checkpoint.counted.amount);
        Self { rows_read: checkpoint.rows_before(), chunks_total: checkpoint.chunk, amount }
    }

    /// Whether both end at the same row and chunk.
    pub fn ends_as(self, other: Self) -> bool {
        (self.rows_read, self.chunks_total) == (other.rows_read, other.chunks_total)
    }
}
