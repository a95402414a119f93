//! The command line of `assay`. Each command holds its own arguments.

use assay_telemetry::{ColorOption, ConfigOption};
use clap::{Parser, Subcommand};

use crate::commands::change::cancel::CancelArguments;
use crate::commands::change::erase::EraseArguments;
use crate::commands::change::purge::PurgeArguments;
use crate::commands::change::remove::RemoveArguments;
use crate::commands::change::repair::RepairArguments;
use crate::commands::change::replay::ReplayArguments;
use crate::commands::load::generate::GenerateArguments;
use crate::commands::load::inspect::InspectArguments;
use crate::commands::load::put::PutArguments;
use crate::commands::load::run::RunArguments;
use crate::commands::query::audit::AuditArguments;
use crate::commands::query::failures::FailuresArguments;
use crate::commands::query::invalid::InvalidArguments;
use crate::commands::query::operations::OperationsArguments;
use crate::commands::query::report::ReportArguments;
use crate::commands::query::row::RowArguments;
use crate::commands::query::runs::RunsArguments;
use crate::commands::query::status::StatusArguments;
use crate::commands::query::transaction::TransactionArguments;
use crate::commands::setup::completions::CompletionsArguments;
use crate::commands::setup::config::ConfigArguments;
use crate::commands::setup::console::ConsoleArguments;
use crate::commands::setup::declare::DeclareArguments;
use crate::commands::setup::doctor::DoctorArguments;
use crate::commands::setup::health::HealthArguments;
use crate::commands::setup::man::ManArguments;
use crate::commands::setup::migrate::MigrateArguments;
use crate::commands::setup::watch_setup::WatchSetupArguments;

/// Bulk fraud scoring: validates each transaction, scores it with an ML API and stores it exactly once.
#[derive(Debug, Parser)]
#[command(name = "assay", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) config: ConfigOption,
    #[command(flatten)]
    pub(crate) color: ColorOption,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArguments>),
    Inspect(InspectArguments),
    Runs(RunsArguments),
    Status(StatusArguments),
    Row(RowArguments),
    Transaction(TransactionArguments),
    Audit(AuditArguments),
    Failures(FailuresArguments),
    Invalid(InvalidArguments),
    Replay(Box<ReplayArguments>),
    Repair(Box<RepairArguments>),
    Cancel(CancelArguments),
    Remove(RemoveArguments),
    Purge(PurgeArguments),
    Erase(EraseArguments),
    Operations(OperationsArguments),
    Report(ReportArguments),
    Console(Box<ConsoleArguments>),
    Generate(GenerateArguments),
    Migrate(MigrateArguments),
    Declare(DeclareArguments),
    Put(PutArguments),
    Health(HealthArguments),
    Config(ConfigArguments),
    Doctor(Box<DoctorArguments>),
    WatchSetup(Box<WatchSetupArguments>),
    Completions(CompletionsArguments),
    Man(ManArguments),
}
