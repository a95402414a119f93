//! `assay declare`: declares queues and exchanges, for stages that are not permitted to.

use assay_queue::BrokerOptions;
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use tracing::info;

use crate::error::CommandError;

/// Declare the queues and exchanges in RabbitMQ; safe to repeat
///
/// Each stage does so at its start, if its user is permitted to. If not, run this command once and after each update, as a
/// user with permission to configure, write and read assay.*, transactions.*, predictions.* and dead_letters.
#[derive(Debug, Args)]
pub(crate) struct DeclareArguments {
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Declares queues and exchanges.
pub(crate) async fn declare(arguments: &DeclareArguments) -> Result<Exit, CommandError> {
    assay_queue::declare(&arguments.broker, arguments.startup.startup_timeout).await?;
    info!("queues and exchanges are declared");
    Ok(Exit::Done)
}
