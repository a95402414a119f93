//! Identities in the order of the ids that they stand for: a b-tree takes keys that come in order at its right edge, and
//! random ones everywhere.
//!
//! The layout is UUIDv8 of RFC 9562, and fixed for good, as stored data uses it (`docs/wire-format.md`):
//!
//! ```text
//! 48 bits   the last 14 digits that end the id, as a number, big-endian
//!  4 bits   the version, 8
//! 12 bits   bits 4 to 15 of the hash
//!  2 bits   the variant, 0b10
//! 62 bits   bits 18 to 79 of the hash
//! ```
//!
//! The hash is SHA-256 over the 16 bytes of the namespace and the id in UTF-8. `deploy/from-the-old-job/copy.sql` computes
//! the same.

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::value::card_number::may_be_card_number;

/// Digits of the number: as many as fit into 48 bits whatever they are.
const DIGITS: usize = 14;
/// Bytes of the number.
const NUMBER_BYTES: usize = 6;

/// The identity of an id that ends in a number. None if it does not, or if its digits may be a card number, which an
/// identity must not show.
pub(super) fn ordered(namespace: Uuid, id: &str) -> Option<Uuid> {
    let digits = trailing_digits(id.as_bytes());
    if digits.is_empty() || may_be_card_number(digits) {
        return None;
    }
    let last = &digits[digits.len().saturating_sub(DIGITS)..];
    let number = last.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let hash = Sha256::new().chain_update(namespace).chain_update(id).finalize();
    let mut bytes = [0; 16];
    let (start, rest) = bytes.split_at_mut(NUMBER_BYTES);
    start.copy_from_slice(&number.to_be_bytes()[size_of::<u64>() - NUMBER_BYTES..]);
    rest.copy_from_slice(&hash[..rest.len()]);
    // Version and variant take the place of six bits.
    Some(Builder::from_custom_bytes(bytes).into_uuid())
}

/// The ASCII digits that end a text, all of them.
fn trailing_digits(text: &[u8]) -> &[u8] {
    let count = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    &text[text.len() - count..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{IdScheme, Namespace};

    fn identify(id: &str) -> Uuid {
        Namespace::new("s3://transactions/a.csv").identify(IdScheme::V8, id).0
    }

    /// Digits with their check digit behind them.
    fn card(first: &str) -> String {
        let checked = |check: u8| format!("{first}{check}");
        (0..10).map(checked).find(|digits| may_be_card_number(digits.as_bytes())).unwrap()
    }

    #[test]
    fn identities_are_pinned() {
        let vectors = include_str!("ordered_id_vectors.txt");
        let vectors: Vec<_> = vectors.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        assert!(vectors.len() > 15);
        for (id, expected) in vectors {
            assert_eq!(identify(id).to_string(), expected, "{id}");
        }
    }

    #[test]
    fn only_ids_that_end_in_a_number_are_ordered() {
        let visa = card("411111111111111");
        for (id, version) in [
            ("4711", 8),
            ("TX-2026-000123", 8),
            ("0", 8),
            ("", 5),
            ("4711a", 5),
            ("4711 ", 5),
            // Digits of other scripts are none.
            ("\u{0664}\u{0665}", 5),
            (&visa, 5),
            (&format!("TX{visa}"), 5),
            // With a digit more it is another number, too long for a card.
            (&format!("1234{visa}"), 8),
            // 12 digits, the last one right: too short for a card.
            (&visa[4..], 8),
        ] {
            assert_eq!(identify(id).get_version_num(), version, "{id}");
            assert_eq!(identify(id).get_variant(), uuid::Variant::RFC4122);
        }
    }

    #[test]
    fn ids_that_differ_in_anything_differ() {
        let ids = ["12", "012", "A12", "B12", " 12", "12345678901234012", "2345678901234012", "é12", "e\u{301}12"];
        for (at, id) in ids.iter().enumerate() {
            for other in &ids[..at] {
                assert_ne!(identify(id), identify(other), "{id} {other}");
            }
        }
        assert_ne!(identify("12"), Namespace::new("b").identify(IdScheme::V8, "12").0);
    }

    proptest! {
        #[test]
        fn the_order_of_numbers_is_kept(prefix in ".{0,20}[^0-9]|", numbers in [0_u64..1_000_000_000_000, 0_u64..1_000_000_000_000]) {
            let [first, second] = numbers.map(|number| identify(&format!("{prefix}{number}")));
            prop_assert_eq!(first.cmp(&second), numbers[0].cmp(&numbers[1]));
        }

        #[test]
        fn an_identity_is_a_function_of_the_id(id in ".{0,30}[0-9]{0,25}", other in ".{0,30}[0-9]{0,25}") {
            prop_assert_eq!(identify(&id), identify(&id));
            prop_assert_eq!(identify(&id) == identify(&other), id == other);
        }

        #[test]
        fn no_card_number_shows(prefix in ".{0,10}[^0-9]|", digits in "[0-9]{12,18}") {
            let id = format!("{prefix}{}", card(&digits));
            prop_assert_eq!(identify(&id), Namespace::new("s3://transactions/a.csv").identify(IdScheme::V5, &id).0);
        }
    }
}
