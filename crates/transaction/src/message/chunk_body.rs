//! The body of a chunk, written row by row, byte for byte as [`Chunk::encode`] writes it.

use std::io::Write as _;

use bytes::Bytes;

use super::json_writer::write_entry;
use crate::rules::CheckedFields;
use crate::{Chunk, ChunkId, IdScheme, RejectedRow, RowRange, WireError};

/// A chunk in the bytes that travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// Its identity.
    pub id: ChunkId,
    /// Its range.
    pub range: RowRange,
    /// Whether it has a transaction whose id is a UUID in its source.
    pub has_uuids: bool,
    /// The message's body.
    pub body: Bytes,
}

impl EncodedChunk {
    /// Encodes a chunk.
    pub fn of(chunk: &Chunk) -> Result<Self, WireError> {
        let has_uuids = chunk.transactions.iter().any(|entry| entry.external_id.is_none());
        Ok(Self { id: chunk.id.clone(), range: chunk.range, has_uuids, body: chunk.encode()?.into() })
    }

    /// The chunk; its transactions share the body.
    pub fn decode(&self) -> Result<Chunk, WireError> {
        Chunk::decode_within(&self.body)
    }
}

/// Room for the fields before the transactions, whose numbers are known only at the end: they are written into the end of it.
const HEAD_BYTES: usize = 256;

/// Collects the rows of a chunk.
#[derive(Debug)]
pub(crate) struct ChunkBody {
    body: Vec<u8>,
    transactions: u64,
    has_uuids: bool,
    rejected: Vec<RejectedRow>,
}

impl ChunkBody {
    /// An empty one with room for that many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes.max(HEAD_BYTES));
        body.resize(HEAD_BYTES, b' ');
        Self { body, transactions: 0, has_uuids: false, rejected: Vec::new() }
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn push(&mut self, row: Result<CheckedFields<'_>, RejectedRow>) {
        match row {
            Ok(fields) => {
                if self.transactions > 0 {
                    self.body.push(b',');
                }
                write_entry(&mut self.body, &fields);
                self.transactions += 1;
                self.has_uuids |= fields.external_id.is_none();
            }
            Err(rejected) => self.rejected.push(rejected),
        }
    }

    pub(crate) fn finish(mut self, id: ChunkId, range: RowRange, ids: IdScheme) -> Result<EncodedChunk, WireError> {
        self.body.push(b']');
        if !self.rejected.is_empty() {
            self.body.extend_from_slice(br#","rejected":"#);
            serde_json::to_writer(&mut self.body, &self.rejected)
                .map_err(|source| WireError::new(Chunk::MESSAGE_TYPE, &source))?;
        }
        self.body.push(b'}');
        let head = head(&id, range, ids);
        let start = HEAD_BYTES.checked_sub(head.len()).expect("a run's name has at most 64 bytes");
        self.body[start..HEAD_BYTES].copy_from_slice(&head);
        Ok(EncodedChunk { id, range, has_uuids: self.has_uuids, body: Bytes::from(self.body).slice(start..) })
    }
}

fn head(ChunkId { run_id, chunk }: &ChunkId, RowRange { first_row, rows }: RowRange, ids: IdScheme) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let scheme = if ids.is_default() { String::new() } else { format!(r#""ids":{},"#, u8::from(ids)) };
    // A run's name needs no escape.
    write!(
        head,
        r#"{{"run_id":"{run_id}","chunk":{chunk},"first_row":{first_row},"rows":{rows},{scheme}"transactions":["#
    )
    .expect("a vector takes all of it");
    head
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Entry, RawText, RejectReason, Rules, RunSettings};

    fn rejected(row: u64) -> RejectedRow {
        let (reason, raw) = (RejectReason::SideEmpty, RawText::from(b"\xff,\"".to_vec()));
        RejectedRow { row, line: row + 1, reason, message: "`side` is empty".into(), raw }
    }

    proptest! {
        #[test]
        fn a_body_is_that_of_the_encoded_chunk(
            valid in vec(any::<bool>(), 0..8),
            name in "[A-Za-z0-9_-]{1,64}",
            chunk in any::<u64>(),
            first_row in 1..u64::MAX / 2,
            is_ordered in any::<bool>(),
        ) {
            let rules = Rules::of_run(&RunSettings::example()).unwrap();
            let fields: [&[u8]; 6] = [b"4711", b"Caf\xc3\xa9", b"1.50", b"2026-01-11 10:00:00", b"payment", b"debit"];
            let uuid: [&[u8]; 6] = [b"67e55044-10b1-426f-9247-bb680e5fe0c8", b"x", b"1", b"2026-01-11 10:00:00", b"payment", b"debit"];
            let (mut body, mut transactions, mut rejects) = (ChunkBody::with_capacity(0), Vec::new(), Vec::new());
            for (row, is_valid) in (first_row..).zip(&valid) {
                if *is_valid {
                    let fields = if row % 3 == 0 { &uuid[..] } else { &fields[..] };
                    let checked = rules.check_fields(row, 1, fields, 10).unwrap();
                    transactions.push(Entry::new(row, &checked.clone().into_valid_row()).unwrap());
                    body.push(Ok(checked));
                } else {
                    rejects.push(rejected(row));
                    body.push(Err(rejected(row)));
                }
            }
            let whole = Chunk {
                id: ChunkId { run_id: name.parse().unwrap(), chunk },
                range: RowRange { first_row, rows: valid.len() as u64 },
                ids: if is_ordered { IdScheme::V8 } else { IdScheme::V5 },
                transactions,
                rejected: rejects,
                known: Vec::new(),
            };
            let written = body.finish(whole.id.clone(), whole.range, whole.ids).unwrap();
            prop_assert_eq!(&written, &EncodedChunk::of(&whole).unwrap());
            prop_assert_eq!(written.decode().unwrap(), whole);
        }
    }
}
