//! `assay transaction`: shows a transaction.

use assay_report::find_transactions;
use assay_transaction::Exit;
use clap::Args;

use crate::commands::ledger::LedgerOptions;
use crate::error::CommandError;
use crate::output::print;

/// Show a transaction by its id
///
/// Takes the stored UUID, or the id in its source, which may belong to several transactions of different sources. Shows stored
/// transactions with their predictions, and every failed row with that id. Card numbers are masked.
///
/// Exits 0 when something is found, else 2.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay transaction 67e55044-10b1-426f-9247-bb680e5fe0c8
  assay transaction 4711 --json")]
pub(crate) struct TransactionArguments {
    /// A stored UUID, or the id in the source
    #[arg(value_name = "ID")]
    id: String,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Shows all transactions with the id.
pub(crate) async fn transaction(arguments: &TransactionArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("transaction").await?;
    let found = find_transactions(&*store, arguments.id.trim()).await?;
    store.close().await;
    if found.is_empty() {
        return Err(CommandError::NoTransaction(arguments.id.clone()));
    }
    print(&found, arguments.json)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use assay_report::FoundTransactions;
    use assay_report::fixture::{failed, record};

    #[test]
    fn all_transactions_with_the_id_are_shown() {
        let replaced = assay_store::TransactionRecord { replaced: 2, ..record() };
        let found = FoundTransactions { stored: vec![replaced.into()], failed: vec![failed().into()] };
        assert_eq!(
            found.to_string(),
            "\
predicted: fraud, score 0.9700, by model demo-1
  from            row 3 of run first
  transaction     67e55044-10b1-426f-9247-bb680e5fe0c8
  external id     4711
  description     CB ************1111 EDF
  amount          -952.40
  timestamp       2023-11-28 06:35:12 UTC
  merchant        EDF
  operation type  refund
  side            debit
  card            ************1111
  scored at       2026-01-11 10:00:01 UTC
  scored by       http://ml-api:8000/predict, features file 0123456789abcdef
  reasons         amount +0.2500, R07 ************1111
  stored at       2026-01-11 10:00:02 UTC
  replaced        2 times; earlier versions are in transaction_history

failed: rejected
  from            row 7 of run first
  reason          HTTP status 422
  attempts        2
  replayable      yes: assay replay first --rows 7
  transaction     67e55044-10b1-426f-9247-bb680e5fe0c8
  external id     4711
  description     CB ************1111 EDF
  amount          -952.40
  timestamp       2023-11-28 06:35:12 UTC
  operation type  refund
  side            debit
"
        );
    }

    #[test]
    fn its_json_is_pinned() {
        let found = FoundTransactions { stored: vec![record().into()], failed: vec![failed().into()] };
        crate::output::pin_json("transaction", &found);
    }
}
