//! Labelled transactions, and the tables learned from them: how much more often than usual a word, a merchant or an operation comes
//! with fraud.

use std::collections::BTreeMap;

use assay_generator::{Generated, Transactions};
use assay_ml_api::{MerchantStats, Tables, TransactionFields, words};
use assay_transaction::Timestamp;

/// Rows with the average share of fraud, added to every count: a name seen a few times says little.
const PRIOR: f64 = 30.0;
/// Names seen less often are omitted.
const RARE: f64 = 50.0;

/// A transaction whose label is known.
pub(crate) struct Labelled(Generated);

/// The first transactions of a seed.
pub(crate) fn labelled_transactions(seed: u64, rows: usize) -> Vec<Labelled> {
    Transactions::new(seed, false).take(rows).map(Labelled).collect()
}

impl Labelled {
    pub(crate) fn is_fraud(&self) -> bool {
        self.0.is_fraud
    }

    /// The transaction as in a request.
    pub(crate) fn transaction(&self) -> TransactionFields<'_> {
        let row = &self.0;
        TransactionFields {
            id: row.id.as_str().into(),
            description: row.description.as_str().into(),
            amount: row.amount(),
            timestamp: Timestamp::from(row.timestamp.and_utc()),
            merchant: row.merchant.map(Into::into),
            operation_type: row.operation_type.into(),
            side: row.side.into(),
        }
    }
}

/// Rows, fraud among them, and the sum of their logarithmic amounts.
#[derive(Debug, Clone, Copy, Default)]
struct FraudCount {
    rows: f64,
    fraud: f64,
    amounts: f64,
}

type FraudCounts = BTreeMap<String, FraudCount>;

pub(crate) fn learn(rows: &[Labelled]) -> Tables {
    let mut all = FraudCount::default();
    let (mut operations, mut by_word, mut merchants) = (FraudCounts::new(), FraudCounts::new(), FraudCounts::new());
    let mut pairs: BTreeMap<String, FraudCounts> = BTreeMap::new();
    for row in rows {
        let transaction = row.transaction();
        let merchant = transaction.merchant.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
        let operation = transaction.operation_type.to_ascii_lowercase();
        let add = |count: &mut FraudCount| count.add(&transaction, row.is_fraud());
        add(&mut all);
        add(operations.entry(operation.clone()).or_default());
        add(pairs.entry(merchant.clone()).or_default().entry(operation).or_default());
        add(merchants.entry(merchant).or_default());
        let distinct: std::collections::BTreeSet<_> =
            words(&transaction.description).map(str::to_ascii_lowercase).collect();
        for word in distinct {
            add(by_word.entry(word).or_default());
        }
    }
    let odds = |counts: FraudCounts| -> BTreeMap<String, f32> {
        let usual = counts.into_iter().filter(|(_, count)| count.rows >= RARE);
        usual.map(|(name, count)| (name, count.odds(all))).collect()
    };
    let merchants = merchants.into_iter().filter(|(_, count)| count.rows >= RARE).map(|(name, count)| {
        let operations = odds(pairs.remove(&name).unwrap_or_default());
        (name, MerchantStats { odds: count.odds(all), usual_amount: rounded(count.amounts / count.rows), operations })
    });
    Tables {
        usual_amount: rounded(all.amounts / all.rows.max(1.0)),
        merchants: merchants.collect(),
        operations: odds(operations),
        words: odds(by_word),
    }
}

impl FraudCount {
    fn add(&mut self, transaction: &TransactionFields<'_>, is_fraud: bool) {
        self.rows += 1.0;
        self.fraud += f64::from(u8::from(is_fraud));
        self.amounts += transaction.amount.abs().ln_1p();
    }

    /// The logarithm of the odds of fraud, relative to those of all rows.
    fn odds(self, all: Self) -> f32 {
        // Half a row more of each kind, as zero proves nothing.
        let share = (all.fraud + 0.5) / (all.rows + 1.0);
        let (fraud, rest) = (self.fraud + PRIOR * share, self.rows - self.fraud + PRIOR * (1.0 - share));
        rounded((fraud / rest).ln() - (share / (1.0 - share)).ln())
    }
}

/// Three decimals: as precise as counts are, and short in the file.
#[expect(clippy::cast_possible_truncation, reason = "features are single floats")]
fn rounded(number: f64) -> f32 {
    ((number * 1e3).round() / 1e3) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_0_for_the_usual_share_and_cautious_for_a_few_rows() {
        let all = FraudCount { rows: 10_000.0, fraud: 250.0, amounts: 0.0 };
        let odds = |rows, fraud| FraudCount { rows, fraud, amounts: 0.0 }.odds(all);
        assert!(odds(1_000.0, 25.0).abs() < 0.01);
        assert!(odds(0.0, 0.0).abs() < 0.01);
        assert!(odds(1_000.0, 500.0) > 3.0);
        assert!(odds(1_000.0, 0.0) < -3.0);
        assert!(odds(2.0, 2.0) < odds(200.0, 200.0));
    }

    #[test]
    fn planted_patterns_are_learned() {
        let tables = learn(&labelled_transactions(1, 40_000));
        assert!(tables.words["urgent"] > 1.0, "{:?}", tables.words["urgent"]);
        assert!(tables.words["invoice"] < 0.0);
        assert!(tables.merchants["paysafecard"].odds > tables.merchants["edf"].odds);
        assert!(tables.merchants["louis vuitton"].usual_amount > tables.merchants["lidl"].usual_amount + 1.0);
        assert!(tables.merchants.contains_key(""), "transactions without a merchant");
        assert!(tables.words.keys().all(|word| word.parse::<u64>().is_err()), "numbers are no words");
    }
}
