//! Bodies on their way through RabbitMQ: compressed by LZ4 (block format, the length in front), marked by the property
//! `content_encoding`.
//!
//! A chunk is the same names a hundred times over: it shrinks to a quarter, and so does what RabbitMQ copies, writes and keeps of a
//! backlog. Decision 0017 has the figures.

use bytes::Bytes;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended, uncompressed_size};

/// What `content_encoding` says of a compressed body.
pub(super) const ENCODING: &str = "lz4";

/// A shorter body is not worth it: live messages above all, which somebody may want to look at.
const MIN_BYTES: usize = 4 * 1024;

/// LZ4 makes nothing shorter than that.
const MAX_RATIO: usize = 255;

/// The body compressed, where that makes it shorter.
pub(super) fn compressed(body: &[u8]) -> Option<Bytes> {
    if body.len() < MIN_BYTES {
        return None;
    }
    let compressed = compress_prepend_size(body);
    (compressed.len() < body.len()).then(|| compressed.into())
}

/// How many bytes the body has as it was, as it says itself; none where it was never compressed, or says that it is longer than that.
pub(super) fn decompressed_bytes(body: &[u8], longest: usize) -> Option<usize> {
    let (length, _) = uncompressed_size(body).ok()?;
    (length <= longest.min(body.len().saturating_mul(MAX_RATIO))).then_some(length)
}

/// The body as it was, under the same conditions.
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
    fn takes_no_memory_for_what_a_length_only_claims() {
        let mut claims = u32::MAX.to_le_bytes().to_vec();
        claims.extend([0; 16]);
        assert_eq!(decompressed(&claims, LONGEST), None);
    }

    proptest! {
        #[test]
        fn every_body_comes_back(word in vec(any::<u8>(), 1..40), times in 1_usize..2_000) {
            let body = word.repeat(times);
            match compressed(&body) {
                Some(compressed) => prop_assert_eq!(decompressed(&compressed, LONGEST), Some(body)),
                None => prop_assert!(body.len() < MIN_BYTES || word.len() * 4 > body.len() || times < 10),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..300)) {
            let _ = decompressed(&body, LONGEST);
        }
    }
}
