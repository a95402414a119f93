//! Generated transactions as requests hold them, with their labels. The bench uses this file too.

use assay_generator::Transactions;
use assay_ml_api::TransactionFields;
use assay_transaction::Timestamp;

/// The first transactions of a seed, and whether each is labelled as fraud.
pub(crate) fn transactions(seed: u64, count: usize) -> impl Iterator<Item = (TransactionFields<'static>, bool)> {
    Transactions::new(seed, true).take(count).map(|row| {
        let transaction = TransactionFields {
            amount: row.amount(),
            id: row.id.into(),
            description: row.description.into(),
            timestamp: Timestamp::from(row.timestamp.and_utc()),
            merchant: row.merchant.map(Into::into),
            operation_type: row.operation_type.into(),
            side: row.side.into(),
        };
        (transaction, row.is_fraud)
    })
}
