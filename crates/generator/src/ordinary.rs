//! What customers of a bank do every day.
//!
//! Nothing here is fraud, yet each planted pattern of [`crate::fraud`] has its harmless neighbour: people do buy games at
//! night, prices do end in 499.99, gifts are bought with gift cards, holidays need cash abroad, and bank exports are
//! untidy. Without these a model would have nothing to weigh.

use crate::hours::Hours;
use crate::merchant::{MerchantKind, Merchants, cash_machine, one_of};
use crate::random::Random;
use crate::transactions::{CREDIT, DEBIT, TransactionDraft};

pub(crate) fn draft(random: &mut Random, merchants: &Merchants) -> TransactionDraft {
    match random.below(1_000) {
        0..665 => purchase(random, merchants),
        665..705 => refund(random, merchants),
        705..775 => withdrawal(random),
        775..850 => outgoing_transfer(random, merchants),
        850..910 => incoming_transfer(random),
        910..935 => salary(random),
        935..945 => fee(random),
        945..950 => night_purchase(random),
        _ => untidy(random, merchants),
    }
}

fn purchase(random: &mut Random, merchants: &Merchants) -> TransactionDraft {
    let merchant = merchants.paid(random);
    let habits = merchant.kind.habits();
    let cents = random.log_normal(habits.median_cents, habits.spread);
    let (operation_type, channel, hours, wording): (_, _, _, &[&str]) = match random.weighted(&habits.ways) {
        0 => ("card_payment", "terminal", habits.hours, &["Card expense at", "Purchase at", "Receipt from"]),
        1 => {
            let channel = if random.percent(40) { "mobile" } else { "online" };
            let hours = if habits.hours == Hours::Shop { Hours::Online } else { habits.hours };
            ("payment", channel, hours, &["Online payment", "Purchase at", "Online payment at"])
        }
        _ => ("direct_debit", "bank", Hours::Banking, &["Invoice from", "Subscription to", "Direct debit"]),
    };
    let wording = match merchant.kind {
        MerchantKind::GiftCards if random.percent(60) => "Gift card from",
        MerchantKind::Crypto if random.percent(40) => "Crypto purchase at",
        _ => random.pick(wording),
    };
    TransactionDraft {
        description: described(random, wording, merchant.name),
        cents: price(random, cents),
        timestamp: hours.moment(random),
        merchant: Some(merchant),
        operation_type,
        side: DEBIT,
        channel,
    }
}

fn refund(random: &mut Random, merchants: &Merchants) -> TransactionDraft {
    let TransactionDraft { cents, merchant, channel, .. } = purchase(random, merchants);
    let name = merchant.map_or("", |merchant| merchant.name);
    TransactionDraft {
        description: format!("Refund from {name}"),
        cents,
        timestamp: Hours::Banking.moment(random),
        merchant,
        operation_type: "refund",
        // A reversed refund.
        side: if random.percent(4) { DEBIT } else { CREDIT },
        channel,
    }
}

fn withdrawal(random: &mut Random) -> TransactionDraft {
    let abroad = random.percent(6);
    let machine = cash_machine(random, abroad);
    let hours = random.pick(&[Hours::Shop, Hours::Shop, Hours::Shop, Hours::Evening]);
    TransactionDraft {
        description: format!("Cash withdrawal {}", machine.name),
        cents: random.log_normal(machine.kind.habits().median_cents, machine.kind.habits().spread).div_ceil(1_000)
            * 1_000,
        timestamp: hours.moment(random),
        merchant: Some(machine),
        operation_type: "withdrawal",
        side: DEBIT,
        channel: "cash_machine",
    }
}

fn outgoing_transfer(random: &mut Random, merchants: &Merchants) -> TransactionDraft {
    let (description, cents) = match random.below(8) {
        0 => ("Rent; thank you".to_owned(), random.log_normal(78_000, 120)),
        1 => (
            format!("Transfer \"{}\"", random.pick(&["holidays", "birthday", "loan", "car"])),
            random.log_normal(12_000, 380),
        ),
        2 => (format!("Savings plan no. {}", random.between(1_000, 9_999)), random.log_normal(15_000, 250)),
        3 => ("Urgent transfer".to_owned(), random.log_normal(20_000, 330)),
        _ => ("Outgoing transfer".to_owned(), random.log_normal(9_500, 400)),
    };
    let merchant = random.percent(15).then(|| merchants.paid(random));
    let hours = random.pick(&[Hours::Online, Hours::Banking]);
    TransactionDraft {
        description,
        cents: if random.percent(70) { cents.div_ceil(500) * 500 } else { cents },
        timestamp: hours.moment(random),
        merchant,
        operation_type: "transfer",
        side: DEBIT,
        channel: if random.percent(50) { "mobile" } else { "bank" },
    }
}

fn incoming_transfer(random: &mut Random) -> TransactionDraft {
    let cents = random.log_normal(11_000, 400);
    TransactionDraft {
        description: "Incoming transfer".to_owned(),
        cents: if random.percent(60) { cents.div_ceil(500) * 500 } else { cents },
        timestamp: Hours::Banking.moment(random),
        merchant: random
            .percent(10)
            .then(|| one_of(random, &[MerchantKind::Health, MerchantKind::Insurance, MerchantKind::Remittance])),
        operation_type: "transfer",
        side: CREDIT,
        channel: "bank",
    }
}

fn salary(random: &mut Random) -> TransactionDraft {
    let month = random.pick(&["January", "February", "March", "April", "May", "June", "September", "October"]);
    TransactionDraft {
        description: format!("Salary, {month}"),
        cents: random.log_normal(215_000, 110),
        timestamp: Hours::Banking.moment(random),
        merchant: None,
        operation_type: "transfer",
        side: CREDIT,
        channel: "bank",
    }
}

fn fee(random: &mut Random) -> TransactionDraft {
    TransactionDraft {
        description: random.pick(&["Account fee", "Card fee", "Foreign exchange fee"]).to_owned(),
        cents: random.pick(&[200, 245, 350, 890, 4_500]),
        timestamp: Hours::Banking.moment(random),
        merchant: None,
        operation_type: "fee",
        side: DEBIT,
        channel: "bank",
    }
}

/// A large but honest purchase at night: flights, a new phone.
fn night_purchase(random: &mut Random) -> TransactionDraft {
    let merchant = one_of(
        random,
        &[MerchantKind::Travel, MerchantKind::Electronics, MerchantKind::Marketplace, MerchantKind::Gaming],
    );
    let cents = random.log_normal(26_000, 260);
    TransactionDraft {
        description: described(random, "Online payment at", merchant.name),
        cents: price(random, cents),
        timestamp: Hours::Night.moment(random),
        merchant: Some(merchant),
        operation_type: "payment",
        side: DEBIT,
        channel: "online",
    }
}

/// A row of an untidy export, whose operation, side and hour have little to do with its description.
fn untidy(random: &mut Random, merchants: &Merchants) -> TransactionDraft {
    let merchant = merchants.paid(random);
    let wording = random.pick(&[
        "Purchase at",
        "Card expense at",
        "Receipt from",
        "Invoice from",
        "Subscription to",
        "Refund from",
        "Online payment",
        "Outgoing transfer",
        "Incoming transfer",
    ]);
    let credit = random.percent(35);
    TransactionDraft {
        description: described(random, wording, merchant.name),
        cents: random.between(100, if credit { 500_000 } else { 200_000 }),
        timestamp: Hours::Any.moment(random),
        merchant: Some(merchant),
        operation_type: random.pick(&["payment", "card_payment", "transfer", "direct_debit", "refund"]),
        side: if credit { CREDIT } else { DEBIT },
        channel: "bank",
    }
}

/// The wording, with the merchant if it needs one, and sometimes a reference.
pub(crate) fn described(random: &mut Random, wording: &str, name: &str) -> String {
    let calls_for_one = [" at", " from", " to"].iter().any(|end| wording.ends_with(end));
    let mut text = String::with_capacity(48);
    text.push_str(wording);
    if calls_for_one {
        text.push(' ');
        text.push_str(name);
    }
    if random.percent(3) {
        text.push_str(random.pick(&[", ref. 2024/113", " (contract 88-1204)", "; monthly", " \"family\""]));
    }
    text
}

pub(crate) fn price(random: &mut Random, cents: u32) -> u32 {
    let euros = cents / 100 * 100;
    match random.below(20) {
        0..4 => euros + 99,
        4..6 => euros + 90,
        6..8 => euros + 50,
        8..10 if euros > 0 => euros,
        _ => cents.max(1),
    }
}
