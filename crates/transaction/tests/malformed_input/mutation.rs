//! Changes to a message: bytes flipped, lost or doubled, or a value replaced by an unexpected one.

use proptest::prelude::*;
use proptest::sample::Index;

/// Unexpected JSON values.
pub(crate) const VALUES: &[&str] = &[
    "null",
    "true",
    "-1",
    "-0",
    "0.5",
    "1e400",
    "-1e400",
    "1e-400",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
    "123456789012345678901234567890123456789012345678901234567890",
    "0.1000000000000000055511151231257827021181583404541015625",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"NaN\"",
    "\"1e5\"",
    "\"0000-00-00T00:00:00Z\"",
    "\"+10000-01-01T00:00:00Z\"",
    "\"00000000-0000-0000-0000-000000000000\"",
    "[]",
    "[[[[[[]]]]]]",
    "{}",
    "{\"text\":\"a\",\"base64\":\"YQ==\"}",
    "{\"base64\":\"====\"}",
    "{\"a\":{\"a\":{\"a\":{}}}}",
];

/// Bytes with a meaning in JSON.
const JSON_BYTES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\\ud800",
    b"\\u0000",
    b"-",
    b"e",
    b".",
    b"9999999999999999999999",
    b"\"row\":1,",
    b"\"rows\":18446744073709551615,",
    b"\"run_id\":\"b\",",
    b"\"id\":\"x\",",
    b"null",
    b"\xef\xbb\xbf",
    b" \n\t",
];

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Flip(Index, u8),
    Remove(Index, u8),
    Insert(Index, &'static [u8]),
    Double(Index, u8),
    CutOff(Index),
}

impl Arbitrary for Mutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let at = || any::<Index>();
        prop_oneof![
            3 => (at(), 1..=u8::MAX).prop_map(|(at, bits)| Self::Flip(at, bits)),
            2 => (at(), any::<u8>()).prop_map(|(at, length)| Self::Remove(at, length)),
            3 => (at(), prop::sample::select(JSON_BYTES)).prop_map(|(at, piece)| Self::Insert(at, piece)),
            2 => (at(), any::<u8>()).prop_map(|(at, length)| Self::Double(at, length)),
            1 => at().prop_map(Self::CutOff),
        ]
        .boxed()
    }
}

/// Applies changes to a body, one after the other.
pub(crate) fn mutate(mut body: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if body.is_empty() {
            break;
        }
        let part = |at: &Index, length: u8| {
            let from = at.index(body.len());
            from..body.len().min(from + usize::from(length))
        };
        match mutation {
            Mutation::Flip(at, bits) => {
                let at = at.index(body.len());
                body[at] ^= bits;
            }
            Mutation::Remove(at, length) => drop(body.drain(part(at, *length))),
            Mutation::Insert(at, piece) => {
                let at = at.index(body.len());
                body.splice(at..at, piece.iter().copied());
            }
            Mutation::Double(at, length) => {
                let doubled = body[part(at, *length)].to_vec();
                let at = at.index(body.len());
                body.splice(at..at, doubled);
            }
            Mutation::CutOff(at) => body.truncate(at.index(body.len())),
        }
    }
    body
}

/// Replaces one value of a JSON text, possibly a whole array or object.
pub(crate) fn replace_value(text: &str, at: Index, by: &str) -> String {
    let starts: Vec<usize> = text.match_indices([':', '[', ',']).map(|(at, _)| at + 1).collect();
    let start = starts[at.index(starts.len())];
    // Inside a string no value begins; it stays as it is.
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde::de::IgnoredAny>();
    let length = if matches!(values.next(), Some(Ok(_))) { values.byte_offset() } else { 0 };
    format!("{}{by}{}", &text[..start], &text[start + length..])
}
