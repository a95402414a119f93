//! Runs every command of the runbook as written, on a fleet that works.

use std::collections::BTreeMap;

use super::prometheus::Prometheus;
use crate::guide::commands;
use crate::{Ended, Program, Stack};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// Runs the commands in order; returns how many there are.
pub(super) async fn play<'a>(
    stack: &Stack,
    fleet: impl Iterator<Item = (&'a str, &'a str)>,
    prometheus: &Prometheus,
) -> usize {
    let run: String = sqlx::query_scalar(
        "SELECT run_id FROM runs WHERE state = 'complete' AND run_id NOT LIKE 'live%' ORDER BY started_at LIMIT 1",
    )
    .fetch_one(stack.database.pool())
    .await
    .expect("a file is loaded");
    let mut variables = BTreeMap::from([
        ("RUN".to_owned(), run),
        ("PROMETHEUS".to_owned(), prometheus.address().to_owned()),
        ("ML_API_URL".to_owned(), stack.ml_api.url()),
    ]);
    variables.extend(fleet.map(|(stage, address)| (stage.to_uppercase(), address.to_owned())));
    let commands = commands(RUNBOOK);
    assert!(!commands.is_empty(), "the runbook has commands");
    let mut failed = Vec::new();
    for (command, exit) in &commands {
        let shell = stack.known_to(Program::shell(command));
        let ended = variables.iter().fold(shell, |shell, (name, value)| shell.env(name, value)).run().await;
        if ended.code != Some(*exit) {
            let Ended { code, stdout, stderr, .. } = ended;
            failed.push(format!("`{command}` exits {code:?}, not {exit}:\n{stdout}{stderr}"));
        }
    }
    assert!(failed.is_empty(), "{} commands do not work as written:\n{}", failed.len(), failed.join("\n"));
    commands.len()
}
