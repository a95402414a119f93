//! `assay declare`: declares queues and exchanges, for stages that are not permitted to, and ends an upgrade.

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use serde::Serialize;
use tracing::info;

use crate::error::CommandError;
use crate::output::print_json;

/// RabbitMQ offers a retry that expired into a full queue again after 180 s.
const ROOM_FOR: Duration = Duration::from_secs(200);

/// Declare the queues and exchanges in RabbitMQ; safe to repeat
///
/// Each stage does so at its start, if its user is permitted to. If not, run this command once and after each update, as a
/// user with permission to configure, write and read assay.*, transactions.*, predictions.* and dead_letters.
///
/// Versions up to 0.1 publish chunks to assay.transactions, the exchange of live transactions, and so may everybody who may
/// publish those. Newer ones use assay.chunks; the old way stays open for an upgrade in steps. Once no program of an old version
/// runs, --finish-upgrade closes it.
#[derive(Debug, Args)]
pub(crate) struct DeclareArguments {
    /// Also remove what only versions up to 0.1 need.
    ///
    /// Unbinds transactions.batch from assay.transactions, and deletes the delay queues transactions.batch.delay.1s, .10s and .60s.
    /// Nothing is lost: it refuses, with exit code 3, while messages wait in them or transactions.batch is more than half full, and
    /// takes 200 s if there are such queues, as RabbitMQ may still hold retries that found transactions.batch full. Safe to repeat,
    /// also after a program of an old version came back and opened the old way again.
    #[arg(long)]
    finish_upgrade: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Declares queues and exchanges.
pub(crate) async fn declare(arguments: &DeclareArguments) -> Result<Exit, CommandError> {
    let DeclareArguments { broker, startup, .. } = arguments;
    let deleted = if arguments.finish_upgrade {
        Some(assay_queue::finish_upgrade(broker, startup.startup_timeout, ROOM_FOR).await?)
    } else {
        assay_queue::declare(broker, startup.startup_timeout).await?;
        None
    };
    let declared = DeclareReport { declared: true, deleted_queues: deleted };
    if arguments.json {
        print_json(&declared)?;
    } else {
        declared.log();
    }
    Ok(Exit::Done)
}

/// What was declared and deleted.
#[derive(Debug, Serialize)]
struct DeclareReport {
    declared: bool,
    /// The delay queues of old versions, with --finish-upgrade.
    deleted_queues: Option<Vec<String>>,
}

impl DeclareReport {
    fn log(&self) {
        let Some(deleted) = &self.deleted_queues else {
            info!("queues and exchanges are declared");
            return;
        };
        info!("queues and exchanges are declared; transactions.batch takes chunks from assay.chunks only");
        match deleted.as_slice() {
            [] => info!("there were no delay queues of versions up to 0.1"),
            deleted => info!("deleted the delay queues of versions up to 0.1: {}", deleted.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_json_is_pinned() {
        let deleted_queues = Some(vec!["transactions.batch.delay.1s".into()]);
        crate::output::pin_json("declare", &DeclareReport { declared: true, deleted_queues });
    }
}
