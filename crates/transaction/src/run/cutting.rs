//! How many bytes of a chunk a row takes, by a rule that is frozen with a run.
//!
//! A chunk is cut at a number of bytes. The source's bytes say little about the message size: JSON writes a control character as
//! six, and repeats the name of each column. So a row counts as the largest JSON it can have. That depends only on the row's own
//! bytes and the frozen settings, whether the row is valid or not, so that every read of the source cuts it alike.

use crate::schema::columns::FieldAccess;
use crate::schema::numbered_versions;
use crate::{Columns, Encoding, RunSettings};

/// A version of the rule that counts a row's bytes. The code of earlier ones stays for the runs that started under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RowByteRule {
    /// Until version 0.1: the bytes of the row in the source.
    #[default]
    Raw,
    /// The bytes its JSON can have.
    Encoded,
}

impl RowByteRule {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

numbered_versions!(RowByteRule, "the source is cut into chunks by the rule of version", 1 = Raw, 2 = Encoded);

/// Counts the bytes that rows of a run take of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct RowBytes {
    rule: RowByteRule,
    /// Attribute names and everything else that each row has.
    fixed: u64,
    beyond_ascii: u64,
}

impl RowBytes {
    /// Field names, two ids, numbers and punctuation.
    const FIXED: u64 = 200;
    /// A control character is written as `\u0001`.
    const CONTROL: u64 = 6;
    /// A quote or backslash is escaped with a backslash.
    const ESCAPED: u64 = 2;

    /// For a run whose columns are resolved.
    pub fn of_run(settings: &RunSettings, columns: &Columns) -> Self {
        // A byte of another encoding is a character of at most three bytes.
        let beyond_ascii = if settings.encoding_of_rows() == Encoding::UTF_8 { 1 } else { 3 };
        Self { rule: settings.cutting, fixed: Self::FIXED + columns.attribute_bytes() as u64, beyond_ascii }
    }

    /// The bytes of a row: by its own bytes, or by its fields if only its first bytes are given.
    pub fn of(&self, raw: &[u8], raw_bytes: usize, fields: &(impl FieldAccess + ?Sized)) -> u64 {
        if self.rule == RowByteRule::Raw {
            return raw_bytes as u64;
        }
        let row = self.encoded(raw);
        if raw.len() >= raw_bytes {
            return self.fixed + row;
        }
        let named = (0..fields.count()).filter_map(|index| fields.get(index)).map(|field| self.encoded(field));
        let extras = fields.extras().map(|(name, value)| self.encoded(name) + self.encoded(value));
        self.fixed + row.max(named.chain(extras).sum())
    }

    fn encoded(&self, text: &[u8]) -> u64 {
        let (mut control, mut escaped, mut beyond) = (0_u64, 0_u64, 0_u64);
        // Counts of one byte, so that many bytes are counted at a time.
        for bytes in text.chunks(u8::MAX.into()) {
            let mut counts = (0_u8, 0_u8, 0_u8);
            for byte in bytes {
                counts.0 += u8::from(*byte < b' ');
                counts.1 += u8::from(*byte == b'"') + u8::from(*byte == b'\\');
                counts.2 += u8::from(!byte.is_ascii());
            }
            control += u64::from(counts.0);
            escaped += u64::from(counts.1);
            beyond += u64::from(counts.2);
        }
        text.len() as u64
            + control * (Self::CONTROL - 1)
            + escaped * (Self::ESCAPED - 1)
            + beyond * (self.beyond_ascii - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Dialect, Entry, RawText, RejectReason, RejectedRow, Rules};

    fn settings(more: &[&str], encoding: Encoding) -> RunSettings {
        let standard = RunSettings::example();
        let header = crate::REQUIRED_COLUMNS.iter().chain(more).map(|name| (*name).to_owned()).collect();
        RunSettings { header, dialect: Dialect { encoding, ..standard.dialect }, ..standard }
    }

    fn row_bytes(settings: &RunSettings) -> (Rules, RowBytes) {
        let rules = Rules::of_run(settings).unwrap();
        let bytes = RowBytes::of_run(settings, rules.columns());
        (rules, bytes)
    }

    fn fields<'a>(description: &'a [u8], note: &'a [u8]) -> Vec<&'a [u8]> {
        vec![b"4711", description, b"1.50", b"2026-01-11 10:00:00", b"payment", b"debit", note]
    }

    #[test]
    fn an_earlier_run_counts_source_bytes() {
        let settings = RunSettings { cutting: RowByteRule::Raw, ..settings(&["note"], Encoding::UTF_8) };
        let (_, bytes) = row_bytes(&settings);
        assert_eq!(bytes.of(b"\x01\x02", 70_000, &fields(b"\x01", b"")[..]), 70_000);
    }

    #[test]
    fn a_truncated_row_counts_by_its_fields() {
        let (_, bytes) = row_bytes(&settings(&["note"], Encoding::UTF_8));
        let long = vec![1; 200_000];
        let counted = bytes.of(&long[..65_536], 200_050, &fields(&long, b"")[..]);
        assert!((1_200_000..1_201_000).contains(&counted), "{counted}");
    }

    #[test]
    fn the_rule_is_frozen_as_a_number() {
        assert_eq!(serde_json::to_string(&[RowByteRule::Raw, RowByteRule::Encoded]).unwrap(), "[1,2]");
        let error = serde_json::from_str::<RowByteRule>("3").unwrap_err().to_string();
        assert!(error.contains("update it"), "{error}");
    }

    proptest! {
        #[test]
        fn no_row_has_more_bytes_than_counted(
            description in vec(any::<u8>(), 1..300),
            note in vec(prop_oneof![0_u8..32, Just(b'"'), Just(b'\\'), any::<u8>()], 0..300),
            is_utf8 in any::<bool>(),
        ) {
            let encoding = if is_utf8 { Encoding::UTF_8 } else { Encoding::WINDOWS_1252 };
            let settings = settings(&["a \"name\"\tto escape"], encoding);
            let (rules, bytes) = row_bytes(&settings);
            let fields = fields(&description, &note);
            let raw = fields.join(&b',');
            let counted = bytes.of(&raw, raw.len(), &fields[..]);
            let encoded = match rules.check(7, &fields[..], raw.len()) {
                Ok(valid) => serde_json::to_string(&Entry::new(7, &valid).unwrap()).unwrap(),
                Err(rejection) => {
                    let raw = RawText::from(raw.clone());
                    let rejected = RejectedRow { row: 7, line: 8, reason: RejectReason::Encoding, message: rejection.message, raw };
                    serde_json::to_string(&rejected).unwrap()
                }
            };
            // Bytes that are not text are written in base64, and the message quotes the start of a value.
            let is_text = std::str::from_utf8(&raw).is_ok();
            let most = if is_text || encoding != Encoding::UTF_8 { counted + 600 } else { counted * 4 / 3 + 600 };
            prop_assert!(encoded.len() as u64 <= most, "{} of {counted}: {encoded}", encoded.len());
        }
    }
}
