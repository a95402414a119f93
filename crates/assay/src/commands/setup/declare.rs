//! `assay declare`: declares queues and exchanges, for stages that are not permitted to, and ends an upgrade.

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use tracing::info;

use crate::error::CommandError;

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
    if arguments.finish_upgrade {
        let deleted = assay_queue::finish_upgrade(broker, startup.startup_timeout, ROOM_FOR).await?;
        info!("queues and exchanges are declared; transactions.batch takes chunks from assay.chunks only");
        match deleted.as_slice() {
            [] => info!("there were no delay queues of versions up to 0.1"),
            deleted => info!("deleted the delay queues of versions up to 0.1: {}", deleted.join(", ")),
        }
    } else {
        assay_queue::declare(broker, startup.startup_timeout).await?;
        info!("queues and exchanges are declared");
    }
    Ok(Exit::Done)
}
