//! `assay declare`: queues and exchanges, for an installation whose stages may not declare any themselves.

use assay_queue::BrokerOptions;
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use tracing::info;

use crate::error::CommandError;

/// Declare the queues and exchanges in RabbitMQ; safe to repeat
///
/// Each stage does so when it starts, where its user may. Where it may not, this command does it for all of them, once and
/// after each update, as a user who may configure, write and read what begins with assay., transactions. and predictions.,
/// and dead_letters.
#[derive(Debug, Args)]
pub(crate) struct DeclareArguments {
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Declares them.
pub(crate) async fn declare(arguments: &DeclareArguments) -> Result<Exit, CommandError> {
    assay_queue::declare(&arguments.broker, arguments.startup.startup_timeout).await?;
    info!("the queues and exchanges are declared");
    Ok(Exit::Done)
}
