//! A body that encloses the body of another message, as that came: four bytes with the length of the head (big-endian), the head, the
//! enclosed body. The header `enclosed` names the encoding of the latter.
//!
//! What a predictor passes on is so neither unpacked nor packed again. An enclosed body is bounded before it is unpacked.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::compression::{self, ENCODING};
use crate::message::MAX_MESSAGE_BYTES;
use crate::{Message, PackedForms};

/// The header that marks such a body.
pub(super) const HEADER: &str = "enclosed";
/// The encoding of an enclosed body that is not compressed.
pub(super) const IDENTITY: &str = "identity";
/// The content type of such a body, which no other program reads.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";

const LENGTH_BYTES: usize = size_of::<u32>();

/// Joins a head and an enclosed body.
pub(super) fn join(head: &[u8], enclosed: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(LENGTH_BYTES + head.len() + enclosed.len());
    // A longer head is refused with the message, before it is sent.
    body.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    body.put_slice(head);
    body.put_slice(enclosed);
    body.freeze()
}

/// The length of the head, if the body has one.
fn head_bytes(body: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*body.first_chunk::<LENGTH_BYTES>()?) as usize;
    (length <= body.len() - LENGTH_BYTES).then_some(length)
}

/// The bytes of both parts after decompression.
pub(super) fn decompressed_bytes(encoding: &str, body: &[u8]) -> usize {
    let Some(head) = head_bytes(body) else { return body.len() };
    let enclosed = &body[LENGTH_BYTES + head..];
    let unpacked = (encoding == ENCODING).then(|| compression::decompressed_bytes(enclosed, MAX_MESSAGE_BYTES));
    head + unpacked.flatten().unwrap_or(enclosed.len())
}

/// Takes the body of a message apart. One that cannot be taken apart or decompressed stays as it is.
pub(super) fn take_apart(message: Message, encoding: &str) -> Message {
    let Some(head) = head_bytes(&message.body) else { return message };
    let enclosed = message.body.slice(LENGTH_BYTES + head..);
    let (enclosed, packed) = match encoding {
        IDENTITY => (enclosed, None),
        ENCODING => match compression::decompressed(&enclosed, MAX_MESSAGE_BYTES) {
            Some(unpacked) => (unpacked.into(), Some(enclosed)),
            None => return message,
        },
        _ => return message,
    };
    let packed = PackedForms { enclosed: packed, ..PackedForms::default() };
    Message { body: message.body.slice(LENGTH_BYTES..LENGTH_BYTES + head), enclosed: Some(enclosed), packed, ..message }
}
