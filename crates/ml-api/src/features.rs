//! The model's features: numbers computed from the seven columns.
//!
//! Training and serving both use [`FeatureEncoder::encode`], so that a feature means the same to both. [`Tables`], part of the model
//! file, holds what is learned before any tree is grown: how often words, merchants and operations come with fraud, and the
//! usual amount at a merchant.

use std::collections::{BTreeMap, HashMap};

use chrono::{Datelike as _, Timelike as _};
use serde::{Deserialize, Serialize};

use crate::TransactionFields;

/// Number of features.
const COUNT: usize = 16;

/// One transaction's features, in the order of [`FEATURES`]. All are finite.
pub type Features = [f32; COUNT];

/// The names of the features. A model file that was trained on others is rejected.
pub const FEATURES: [&str; COUNT] = [
    "amount_log",
    "amount_negative",
    "amount_cents",
    "amount_beyond_ten",
    "amount_below_hundred",
    "amount_over_usual",
    "hour",
    "weekday",
    "side",
    "operation",
    "operation_odds",
    "merchant_missing",
    "merchant_odds",
    "merchant_operation_odds",
    "word_odds_highest",
    "word_odds_sum",
];

/// Fraud odds of names and words: logarithms, relative to the odds of all transactions; 0 says nothing. Keys are lower-case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// Average of `ln(1 + amount)`, for unknown merchants.
    pub usual_amount: f32,
    /// Odds by type of operation.
    pub operations: BTreeMap<String, f32>,
    /// Odds by word of the description.
    pub words: BTreeMap<String, f32>,
    /// By merchant; the empty name stands for transactions without one.
    pub merchants: BTreeMap<String, MerchantStats>,
}

/// What was learned about a merchant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantStats {
    /// Odds of fraud there.
    pub odds: f32,
    /// Average of `ln(1 + amount)` there.
    pub usual_amount: f32,
    /// Odds by type of operation there.
    pub operations: BTreeMap<String, f32>,
}

/// Computes features from [`Tables`], indexed for look-ups.
#[derive(Debug)]
pub struct FeatureEncoder {
    usual_amount: f32,
    operations: HashMap<u64, f32>,
    words: HashMap<u64, f32>,
    /// Odds and usual amount.
    merchants: HashMap<u64, (f32, f32)>,
    /// Odds of the operation at the merchant.
    pairs: HashMap<u64, f32>,
}

impl FeatureEncoder {
    /// Indexes the tables.
    pub fn new(tables: &Tables) -> Self {
        let by_key = |odds: &BTreeMap<String, f32>| odds.iter().map(|(name, odds)| (key(name), *odds)).collect();
        Self {
            usual_amount: tables.usual_amount,
            operations: by_key(&tables.operations),
            words: by_key(&tables.words),
            merchants: tables
                .merchants
                .iter()
                .map(|(name, merchant)| (key(name), (merchant.odds, merchant.usual_amount)))
                .collect(),
            pairs: tables
                .merchants
                .iter()
                .flat_map(|(name, merchant)| {
                    merchant.operations.iter().map(|(operation, odds)| (pair(key(name), key(operation)), *odds))
                })
                .collect(),
        }
    }

    /// The features of one transaction.
    pub fn encode(&self, transaction: &TransactionFields<'_>) -> Features {
        let amount = AmountFeatures::of(transaction.amount);
        let at = transaction.timestamp.as_datetime();
        let operation = key(&transaction.operation_type);
        let name = transaction.merchant.as_deref().unwrap_or_default().trim();
        let merchant = key(name);
        let known = self.merchants.get(&merchant);
        let (merchant_odds, usual_amount) = known.copied().unwrap_or((0.0, self.usual_amount));
        let (highest, sum) = self.word_odds(&transaction.description);
        [
            amount.log,
            f32::from(u8::from(transaction.amount < 0.0)),
            amount.cents,
            amount.beyond_ten,
            amount.below_hundred,
            amount.log - usual_amount,
            small(at.hour()) + small(at.minute()) / 60.0,
            small(at.weekday().num_days_from_monday()),
            side(&transaction.side),
            kind(&transaction.operation_type),
            self.operations.get(&operation).copied().unwrap_or_default(),
            f32::from(u8::from(name.is_empty())),
            merchant_odds,
            self.pairs.get(&pair(merchant, operation)).copied().unwrap_or_default(),
            highest,
            sum,
        ]
    }

    /// The highest odds of a word, and the sum of all.
    fn word_odds(&self, description: &str) -> (f32, f32) {
        let odds = words(description).filter_map(|word| self.words.get(&key(word)));
        let (highest, sum) = odds.fold((None, 0.0), |(highest, sum): (Option<f32>, f32), odds| {
            (Some(highest.map_or(*odds, |highest| highest.max(*odds))), sum + odds)
        });
        (highest.unwrap_or_default(), sum)
    }
}

/// Features of an amount, whatever its sign.
struct AmountFeatures {
    log: f32,
    /// 0 to 99.
    cents: f32,
    /// Above the last multiple of ten; 0 for round amounts.
    beyond_ten: f32,
    /// Missing to the next hundred; above 0, at most 100.
    below_hundred: f32,
}

impl AmountFeatures {
    #[expect(clippy::cast_possible_truncation, reason = "features are single floats; a few digits are enough")]
    fn of(amount: f64) -> Self {
        let size = amount.abs();
        // In whole cents, as 0.1 is not a binary fraction.
        let cents = (size * 100.0).round();
        // Beyond 2^53 cents, or if the product overflows, the cents are noise; 0 is as good.
        let cents = if cents < 9.0e15 { cents } else { 0.0 };
        Self {
            log: size.ln_1p() as f32,
            cents: (cents % 100.0) as f32,
            beyond_ten: (cents % 1_000.0 / 100.0) as f32,
            below_hundred: (100.0 - cents % 10_000.0 / 100.0) as f32,
        }
    }
}

/// The words of a description, separated by ASCII spaces and punctuation; numbers are not words.
pub fn words(description: &str) -> impl Iterator<Item = &str> {
    description
        .split(|character: char| character.is_ascii() && !character.is_ascii_alphanumeric())
        .filter(|word| word.bytes().any(|byte| !byte.is_ascii_digit()))
}

fn side(text: &str) -> f32 {
    if text.eq_ignore_ascii_case("debit") {
        1.0
    } else if text.eq_ignore_ascii_case("credit") {
        0.0
    } else {
        0.5
    }
}

/// A number for each known type of operation; all others share one.
fn kind(operation_type: &str) -> f32 {
    const KNOWN: [&str; 7] = ["fee", "card_payment", "direct_debit", "payment", "withdrawal", "transfer", "refund"];
    KNOWN
        .iter()
        .zip(1_u8..)
        .find(|(known, _)| operation_type.eq_ignore_ascii_case(known))
        .map_or(0.0, |(_, number)| f32::from(number))
}

/// A number from a clock or a calendar.
fn small(number: u32) -> f32 {
    u16::try_from(number).map_or(0.0, f32::from)
}

/// FNV-1a of the text in lower case: a key without a copy of the text.
fn key(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The key of two keys, in this order.
fn pair(first: u64, second: u64) -> u64 {
    first.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::{TimeZone, Timestamp};

    fn tables() -> Tables {
        let odds = |list: &[(&str, f32)]| list.iter().map(|(name, odds)| ((*name).to_owned(), *odds)).collect();
        let edf = MerchantStats { odds: -1.5, usual_amount: 4.0, operations: odds(&[("refund", 2.5)]) };
        Tables {
            usual_amount: 3.0,
            operations: odds(&[("refund", 0.75)]),
            words: odds(&[("urgent", 3.0), ("invoice", -2.0)]),
            merchants: [("edf".to_owned(), edf)].into(),
        }
    }

    fn transaction(amount: f64) -> TransactionFields<'static> {
        TransactionFields {
            id: "1".into(),
            description: "URGENT: invoice, unknown".into(),
            amount,
            // A Tuesday.
            timestamp: Timestamp::parse(b"2023-11-28 06:30:12", TimeZone::UTC).unwrap(),
            merchant: Some(" EDF ".into()),
            operation_type: "Refund".into(),
            side: "debit".into(),
        }
    }

    #[test]
    fn each_feature_is_what_its_name_says() {
        let features = FeatureEncoder::new(&tables()).encode(&transaction(-199.5));
        let log = 200.5_f32.ln();
        let expected = [log, 1.0, 50.0, 9.5, 0.5, log - 4.0, 6.5, 1.0, 1.0, 7.0, 0.75, 0.0, -1.5, 2.5, 3.0, 1.0];
        for ((name, actual), expected) in FEATURES.iter().zip(features).zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "{name}: {actual}, not {expected}");
        }
    }

    #[test]
    fn words_end_at_punctuation_and_are_not_numbers() {
        let found: Vec<_> = words("  Café de l'Est; ref. 2024/113 (A4), 50€").collect();
        assert_eq!(found, ["Café", "de", "l", "Est", "ref", "A4", "50€"]);
    }

    #[test]
    fn unknown_values_have_neutral_features() {
        let unknown = TransactionFields {
            description: String::new().into(),
            merchant: None,
            operation_type: "swap".into(),
            side: "both".into(),
            ..transaction(200.0)
        };
        let features = FeatureEncoder::new(&tables()).encode(&unknown);
        let by_name = |name: &str| features[FEATURES.iter().position(|feature| *feature == name).unwrap()];
        for name in ["operation", "operation_odds", "merchant_odds", "word_odds_highest", "word_odds_sum"] {
            assert!(by_name(name).abs() < f32::EPSILON, "{name}");
        }
        for (name, expected) in [("merchant_missing", 1.0), ("side", 0.5), ("amount_below_hundred", 100.0)] {
            assert!((by_name(name) - expected).abs() < f32::EPSILON, "{name}");
        }
    }

    #[test]
    fn features_of_extreme_amounts_are_finite() {
        let encoder = FeatureEncoder::new(&Tables::default());
        for amount in [0.0, -0.0, 1e-300, f64::MAX, f64::MIN, 9_999_999_999_999_999.999_9] {
            let features = encoder.encode(&transaction(amount));
            assert!(features.iter().all(|feature| feature.is_finite()), "{amount}: {features:?}");
        }
    }
}
