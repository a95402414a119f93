//! Shared by the tests of both versions: chunked streams, owned rows, and generated sources.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use assay_transaction::{Delimiter, Fields as _, Position, RejectReason};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use crate::Row;
use crate::decode::buffer::READ_BYTES;

/// Returns its bytes in chunks of these sizes, pending at a size of 0.
pub(crate) struct ChunkedStream {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl ChunkedStream {
    pub(crate) fn new(bytes: &[u8], sizes: &[usize]) -> Self {
        // Only zeros would never end.
        let sizes = if sizes.iter().all(|size| *size == 0) { vec![] } else { sizes.to_vec() };
        Self { bytes: bytes.to_vec(), at: 0, sizes, turn: 0 }
    }

    /// The largest chunk.
    pub(crate) fn most(&self) -> usize {
        self.sizes.iter().max().copied().unwrap_or(READ_BYTES)
    }
}

impl AsyncRead for ChunkedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.sizes.get(self.turn % self.sizes.len().max(1)).copied().unwrap_or(usize::MAX);
        self.turn += 1;
        if size == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let end = self.bytes.len().min(self.at.saturating_add(size.min(buffer.remaining())));
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// An owned row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OwnedRow {
    pub(super) number: u64,
    pub(super) line: u64,
    pub(super) raw: Vec<u8>,
    pub(super) raw_bytes: usize,
    pub(super) malformed: Option<RejectReason>,
    pub(super) fields: Vec<Vec<u8>>,
    pub(super) end: Position,
}

impl OwnedRow {
    pub(super) fn of(row: &Row<'_>) -> Self {
        Self {
            number: row.number,
            line: row.line,
            raw: row.raw.to_vec(),
            raw_bytes: row.raw_bytes,
            malformed: row.malformed.clone(),
            fields: (0..row.fields.count()).map(|index| row.fields.get(index).unwrap().to_vec()).collect(),
            end: row.end,
        }
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A field with characters that matter to CSV, and others.
pub(super) fn any_field() -> impl Strategy<Value = String> {
    "[a-c0-9é€ ,;|\t\"\r\n]{0,12}"
}

/// Writes rows in a dialect; returns the text and the expected rows.
pub(super) fn write(
    rows: &[Vec<String>],
    delimiter: Delimiter,
    line_end: &str,
    quote_all: bool,
    blanks: &[bool],
) -> (String, Vec<OwnedRow>) {
    let mut text = String::new();
    let mut expected = Vec::new();
    let separator = char::from(delimiter.byte());
    let lines = |text: &str| 1 + text.replace("\r\n", "\n").matches(['\r', '\n']).count() as u64;
    for (index, row) in rows.iter().enumerate() {
        if !blanks.is_empty() && blanks[index % blanks.len()] {
            text += line_end;
        }
        let (line, start) = (lines(&text), text.len());
        let fields: Vec<String> = row
            .iter()
            .map(|field| {
                let plain = !quote_all && row.len() > 1 && !field.contains(['"', '\r', '\n', separator]);
                if plain { field.clone() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
            })
            .collect();
        text += &fields.join(&separator.to_string());
        let raw = text.as_bytes()[start..].to_vec();
        text += line_end;
        expected.push(OwnedRow {
            number: index as u64 + 1,
            line,
            raw_bytes: raw.len(),
            raw,
            malformed: None,
            fields: row.iter().map(|field| field.clone().into_bytes()).collect(),
            end: Position { row: index as u64 + 2, line: lines(&text), offset: text.len() as u64 },
        });
    }
    (text, expected)
}

/// Texts that matter to CSV.
const PIECES: &[&[u8]] = &[
    b"a",
    b"\"",
    b"\"\"",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"|",
    b"\0",
    b"\\",
    b"#",
    b"\x1a",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe9",
    b"\xf0\x9f\x92\xb8",
    b"\"a\nb\"",
    b"id;amount\n",
    b"=1+1",
    b"'",
];

/// These, and any bytes.
pub(super) fn any_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => (prop::sample::select(&b"a\";\n\r"[..]), 1..50_usize).prop_map(|(byte, times)| vec![byte; times]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}
