//! Compression of bodies by LZ4 (block format, prefixed by the length), marked by the property `content_encoding`.
//!
//! A chunk repeats its names a hundred times: it shrinks to a quarter, and with it what RabbitMQ copies, writes and keeps of a
//! backlog. Decision 0017 has the figures.

use bytes::Bytes;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended, uncompressed_size};

/// The `content_encoding` of a compressed body.
pub(super) const ENCODING: &str = "lz4";

/// Shorter bodies are not compressed: above all live messages, which people may want to read.
const MIN_BYTES: usize = 4 * 1024;

/// The best ratio of LZ4.
const MAX_RATIO: usize = 255;

/// The body compressed, if that makes it shorter.
pub(super) fn compressed(body: &[u8]) -> Option<Bytes> {
    if body.len() < MIN_BYTES {
        return None;
    }
    let compressed = compress_prepend_size(body);
    // A copy, as the other has room for a body that does not shrink, and hundreds may wait for their confirms.
    (compressed.len() < body.len()).then(|| Bytes::copy_from_slice(&compressed))
}

/// The decompressed size that a body claims; `None` if it is not compressed, or claims more than `longest`.
pub(super) fn decompressed_bytes(body: &[u8], longest: usize) -> Option<usize> {
    let (length, _) = uncompressed_size(body).ok()?;
    (length <= longest.min(body.len().saturating_mul(MAX_RATIO))).then_some(length)
}

/// The decompressed body, under the same conditions.
pub(super) fn decompressed(body: &[u8], longest: usize) -> Option<Vec<u8>> {
    decompressed_bytes(body, longest)?;
    decompress_size_prepended(body).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::message::MAX_MESSAGE_BYTES as LONGEST;

    #[test]
    fn a_false_length_takes_no_memory() {
        let mut claims = u32::MAX.to_le_bytes().to_vec();
        claims.extend([0; 16]);
        assert_eq!(decompressed(&claims, LONGEST), None);
    }

    proptest! {
        #[test]
        fn every_body_survives(word in vec(any::<u8>(), 1..40), times in 1_usize..2_000) {
            let body = word.repeat(times);
            match compressed(&body) {
                Some(compressed) => prop_assert_eq!(decompressed(&compressed, LONGEST), Some(body)),
                None => prop_assert!(body.len() < MIN_BYTES || word.len() * 4 > body.len() || times < 10),
            }
        }

        #[test]
        fn no_input_panics(body in vec(any::<u8>(), 0..300)) {
            let _ = decompressed(&body, LONGEST);
        }
    }
}
