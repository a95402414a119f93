//! Files in the layouts of public data sets, to try column mappings on: PaySim's, and that of the simulated card data
//! known as Sparkov. The rows are our own: transactions of the seed, with the extra columns of those layouts. They
//! contain no row of either data set.

use std::fmt::Write as _;

use assay_transaction::{DecimalMark, Delimiter};
use chrono::{Days, NaiveDate, NaiveDateTime};

use crate::options::{GenerateOptions, Quoting};
use crate::random::{Random, RandomStream};
use crate::row::{RowBuffer, write_amount, write_timestamp};
use crate::transactions::{Generated, Transactions};

/// A layout other than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DatasetLayout {
    /// Mobile money of one month, by the hour: type, amount, two accounts and their balances.
    Paysim,
    /// Card payments of one year: the card, its holder, the merchant and where both are.
    Sparkov,
}

#[rustfmt::skip]
const PAYSIM: [&str; 11] = [
    "step", "type", "amount", "nameOrig", "oldbalanceOrg", "newbalanceOrig", "nameDest", "oldbalanceDest", "newbalanceDest",
    "isFraud", "isFlaggedFraud",
];
/// The first column has no name, as pandas writes its index.
#[rustfmt::skip]
const SPARKOV: [&str; 23] = [
    "", "trans_date_trans_time", "cc_num", "merchant", "category", "amt", "first", "last", "gender", "street", "city", "state",
    "zip", "lat", "long", "city_pop", "job", "dob", "trans_num", "unix_time", "merch_lat", "merch_long", "is_fraud",
];

/// Hours of PaySim's month.
const STEPS: u64 = 743;
/// The amount from which PaySim flags a transfer.
const FLAGGED_CENTS: u64 = 20_000_000;

/// A card and its holder. The numbers pass the check of card numbers, but are not in use.
struct CardHolder {
    card: &'static str,
    /// First name to street, then city to dob, in the layout's order.
    person: [&'static str; 4],
    home: [&'static str; 4],
    lat: i64,
    long: i64,
    born: [&'static str; 2],
}

const CARD_HOLDERS: [CardHolder; 4] = [
    CardHolder {
        card: "4000000000000002",
        person: ["Ada", "Miller", "F", "12 Mill Lane, Apt. 3"],
        home: ["Springvale", "NC", "28000", "3495"],
        lat: 360_788,
        long: -811_781,
        born: ["Statistician", "1988-03-09"],
    },
    CardHolder {
        card: "4000000000000010",
        person: ["Ben", "O'Hara", "M", "7 River Road"],
        home: ["Old Forge", "PA", "18000", "7646"],
        lat: 413_720,
        long: -757_350,
        born: ["Engineer, mining", "1971-11-24"],
    },
    CardHolder {
        card: "4000000000000028",
        person: ["Chloé", "Nguyen", "F", "350 Station Street"],
        home: ["Bay City", "TX", "77000", "181540"],
        lat: 289_828,
        long: -959_694,
        born: ["Teacher", "1995-06-30"],
    },
    CardHolder {
        card: "4000000000000036",
        person: ["Dev", "Patel", "M", "9 Hill \"Top\" Court"],
        home: ["Cedar Falls", "IA", "50000", "40713"],
        lat: 425_349,
        long: -924_453,
        born: ["Pharmacist", "1963-01-15"],
    },
];

pub(crate) struct LayoutRows {
    layout: DatasetLayout,
    count: u64,
    transactions: Transactions,
    random: Random,
}

impl DatasetLayout {
    /// The options with the dialect the layout is published in.
    pub(crate) fn dialect(options: &GenerateOptions) -> GenerateOptions {
        GenerateOptions {
            delimiter: Delimiter::Comma,
            decimal_mark: DecimalMark::Point,
            quoting: Quoting::Needed,
            labels: false,
            attributes: false,
            ..options.clone()
        }
    }

    pub(crate) fn header(self) -> &'static [&'static str] {
        match self {
            Self::Paysim => &PAYSIM,
            Self::Sparkov => &SPARKOV,
        }
    }
}

impl LayoutRows {
    /// The rows of a seed, up to a count.
    pub(crate) fn new(layout: DatasetLayout, options: &GenerateOptions) -> Self {
        let transactions = Transactions::new(options.seed, false);
        Self {
            layout,
            count: options.rows.max(1),
            transactions,
            random: Random::new(options.seed, RandomStream::DatasetLayout),
        }
    }

    /// Fills the row with the next transaction, by its index from 0; returns the row's id and label.
    pub(crate) fn fill(&mut self, row: &mut RowBuffer, index: u64) -> (String, bool) {
        let generated = self.transactions.draw();
        row.clear();
        match self.layout {
            DatasetLayout::Paysim => self.fill_paysim(row, index, &generated),
            DatasetLayout::Sparkov => self.fill_sparkov(row, index, generated),
        }
    }

    fn fill_paysim(&mut self, row: &mut RowBuffer, index: u64, generated: &Generated) -> (String, bool) {
        let kind = match generated.operation_type {
            "transfer" => "TRANSFER",
            "withdrawal" => "CASH_OUT",
            "refund" => "CASH_IN",
            "fee" => "DEBIT",
            _ => "PAYMENT",
        };
        let cents = generated.amount_cents.unsigned_abs();
        let step = 1 + index * STEPS / self.count;
        let mut account = |letter: char| format!("{letter}{}", 1_000_000_000 + self.random.below(1_000_000_000));
        let is_paid_in = kind == "CASH_IN";
        let (from, to) = (account('C'), account(if kind == "PAYMENT" { 'M' } else { 'C' }));
        let before = u64::from(self.random.log_normal(200_000, 512));
        let after = if is_paid_in { before + cents } else { before.saturating_sub(cents) };
        // Balances of merchants are unknown.
        let [there, there_after] = if kind == "PAYMENT" {
            [0, 0]
        } else {
            let there = u64::from(self.random.log_normal(500_000, 512));
            [there, if is_paid_in { there.saturating_sub(cents) } else { there + cents }]
        };
        row.push(&step.to_string());
        row.push(kind);
        push_cents(row, cents);
        row.push(&from);
        push_cents(row, before);
        push_cents(row, after);
        row.push(&to);
        push_cents(row, there);
        push_cents(row, there_after);
        row.push(label(generated.is_fraud));
        row.push(label(kind == "TRANSFER" && cents >= FLAGGED_CENTS));
        (format!("{from}-{step}-{}", index + 1), generated.is_fraud)
    }

    fn fill_sparkov(&mut self, row: &mut RowBuffer, index: u64, mut generated: Generated) -> (String, bool) {
        // Only card payments, which have a merchant.
        let (merchant, generated) = loop {
            match generated.merchant {
                Some(merchant) if matches!(generated.operation_type, "card_payment" | "payment") => {
                    break (merchant, generated);
                }
                _ => generated = self.transactions.draw(),
            }
        };
        let holder = &CARD_HOLDERS[self.random.below(4) as usize];
        let at = moment(index * 365 / self.count, generated.timestamp);
        let category = match generated.channel {
            "online" | "mobile" => self.random.pick(&["shopping_net", "misc_net", "grocery_net"]),
            _ => self.random.pick(&["grocery_pos", "gas_transport", "shopping_pos", "food_dining", "travel"]),
        };
        let mut number = String::new();
        for byte in self.random.bytes() {
            // Writing into memory does not fail.
            let _ = write!(number, "{byte:02x}");
        }
        row.push(&index.to_string());
        write_timestamp(row.add(), at);
        row.push(holder.card);
        row.push(merchant);
        row.push(category);
        push_cents(row, generated.amount_cents.unsigned_abs());
        holder.person.into_iter().chain(holder.home.into_iter().take(3)).for_each(|text| row.push(text));
        row.push(&degrees(holder.lat));
        row.push(&degrees(holder.long));
        row.push(holder.home[3]);
        holder.born.into_iter().for_each(|text| row.push(text));
        row.push(&number);
        row.push(&at.and_utc().timestamp().to_string());
        for near in [holder.lat, holder.long] {
            row.push(&degrees(near + i64::from(self.random.below(20_000)) - 10_000));
        }
        row.push(label(generated.is_fraud));
        (number, generated.is_fraud)
    }
}

/// A day of 2019, at the time of day of a transaction.
fn moment(day: u64, timestamp: NaiveDateTime) -> NaiveDateTime {
    let first = const { NaiveDate::from_ymd_opt(2019, 1, 1).unwrap() };
    (first + Days::new(day)).and_time(timestamp.time())
}

fn push_cents(row: &mut RowBuffer, cents: u64) {
    write_amount(row.add(), i64::try_from(cents).unwrap_or(i64::MAX), DecimalMark::Point.byte());
}

/// A number of ten-thousandths of a degree.
fn degrees(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", number.abs() / 10_000, number.abs() % 10_000)
}

fn label(is_fraud: bool) -> &'static str {
    if is_fraud { "1" } else { "0" }
}
