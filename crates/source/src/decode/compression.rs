//! Compression: detected from the first bytes, never from a name; and decompression.
//!
//! A truncated or damaged stream yields all bytes that can be decompressed, then [`SourceError::Damaged`]. Consecutive
//! gzip members or Zstandard frames are one source, as concatenated files are. [`crate::decode::zip`] finds the one
//! file of a zip archive.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use assay_transaction::Compression;
use async_compression::tokio::bufread::{DeflateDecoder, GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use crate::decode::zip::{ChecksumVerifier, ZipMember};
use crate::{ByteStream, SourceError};

/// First bytes of gzip, zstd and zip.
const MAGIC: [(&[u8], Compression); 3] =
    [(b"\x1f\x8b", Compression::Gzip), (b"\x28\xb5\x2f\xfd", Compression::Zstd), (b"PK\x03\x04", Compression::Zip)];
/// Length of the longest of them.
const MAGIC_BYTES: u64 = 4;
/// Size of the buffer of compressed data.
const PACKED_BUFFER: usize = 64 * 1024;
/// The largest window of a Zstandard frame: 32 MiB. `zstd` writes such windows from level 20 on, and only on request.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Detects the compression; returns the stream from its first byte.
pub(crate) async fn detect(mut stream: ByteStream) -> Result<(Compression, ByteStream), SourceError> {
    let mut first = Vec::new();
    (&mut stream).take(MAGIC_BYTES).read_to_end(&mut first).await?;
    let packed = MAGIC.iter().find(|(magic, _)| first.starts_with(magic));
    let compression = packed.map_or(Compression::None, |(_, compression)| *compression);
    Ok((compression, Box::pin(Cursor::new(first).chain(stream))))
}

/// How to decompress a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
    /// The one file of an archive.
    Zip(ZipMember),
}

impl Packing {
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip => Compression::Gzip,
            Self::Zstd => Compression::Zstd,
            Self::Zip(_) => Compression::Zip,
        }
    }

    /// Offset at which the compressed stream begins.
    pub(crate) fn start(&self) -> u64 {
        if let Self::Zip(member) = self { member.start } else { 0 }
    }
}

/// Decompresses a stream.
pub(crate) fn unpack(stream: ByteStream, packing: Packing) -> ByteStream {
    let compression = packing.compression();
    let packed = BufReader::with_capacity(PACKED_BUFFER, stream);
    let stream: ByteStream = match packing {
        Packing::None => return packed.into_inner(),
        Packing::Zip(member) => {
            let packed = packed.take(member.packed);
            let unpacked: ByteStream =
                if member.is_deflated { Box::pin(DeflateDecoder::new(packed)) } else { Box::pin(packed) };
            Box::pin(ChecksumVerifier::new(unpacked, member))
        }
        Packing::Gzip => Box::pin(GzipMembers::Reading(Box::new(GzipDecoder::new(packed)))),
        Packing::Zstd => {
            let mut decoder = ZstdDecoder::with_params(packed, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
    };
    Box::pin(Decompressed { stream, compression })
}

/// Consecutive gzip members. Zeros after a member are padding: hosts and tapes fill their last record.
enum GzipMembers {
    Reading(Box<GzipDecoder<BufReader<ByteStream>>>),
    BetweenMembers(BufReader<ByteStream>),
    Ended,
}

impl AsyncRead for GzipMembers {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match std::mem::replace(&mut *self, Self::Ended) {
                Self::Reading(mut decoder) => {
                    let before = buffer.filled().len();
                    let read = Pin::new(&mut *decoder).poll_read(context, buffer);
                    let has_ended = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
                    if !has_ended || buffer.remaining() == 0 {
                        *self = Self::Reading(decoder);
                        return read;
                    }
                    *self = Self::BetweenMembers(decoder.into_inner());
                }
                Self::BetweenMembers(mut stream) => {
                    let zeros = |held: &[u8]| held.iter().take_while(|byte| **byte == 0).count();
                    let looked = Pin::new(&mut stream).poll_fill_buf(context).map_ok(|held| (zeros(held), held.len()));
                    let Poll::Ready(Ok((zeros, held))) = looked else {
                        *self = Self::BetweenMembers(stream);
                        return looked.map_ok(drop);
                    };
                    Pin::new(&mut stream).consume(zeros);
                    *self = match held {
                        0 => return Poll::Ready(Ok(())),
                        held if held == zeros => Self::BetweenMembers(stream),
                        _ => Self::Reading(Box::new(GzipDecoder::new(stream))),
                    };
                }
                Self::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Skips the first bytes of a stream.
pub(crate) fn skip_bytes(stream: ByteStream, bytes: u64) -> ByteStream {
    Box::pin(SkipBytes { stream, skip: bytes })
}

/// A decompressed stream.
struct Decompressed {
    stream: ByteStream,
    compression: Compression,
}

impl Decompressed {
    /// Turns a decoder's error into `Damaged`; an error of the stream below stays.
    fn error(&self, error: io::Error) -> io::Error {
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<SourceError>) {
            return error;
        }
        let cause = match error.kind() {
            io::ErrorKind::UnexpectedEof => "they end too early".to_owned(),
            _ => error.to_string(),
        };
        io::Error::other(SourceError::Damaged { what: self.compression.name(), cause })
    }
}

impl AsyncRead for Decompressed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.stream.as_mut().poll_read(context, buffer));
        Poll::Ready(read.map_err(|error| self.error(error)))
    }
}

/// A stream that cannot seek, from a later byte.
struct SkipBytes {
    stream: ByteStream,
    /// Bytes still to skip.
    skip: u64,
}

impl AsyncRead for SkipBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let before = buffer.filled().len();
            ready!(self.stream.as_mut().poll_read(context, buffer))?;
            let read = buffer.filled().len() - before;
            let skipped = usize::try_from(self.skip).map_or(read, |skip| skip.min(read));
            self.skip -= skipped as u64;
            if skipped == 0 {
                return Poll::Ready(Ok(()));
            }
            buffer.filled_mut().copy_within(before + skipped.., before);
            buffer.set_filled(before + read - skipped);
            if skipped < read {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Counts the bytes read through it.
pub(crate) struct CountingStream {
    stream: ByteStream,
    passed: Arc<AtomicU64>,
}

impl CountingStream {
    pub(crate) fn new(stream: ByteStream, passed: &Arc<AtomicU64>) -> Self {
        Self { stream, passed: Arc::clone(passed) }
    }
}

impl AsyncRead for CountingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream.as_mut().poll_read(context, buffer))?;
        self.passed.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use tokio::io::AsyncWriteExt as _;

    async fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(text).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    async fn zstd(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(text).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    /// The decompressed bytes, and the error at their end.
    async fn unpacked(bytes: &[u8], skip: u64) -> (Compression, Vec<u8>, Option<SourceError>) {
        let (compression, stream) = detect(Box::pin(Cursor::new(bytes.to_vec()))).await.unwrap();
        let packing = match compression {
            Compression::Gzip => Packing::Gzip,
            Compression::Zstd => Packing::Zstd,
            _ => Packing::None,
        };
        let mut stream = skip_bytes(unpack(stream, packing), skip);
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).await.err().map(SourceError::from);
        (compression, all, error)
    }

    fn text() -> Vec<u8> {
        (0..200_000_u32).flat_map(|line| format!("row {line}\n").into_bytes()).collect()
    }

    #[tokio::test]
    async fn unpacks_by_content_and_from_any_byte() {
        let text = text();
        let (first, second) = text.split_at(text.len() / 3);
        let cases = [
            (Compression::None, text.clone()),
            (Compression::Gzip, gzip(&text).await),
            (Compression::Gzip, [gzip(first).await, gzip(b"").await, gzip(second).await].concat()),
            (Compression::Gzip, [gzip(&text).await, vec![0; 3]].concat()),
            (Compression::Gzip, [gzip(first).await, vec![0; 200_000], gzip(second).await, vec![0; 512]].concat()),
            (Compression::Zstd, zstd(&text).await),
            (Compression::Zstd, [zstd(first).await, zstd(second).await].concat()),
        ];
        for (compression, packed) in cases {
            for skip in [0, 1, 99_999, text.len()] {
                // Uncompressed streams start at the byte itself.
                let from = if compression.is_none() { skip } else { 0 };
                let skipped = skip - from;
                let (found, all, error) = unpacked(&packed[from..], skipped as u64).await;
                assert!(found == compression && all == text[skip..], "{compression} from {skip}: {error:?}");
                assert!(error.is_none(), "{error:?}");
            }
        }
        assert!(unpacked(b"", 0).await.1.is_empty());
    }

    #[tokio::test]
    async fn a_truncated_stream_yields_its_bytes_and_an_error() {
        let text = text();
        for packed in [gzip(&text).await, zstd(&text).await] {
            for end in [packed.len() - 1, packed.len() / 2, 12] {
                let (compression, all, error) = unpacked(&packed[..end], 0).await;
                assert!(text.starts_with(&all) && (all.len() > text.len() / 3 || end < 100), "{} bytes", all.len());
                let error = error.expect("an error").to_string();
                assert_eq!(error, format!("its {compression} data are damaged: they end too early"));
            }
        }
    }

    #[tokio::test]
    async fn a_damaged_stream_is_an_error() {
        let text = text();
        let mut broken = gzip(&text).await;
        let middle = broken.len() / 2;
        broken[middle..middle + 64].fill(0xff);
        assert!(matches!(unpacked(&broken, 0).await.2, Some(SourceError::Damaged { .. })));
        // Frames may lack a checksum, but not a valid header.
        let mut no_frame = zstd(&text).await;
        no_frame[4..12].fill(0xff);
        assert!(matches!(unpacked(&no_frame, 0).await.2, Some(SourceError::Damaged { .. })));
        let behind = [gzip(b"x").await, b"\0\0no member".to_vec()].concat();
        assert!(matches!(unpacked(&behind, 0).await, (_, all, Some(SourceError::Damaged { .. })) if all == b"x"));
        let mut wrong_sum = gzip(&text).await;
        let end = wrong_sum.len();
        wrong_sum[end - 8] ^= 1;
        assert!(matches!(unpacked(&wrong_sum, 0).await.2, Some(SourceError::Damaged { .. })));
    }
}
