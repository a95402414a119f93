//! What a transaction says, and what the ML API says of it: the same from the file, from a request and from the database.

use std::collections::BTreeMap;

use crate::content::four_decimals;

/// The columns of a transaction that every file has, but for its id, as PostgreSQL writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) description: String,
    pub(super) amount: String,
    /// `2026-01-31 10:00:00`, in UTC.
    pub(super) timestamp: String,
    /// Empty where there is none.
    pub(super) merchant: String,
    pub(super) operation_type: String,
    pub(super) side: String,
    /// What further columns say.
    pub(super) attributes: BTreeMap<String, String>,
}

/// What the ML API says of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) prediction: &'static str,
    pub(super) fraud_score: f64,
}

/// As the ML API calls its model.
pub(super) const MODEL: &str = "faults-1";

/// Stands for a content, wherever it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u64);

impl Content {
    /// The amount as `NUMERIC(20,4)` is written.
    pub(super) fn amount(text: &str, decimal_mark: char) -> String {
        four_decimals(text, decimal_mark)
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let Self { description, amount, timestamp, merchant, operation_type, side, attributes } = self;
        let columns = [description, amount, timestamp, merchant, operation_type, side];
        let texts = columns.into_iter().chain(attributes.iter().flat_map(|(name, value)| [name, value]));
        // FNV-1a, with an end after each text.
        let bytes = texts.flat_map(|text| text.bytes().chain([0xFF]));
        Fingerprint(
            bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)),
        )
    }
}

impl Fingerprint {
    /// What the ML API says of this content, always.
    pub(super) fn verdict(self) -> Verdict {
        let thousandths = u16::try_from(self.0 % 1001).expect("at most 1000");
        let prediction = if thousandths > 900 { "fraud" } else { "legitimate" };
        Verdict { prediction, fraud_score: f64::from(thousandths) / 1000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_counts() {
        let content = Content {
            description: "Card".to_owned(),
            amount: Content::amount("-952,4", ','),
            timestamp: "2026-01-31 10:00:00".to_owned(),
            merchant: String::new(),
            operation_type: "refund".to_owned(),
            side: "debit".to_owned(),
            attributes: BTreeMap::from([("country".to_owned(), "FR".to_owned())]),
        };
        assert_eq!(content.amount, "-952.4000");
        let others = [
            Content { description: "Cards".to_owned(), ..content.clone() },
            Content { amount: "952.4000".to_owned(), ..content.clone() },
            Content { merchant: "refund".to_owned(), operation_type: String::new(), ..content.clone() },
            Content { attributes: BTreeMap::new(), ..content.clone() },
        ];
        for other in others {
            assert_ne!(other.fingerprint(), content.fingerprint(), "{other:?}");
        }
    }
}
