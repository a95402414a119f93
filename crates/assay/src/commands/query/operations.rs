//! `assay operations`: the changes that operators made.

use std::fmt;

use assay_store::OperationRecord;
use assay_transaction::Exit;
use clap::Args;
use serde::Serialize;

use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;
use crate::output::{Table, moment, one_line, print};

/// Longest text that is shown.
const TEXT: usize = 200;

/// List who cancelled, replayed, repaired, forced, removed, purged, erased or unmasked what, when and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay operations
  assay operations batch_20260111_100000_3f9a1c --json")]
pub(crate) struct OperationsArguments {
    /// Only this run: its name, a source that it loaded, or `latest`
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Operations to list, the latest first
    #[arg(long, default_value_t = 50, value_name = "OPERATIONS")]
    limit: u32,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Lists operations.
pub(crate) async fn operations(arguments: &OperationsArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("operations").await?;
    let run_id = match &arguments.run {
        Some(run) => Some(resolve_run(&*store, run).await?.0.run_id),
        None => None,
    };
    let list = OperationList(store.operations(run_id.as_ref(), arguments.limit).await?);
    store.close().await;
    print(&list, arguments.json)?;
    Ok(Exit::Done)
}

/// The operations.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct OperationList(Vec<OperationRecord>);

impl fmt::Display for OperationList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(out, "no operations yet");
        }
        let mut table = Table::new([">number", "when (UTC)", "who", "what", "run", "why", "details"]);
        for operation in &self.0 {
            table.add([
                operation.id.to_string(),
                moment(operation.done_at),
                one_line(&operation.operator, 40),
                operation.action.clone(),
                operation.run_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                operation.reason.as_deref().map(|reason| one_line(reason, TEXT)).unwrap_or_default(),
                operation.details.as_ref().map(|details| one_line(&details.to_string(), TEXT)).unwrap_or_default(),
            ]);
        }
        table.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::at;

    #[test]
    fn reads_as_a_table() {
        let operation = OperationRecord {
            id: 7,
            operator: "ada".into(),
            action: "cancel".into(),
            run_id: Some("first".parse().unwrap()),
            reason: Some("wrong\nfile".into()),
            details: None,
            done_at: at("10:00:00"),
        };
        let replay = OperationRecord {
            id: 8,
            action: "replay".into(),
            reason: None,
            details: Some(serde_json::json!({ "rows_selected": 3 })),
            ..operation.clone()
        };
        assert_eq!(
            OperationList(vec![operation, replay]).to_string(),
            "\
number  when (UTC)           who  what    run    why          details
     7  2026-01-11 10:00:00  ada  cancel  first  wrong\\nfile
     8  2026-01-11 10:00:00  ada  replay  first               {\"rows_selected\":3}
"
        );
        assert_eq!(OperationList(Vec::new()).to_string(), "no operations yet\n");
    }

    #[test]
    fn its_json_is_pinned() {
        let operation = OperationRecord {
            id: 12,
            operator: "ada".into(),
            action: "replay".into(),
            run_id: Some("first".parse().unwrap()),
            reason: Some("the model is back".into()),
            details: Some(serde_json::json!({ "rows_selected": 70 })),
            done_at: at("10:00:00"),
        };
        crate::output::pin_json("operations", &OperationList(vec![operation]));
    }
}
