//! Transcodes multi-byte encodings to UTF-8 before anything else reads them, so that no part of a character is taken
//! for a delimiter or a quote.
//!
//! Malformed bytes become 0xFF, which UTF-8 never contains, so that only their row is rejected. Byte order marks are
//! dropped. Offsets count the bytes of the UTF-8.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use assay_transaction::Encoding;
use encoding_rs::{Decoder, DecoderResult};
use tokio::io::{AsyncRead, ReadBuf};

use crate::ByteStream;

/// Bytes of the source held.
const INPUT_BYTES: usize = 64 * 1024;
/// Most bytes of a character in UTF-8.
const CHARACTER_BYTES: usize = 4;
/// Replaces malformed bytes.
const MALFORMED: u8 = 0xff;

/// The encoding of a byte order mark, except UTF-8's, which needs no transcoding.
pub(crate) fn bom_encoding(bytes: &[u8]) -> Option<Encoding> {
    match bytes {
        [0xff, 0xfe, ..] => Some(Encoding::UTF_16LE),
        [0xfe, 0xff, ..] => Some(Encoding::UTF_16BE),
        _ => None,
    }
}

/// Transcodes the head of a source. Omits a character cut at its end, unless the source ends there.
pub(crate) fn transcode_head(bytes: &[u8], encoding: Encoding, is_whole: bool) -> Vec<u8> {
    let mut decoder = decoder(encoding);
    let (mut text, mut rest) = (Vec::new(), bytes);
    loop {
        let mut buffer = [0; 4096];
        let (is_done, read, written) = decode(&mut decoder, rest, &mut buffer, is_whole);
        text.extend_from_slice(&buffer[..written]);
        rest = &rest[read..];
        if is_done {
            return text;
        }
    }
}

/// Transcodes a source from its first byte.
pub(crate) fn transcode(stream: ByteStream, encoding: Encoding) -> ByteStream {
    let input = InputBuffer { bytes: vec![0; INPUT_BYTES].into(), start: 0, end: 0, has_ended: false };
    Box::pin(TranscodedStream {
        stream,
        decoder: decoder(encoding),
        input,
        overflow: Overflow::default(),
        is_done: false,
    })
}

fn decoder(encoding: Encoding) -> Decoder {
    encoding.as_encoding_rs().new_decoder_with_bom_removal()
}

/// Decodes until all bytes are read or no other character fits. Returns whether all were read, and how many bytes were
/// read and written.
fn decode(decoder: &mut Decoder, bytes: &[u8], into: &mut [u8], is_last: bool) -> (bool, usize, usize) {
    let (mut read, mut written) = (0, 0);
    loop {
        // Leave room for the replacement byte.
        let room = into.len().saturating_sub(1).max(written);
        let (result, more_read, more_written) =
            decoder.decode_to_utf8_without_replacement(&bytes[read..], &mut into[written..room], is_last);
        read += more_read;
        written += more_written;
        match result {
            DecoderResult::InputEmpty => return (true, read, written),
            DecoderResult::OutputFull => return (false, read, written),
            DecoderResult::Malformed(..) => {
                into[written] = MALFORMED;
                written += 1;
                if written + CHARACTER_BYTES >= into.len() {
                    return (false, read, written);
                }
            }
        }
    }
}

/// Bytes not decoded yet.
struct InputBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    has_ended: bool,
}

/// Decoded bytes for a reader with less room than a character may need.
#[derive(Default)]
struct Overflow {
    bytes: [u8; 2 * CHARACTER_BYTES],
    start: usize,
    end: usize,
}

struct TranscodedStream {
    stream: ByteStream,
    decoder: Decoder,
    input: InputBuffer,
    overflow: Overflow,
    /// Whether the decoder has finished.
    is_done: bool,
}

impl AsyncRead for TranscodedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Self { stream, decoder, input, overflow, is_done } = &mut *self;
        loop {
            if overflow.start < overflow.end {
                let count = buffer.remaining().min(overflow.end - overflow.start);
                buffer.put_slice(&overflow.bytes[overflow.start..overflow.start + count]);
                overflow.start += count;
                return Poll::Ready(Ok(()));
            }
            if *is_done || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if input.start == input.end && !input.has_ended {
                let mut free = ReadBuf::new(&mut input.bytes);
                ready!(stream.as_mut().poll_read(context, &mut free))?;
                (input.start, input.end) = (0, free.filled().len());
                input.has_ended = input.end == 0;
            }
            let is_roomy = buffer.remaining() >= overflow.bytes.len();
            let into = if is_roomy { buffer.initialize_unfilled() } else { &mut overflow.bytes[..] };
            let (is_all, read, written) = decode(decoder, &input.bytes[input.start..input.end], into, input.has_ended);
            input.start += read;
            *is_done = is_all && input.has_ended;
            if is_roomy {
                buffer.advance(written);
                if written > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                (overflow.start, overflow.end) = (0, written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::decode::csv::testing::{ChunkedStream, block_on};

    fn encoding(label: &str) -> Encoding {
        Encoding::of(label).unwrap()
    }

    /// Reads a chunked stream with a buffer of this size.
    fn read(bytes: &[u8], encoding: Encoding, sizes: &[usize], room: usize) -> Vec<u8> {
        let mut stream = transcode(Box::pin(ChunkedStream::new(bytes, sizes)), encoding);
        block_on(async {
            let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                if read == 0 {
                    return all;
                }
                all.extend_from_slice(&buffer[..read]);
            }
        })
    }

    #[test]
    fn text_becomes_utf8() {
        let text = "id;merchant\n1;Żabka 🍕 商店 カード\n";
        for label in ["utf-16le", "utf-16be", "gb18030"] {
            let bytes = encoding(label).encode(text).unwrap();
            assert_eq!(read(&bytes, encoding(label), &[], 100), text.as_bytes(), "{label}");
        }
        let marked = encoding("utf-16le").encode(&format!("\u{feff}{text}")).unwrap();
        assert_eq!(bom_encoding(&marked), Some(Encoding::UTF_16LE));
        assert_eq!(read(&marked, Encoding::UTF_16LE, &[1], 100), text.as_bytes());
        let marked = encoding("utf-16be").encode(&format!("\u{feff}{text}")).unwrap();
        assert_eq!(bom_encoding(&marked), Some(Encoding::UTF_16BE));
        assert_eq!(bom_encoding(text.as_bytes()), None);
        assert_eq!(read(b"", Encoding::UTF_16LE, &[], 10), b"");
    }

    #[test]
    fn a_malformed_character_costs_its_row() {
        for (label, bytes, expected) in [
            ("gbk", &b"1;\xff\n2;\xc9\xcc\n"[..], &b"1;\xff\n2;\xe5\x95\x86\n"[..]),
            // A truncated character keeps the line end.
            ("gbk", b"1;\xc9\n2;b\n", b"1;\xff\n2;b\n"),
            ("shift_jis", b"1;\x83\n2;b", b"1;\xff\n2;b"),
            // A backslash as part of a character.
            ("shift_jis", b"\x83\x5c", "ソ".as_bytes()),
            ("utf-16le", b"a\0\0\xd8b\0", b"a\xffb"),
            ("utf-16le", b"a\0b", b"a\xff"),
        ] {
            assert_eq!(read(bytes, encoding(label), &[], 100), expected, "{label} {bytes:?}");
            assert_eq!(transcode_head(bytes, encoding(label), true), expected, "{label} {bytes:?}");
        }
        assert_eq!(transcode_head(b"a\0b", Encoding::UTF_16LE, false), b"a");
    }

    proptest! {
        #[test]
        fn chunks_and_buffer_sizes_change_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            label in proptest::sample::select(&["utf-16le", "utf-16be", "gbk", "shift_jis", "iso-2022-jp", "big5", "euc-kr"][..]),
            sizes in proptest::collection::vec(0_usize..9, 0..5),
            room in 1_usize..40,
        ) {
            let whole = transcode_head(&bytes, encoding(label), true);
            prop_assert_eq!(&read(&bytes, encoding(label), &sizes, room), &whole);
            prop_assert_eq!(&read(&bytes, encoding(label), &[], 10_000), &whole);
        }
    }
}
