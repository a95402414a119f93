//! The endless sequence of transactions of a seed.
//!
//! It knows no files: [`crate::generate()`] writes it as CSV, a training uses it directly.

use std::collections::VecDeque;

use chrono::NaiveDateTime;

use crate::merchant::{MerchantProfile, Merchants, currency};
use crate::random::{Random, RandomStream};
use crate::{fraud, ordinary};

/// One generated transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// `1`, `2`, `3`, …, or a random UUID.
    pub id: String,
    /// Such as `Card expense at EDF`.
    pub description: String,
    /// Negative for money that leaves the account, except for a few rows without a sign.
    pub amount_cents: i64,
    /// Within 2023 to 2025, in no order.
    pub timestamp: NaiveDateTime,
    /// Absent for most transfers and fees.
    pub merchant: Option<&'static str>,
    /// `card_payment`, `payment` (online), `direct_debit`, `transfer`, `refund`, `withdrawal` or `fee`.
    pub operation_type: &'static str,
    /// `debit` or `credit`.
    pub side: &'static str,
    /// The merchant's country: ISO 3166, two letters.
    pub country: &'static str,
    /// The currency of that country: ISO 4217. The amount is in euros all the same.
    pub currency: &'static str,
    /// `terminal`, `online`, `mobile`, `bank` or `cash_machine`.
    pub channel: &'static str,
    /// The label: planted as fraud, with a little noise in both directions.
    pub is_fraud: bool,
}

impl Generated {
    /// The amount as the nearest float.
    pub fn amount(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no amount comes near 2^53 cents")]
        let cents = self.amount_cents as f64;
        cents / 100.0
    }
}

/// A transaction before it has an id and a label.
#[derive(Debug, Clone)]
pub(crate) struct TransactionDraft {
    pub(crate) description: String,
    /// Never negative; the side gives the sign.
    pub(crate) cents: u32,
    pub(crate) timestamp: NaiveDateTime,
    pub(crate) merchant: Option<&'static MerchantProfile>,
    pub(crate) operation_type: &'static str,
    pub(crate) side: &'static str,
    pub(crate) channel: &'static str,
}

/// The side of money leaving the account.
pub(crate) const DEBIT: &str = "debit";
/// The side of money coming in.
pub(crate) const CREDIT: &str = "credit";

/// The transactions of a seed: an endless iterator that holds a few rows at most.
#[derive(Debug, Clone)]
pub struct Transactions {
    random: Random,
    /// The source of UUIDs, if ids are UUIDs.
    ids: Option<Random>,
    merchants: Merchants,
    count: u64,
    /// The remaining rows of a fraud incident.
    incident: VecDeque<TransactionDraft>,
}

impl Transactions {
    /// The transactions of a seed. `uuid_ids` changes only the ids.
    pub fn new(seed: u64, uuid_ids: bool) -> Self {
        Self {
            random: Random::new(seed, RandomStream::Transactions),
            ids: uuid_ids.then(|| Random::new(seed, RandomStream::Ids)),
            merchants: Merchants::new(),
            count: 0,
            incident: VecDeque::new(),
        }
    }

    fn next_id(&mut self) -> String {
        self.count += 1;
        match &mut self.ids {
            Some(ids) => uuid::Builder::from_random_bytes(ids.bytes()).into_uuid().to_string(),
            None => self.count.to_string(),
        }
    }

    /// The next draft, and whether it is part of an incident.
    fn next_draft(&mut self) -> (TransactionDraft, bool) {
        if self.incident.is_empty() && fraud::begins_incident(&mut self.random) {
            fraud::incident(&mut self.random, &mut self.incident);
        }
        match self.incident.pop_front() {
            Some(draft) => (draft, true),
            None => (ordinary::draft(&mut self.random, &self.merchants), false),
        }
    }

    /// The next transaction; there always is one.
    pub(crate) fn draw(&mut self) -> Generated {
        let id = self.next_id();
        let (draft, planted) = self.next_draft();
        let is_fraud = fraud::label(&mut self.random, planted);
        // A few banks put the sign only in the side.
        let unsigned = self.random.percent(1);
        let cents = i64::from(draft.cents);
        let country = draft.merchant.map_or("FR", |merchant| merchant.country);
        Generated {
            id,
            description: draft.description,
            amount_cents: if draft.side == DEBIT && !unsigned { -cents } else { cents },
            timestamp: draft.timestamp,
            merchant: draft.merchant.map(|merchant| merchant.name),
            operation_type: draft.operation_type,
            side: draft.side,
            country,
            currency: currency(country),
            channel: draft.channel,
            is_fraud,
        }
    }
}

impl Iterator for Transactions {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        Some(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_change_nothing_but_the_ids() {
        for (plain, with_uuid) in Transactions::new(3, false).zip(Transactions::new(3, true)).take(500) {
            assert_eq!(uuid::Uuid::parse_str(&with_uuid.id).unwrap().get_version_num(), 4);
            assert_eq!(Generated { id: plain.id.clone(), ..with_uuid }, plain);
        }
    }

    #[test]
    fn about_one_in_forty_is_fraud() {
        let fraud = Transactions::new(1, false).take(200_000).filter(|row| row.is_fraud).count();
        assert!((4_000..6_000).contains(&fraud), "{fraud} of 200000");
    }

    #[test]
    fn the_sign_follows_the_side_except_in_one_percent() {
        let rows = 50_000;
        let against =
            Transactions::new(1, false).take(rows).filter(|row| (row.amount_cents < 0) != (row.side == DEBIT)).count();
        assert!((rows / 200..rows / 80).contains(&against), "{against} of {rows}");
    }

    #[test]
    fn the_float_equals_the_parsed_decimals() {
        for row in Transactions::new(1, false).take(5_000) {
            let (units, hundredths) = (row.amount_cents.abs() / 100, row.amount_cents.abs() % 100);
            let size: f64 = format!("{units}.{hundredths:02}").parse().unwrap();
            assert_eq!(row.amount().abs().to_bits(), size.to_bits());
        }
    }

    #[test]
    fn every_kind_of_row_occurs() {
        let rows: Vec<Generated> = Transactions::new(1, false).take(5_000).collect();
        for operation in ["card_payment", "payment", "direct_debit", "transfer", "refund", "withdrawal", "fee"] {
            assert!(rows.iter().any(|row| row.operation_type == operation), "{operation}");
        }
        for channel in ["terminal", "online", "mobile", "bank", "cash_machine"] {
            assert!(rows.iter().any(|row| row.channel == channel), "{channel}");
        }
        assert!(rows.iter().any(|row| row.merchant.is_none()));
        assert!(rows.iter().any(|row| !row.description.is_ascii()), "no accents to tell encodings apart");
        assert!(rows.iter().any(|row| row.description.contains([';', ',', '"'])), "nothing that needs quotes");
    }
}
