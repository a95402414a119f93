//! Generated transactions as requests hold them, with their labels.

use assay_generator::{Generated, Transactions};
use assay_ml_api::TransactionFields;
use assay_transaction::Timestamp;

/// A transaction whose label is known.
pub(crate) struct Labelled(Generated);

/// The first transactions of a seed.
pub(crate) fn generate(seed: u64, rows: usize) -> Vec<Labelled> {
    Transactions::new(seed, false).take(rows).map(Labelled).collect()
}

impl Labelled {
    pub(crate) fn is_fraud(&self) -> bool {
        self.0.is_fraud
    }

    /// What a request would hold.
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
