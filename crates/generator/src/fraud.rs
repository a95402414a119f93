//! The planted patterns of fraud. All invented: the crate's documentation describes them.

use std::collections::VecDeque;

use chrono::NaiveDateTime;

use crate::hours::{Hours, later};
use crate::merchant::{MerchantKind, MerchantProfile, cash_machine, one_of};
use crate::ordinary::{described, price};
use crate::random::Random;
use crate::transactions::{CREDIT, DEBIT, TransactionDraft};

/// Goods that resell easily.
const GOODS: &[MerchantKind] = &[
    MerchantKind::Electronics,
    MerchantKind::Marketplace,
    MerchantKind::Luxury,
    MerchantKind::Travel,
    MerchantKind::Gaming,
];
/// Goods as good as cash.
const CASH_LIKE: &[MerchantKind] =
    &[MerchantKind::GiftCards, MerchantKind::Crypto, MerchantKind::Remittance, MerchantKind::Gambling];
/// Where direct debits and withdrawals are implausible.
const ODD: &[MerchantKind] = &[
    MerchantKind::GiftCards,
    MerchantKind::Crypto,
    MerchantKind::Luxury,
    MerchantKind::Gaming,
    MerchantKind::Restaurant,
    MerchantKind::Fashion,
];
/// Limits, in cents, that amounts stay just below.
const LIMITS: &[u32] = &[20_000, 50_000, 100_000, 150_000, 200_000, 300_000];

/// Incidents that start per 10,000 ordinary rows. With their further rows and the label noise, one row in forty is
/// labelled as fraud.
const INCIDENTS_PER_10_000: u32 = 172;

/// Whether an incident starts here.
pub(crate) fn begins_incident(random: &mut Random) -> bool {
    random.below(10_000) < INCIDENTS_PER_10_000
}

/// The label of a row: one planted row in fifty was never reported, and a few ordinary ones were reported by mistake.
/// No model can beat this noise.
pub(crate) fn label(random: &mut Random, planted: bool) -> bool {
    if planted { !random.percent(2) } else { random.below(10_000) < 12 }
}

/// The rows of an incident, in order.
pub(crate) fn incident(random: &mut Random, rows: &mut VecDeque<TransactionDraft>) {
    match random.below(100) {
        0..18 => night_spree(random, rows),
        18..36 => rows.push_back(below_limit(random)),
        36..46 => card_test(random, rows),
        46..60 => rows.push_back(odd_operation(random)),
        60..70 => rows.push_back(reversed_refund(random)),
        70..84 => withdrawals_abroad(random, rows),
        _ => rows.push_back(persuasion(random)),
    }
}

/// Expensive goods, online, at night, several in a row.
fn night_spree(random: &mut Random, rows: &mut VecDeque<TransactionDraft>) {
    let mut timestamp = night(random).moment(random);
    for _ in 0..random.between(1, 3) {
        let merchant = one_of(random, GOODS);
        let cents = random.log_normal(62_000, 200);
        let cents = price(random, cents);
        rows.push_back(online(random, merchant, cents, timestamp));
        timestamp = later(timestamp, random.between(40, 1_500));
    }
}

/// Just below a limit that triggers a check.
fn below_limit(random: &mut Random) -> TransactionDraft {
    let merchant = one_of(random, &[GOODS, CASH_LIKE].concat());
    let cents = random.pick(LIMITS) - random.between(1, 100);
    let timestamp = Hours::Online.moment(random);
    let row = online(random, merchant, cents, timestamp);
    if random.percent(30) {
        let description = "Outgoing transfer".to_owned();
        return TransactionDraft { description, merchant: None, operation_type: "transfer", channel: "mobile", ..row };
    }
    row
}

/// A tiny payment to test the card, then large ones at the same merchant.
fn card_test(random: &mut Random, rows: &mut VecDeque<TransactionDraft>) {
    let merchant = one_of(random, &[GOODS, CASH_LIKE].concat());
    let mut timestamp = night(random).moment(random);
    let cents = random.between(10, 200);
    rows.push_back(online(random, merchant, cents, timestamp));
    for _ in 0..random.between(1, 2) {
        timestamp = later(timestamp, random.between(60, 900));
        let cents = random.log_normal(55_000, 220);
        rows.push_back(online(random, merchant, cents, timestamp));
    }
}

/// A way to pay that does not fit the merchant.
fn odd_operation(random: &mut Random) -> TransactionDraft {
    let merchant = one_of(random, ODD);
    let (operation_type, wording) = random.pick(&[
        ("direct_debit", "Direct debit"),
        ("direct_debit", "Invoice from"),
        ("withdrawal", "Purchase at"),
        ("transfer", "Purchase at"),
    ]);
    let cents = random.log_normal(24_000, 270);
    let timestamp = Hours::Online.moment(random);
    TransactionDraft {
        description: described(random, wording, merchant.name),
        operation_type,
        channel: "bank",
        ..online(random, merchant, cents, timestamp)
    }
}

/// A refund that takes money, or one far larger than anything sold there.
fn reversed_refund(random: &mut Random) -> TransactionDraft {
    let merchant = one_of(
        random,
        &[
            MerchantKind::Electronics,
            MerchantKind::Marketplace,
            MerchantKind::Travel,
            MerchantKind::Telecom,
            MerchantKind::Utilities,
        ],
    );
    let takes = random.percent(75);
    let cents = random.log_normal(if takes { 32_000 } else { 160_000 }, 220);
    let timestamp = Hours::Online.moment(random);
    TransactionDraft {
        description: described(random, "Refund from", merchant.name),
        operation_type: "refund",
        side: if takes { DEBIT } else { CREDIT },
        ..online(random, merchant, cents, timestamp)
    }
}

/// Cash abroad at odd hours, in round and rather large amounts.
fn withdrawals_abroad(random: &mut Random, rows: &mut VecDeque<TransactionDraft>) {
    let machine = cash_machine(random, true);
    let mut timestamp = night(random).moment(random);
    for _ in 0..random.between(1, 2) {
        rows.push_back(TransactionDraft {
            description: format!("Cash withdrawal {}", machine.name),
            cents: random.log_normal(28_000, 130).div_ceil(1_000) * 1_000,
            timestamp,
            merchant: Some(machine),
            operation_type: "withdrawal",
            side: DEBIT,
            channel: "cash_machine",
        });
        timestamp = later(timestamp, random.between(60, 400));
    }
}

/// A victim of persuasion: urgency, gift cards, crypto, a safe account.
fn persuasion(random: &mut Random) -> TransactionDraft {
    let wording = random.pick(&[
        "Urgent transfer",
        "Urgent: safe account",
        "Security deposit, urgent",
        "Gift cards for support",
        "Gift card codes",
        "Crypto investment",
        "Crypto wallet top-up",
        "Customs fee, parcel on hold",
    ]);
    let merchant = random.percent(55).then(|| one_of(random, CASH_LIKE));
    TransactionDraft {
        description: wording.to_owned(),
        cents: random.log_normal(60_000, 240).div_ceil(1_000) * 1_000,
        timestamp: Hours::Online.moment(random),
        merchant,
        operation_type: if merchant.is_some() { "payment" } else { "transfer" },
        side: DEBIT,
        channel: if random.percent(70) { "mobile" } else { "bank" },
    }
}

fn online(
    random: &mut Random,
    merchant: &'static MerchantProfile,
    cents: u32,
    timestamp: NaiveDateTime,
) -> TransactionDraft {
    let wording = random.pick(&["Online payment", "Purchase at", "Online payment at"]);
    TransactionDraft {
        description: described(random, wording, merchant.name),
        cents,
        timestamp,
        merchant: Some(merchant),
        operation_type: "payment",
        side: DEBIT,
        channel: "online",
    }
}

/// Mostly night: one incident in eight happens in ordinary hours.
fn night(random: &mut Random) -> Hours {
    if random.below(8) == 0 { Hours::Online } else { Hours::Night }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomStream;

    fn each(mut check: impl FnMut(&mut Random)) {
        let mut random = Random::new(5, RandomStream::Transactions);
        for _ in 0..300 {
            check(&mut random);
        }
    }

    #[test]
    fn an_incident_is_one_to_three_rows_in_order_of_time() {
        each(|random| {
            let mut rows = VecDeque::new();
            incident(random, &mut rows);
            assert!((1..=3).contains(&rows.len()), "{rows:?}");
            assert!(rows.iter().is_sorted_by_key(|row| row.timestamp), "{rows:?}");
        });
    }

    #[test]
    fn amounts_stay_at_most_a_euro_below_a_limit() {
        each(|random| {
            let row = below_limit(random);
            assert!(LIMITS.iter().any(|limit| (1..=100).contains(&limit.saturating_sub(row.cents))), "{row:?}");
        });
    }

    #[test]
    fn a_tested_card_pays_at_the_same_merchant() {
        each(|random| {
            let mut rows = VecDeque::new();
            card_test(random, &mut rows);
            assert!(rows[0].cents <= 200 && rows[1].cents > 5_000, "{rows:?}");
            assert!(rows.iter().all(|row| row.merchant == rows[0].merchant), "{rows:?}");
        });
    }

    #[test]
    fn labels_are_noisy_in_both_directions() {
        let mut random = Random::new(5, RandomStream::Transactions);
        let mut labelled = |planted| (0..20_000).filter(|_| label(&mut random, planted)).count();
        assert!((19_500..19_700).contains(&labelled(true)));
        assert!((10..45).contains(&labelled(false)));
    }
}
