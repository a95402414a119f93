//! `assay repair`: reads the missing chunks of a run from its source again, and publishes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::{Dependencies, LeaseOptions, LeaseOwner, LoadError, RepairCounts, RepairOptions};
use assay_queue::InProcess;
use assay_source::{S3Options, Sources};
use assay_store::Store;
use assay_transaction::{Exit, Run, RunId, RunState, StopKind, parse_duration};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::stages::{StageOptions, poll_until};
use crate::commands::ledger::operator::OperatorOptions;
use crate::commands::ledger::{LedgerOptions, find_run};
use crate::error::CommandError;
use crate::local::{RunningStages, StageCounters};
use crate::output::{FieldList, counted, grouped, print};

/// Publish the missing chunks of a run again, from its source
///
/// For chunks that were lost: a queue was purged, a broker lost its disk, a database was restored from a backup, or a chunk
/// became an unreadable dead letter. Chunks always have the same boundaries, and recorded chunks are ignored, so a repair can
/// be repeated. It needs the same version of the source. Dead letters that kept the run from being complete count as resolved
/// afterwards.
///
/// If AMQP_URL is set, chunks go to that fleet; else predictor and writer run in this process, which waits for them. Exits 0
/// when the missing chunks are published (with --wait: recorded), 3 when a dependency is unreachable, 4 when the source was
/// replaced or cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay repair batch_20260111_100000_3f9a1c --dry-run
  assay repair batch_20260111_100000_3f9a1c --wait --reason 'the queue was purged'")]
pub(crate) struct RepairArguments {
    /// The run
    #[arg(value_name = "RUN")]
    run_id: RunId,
    /// Wait until every chunk of the run is recorded
    #[arg(long)]
    wait: bool,
    /// Longest time of --wait; then exit code 3
    #[arg(long, env = "WAIT_TIMEOUT", default_value = "24h", value_parser = parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repair: RepairOptions,
    #[command(flatten)]
    operator: OperatorOptions,
    #[command(flatten)]
    lease: LeaseOptions,
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    pub(crate) stages: StageOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Repairs a run, or shows what is missing.
pub(crate) async fn repair(arguments: &RepairArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("repair").await?;
    let run = find_run(&*store, &arguments.run_id).await?;
    if run.removal.is_some() {
        return Err(CommandError::RunRemoved(run.run_id, "repaired"));
    }
    let sources = Sources::new(&arguments.s3)?;
    if arguments.repair.dry_run {
        let (broker, progress) = (InProcess::new(1), StageCounters::default());
        let dependencies = dependencies(arguments, sources, Arc::clone(&store), broker);
        let repaired = assay_loader::repair(&dependencies, &run, &arguments.repair, &progress.load, shutdown).await?;
        store.close().await;
        print(&RepairReport::new(&run, repaired, 0, false), arguments.json)?;
        return Ok(Exit::Done);
    }
    let publishing = async |stages: &RunningStages, counters: &StageCounters| {
        publish(arguments, &run, sources, stages, counters, shutdown).await
    };
    let repaired = arguments.stages.with_stages(&arguments.ledger, store, &run, "repair", shutdown, publishing).await?;
    print(&repaired, arguments.json)?;
    Ok(Exit::Done)
}

fn dependencies(
    arguments: &RepairArguments,
    sources: Sources,
    store: Arc<dyn Store>,
    broker: Arc<dyn assay_queue::Broker>,
) -> Dependencies {
    let (startup, drain) = (arguments.ledger.startup.startup_timeout, arguments.stages.shutdown.drain_timeout);
    Dependencies {
        sources,
        store,
        broker,
        startup,
        drain,
        lease_owner: LeaseOwner::new(),
        lease_timeout: arguments.lease.lease_timeout,
        audit: arguments.operator.audit_context(),
    }
}

/// Publishes the missing chunks. Waits until they are recorded if requested, or if the stages are in this process.
async fn publish(
    arguments: &RepairArguments,
    run: &Run,
    sources: Sources,
    stages: &RunningStages,
    progress: &StageCounters,
    shutdown: &CancellationToken,
) -> Result<RepairReport, CommandError> {
    let store = stages.store();
    let dependencies = dependencies(arguments, sources, Arc::clone(store), Arc::clone(stages.broker()));
    // Read before publishing: a letter that arrives meanwhile may be a chunk of this repair.
    let letters = store.open_dead_letters(&run.run_id).await?;
    let repaired = assay_loader::repair(&dependencies, run, &arguments.repair, &progress.load, shutdown).await?;
    let resolved = store.resolve_dead_letters(&letters).await?;
    let is_changed = repaired.chunks_missing > 0 || resolved > 0 || run.state == RunState::Loading;
    if is_changed {
        let details = json!({
            "chunks_published": repaired.chunks_missing,
            "rows_published": repaired.rows_missing,
            "dead_letters_resolved": resolved,
        });
        store.record_operation("repair", Some(&run.run_id), Some(&details), &dependencies.audit).await?;
    }
    let waits = arguments.wait || stages.are_local();
    if waits {
        wait_until_recorded(&**store, &run.run_id, repaired.sealed.chunks_total, arguments.wait_timeout, shutdown)
            .await?;
    }
    Ok(RepairReport::new(run, repaired, resolved, waits))
}

/// Waits until every chunk is recorded and the run is finished.
async fn wait_until_recorded(
    store: &dyn Store,
    run_id: &RunId,
    chunks: u64,
    timeout: Duration,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    poll_until(timeout, shutdown, CommandError::RepairStopped(run_id.clone()), async || {
        let recorded = store.progress(run_id).await?.chunks_recorded;
        let is_finished = store.run(run_id).await?.is_some_and(|run| run.state.is_finished());
        let letters = store.blocking_dead_letters(run_id).await?;
        if is_finished && recorded >= chunks {
            return Ok(Ok(()));
        }
        if letters > 0 {
            return Err(LoadError::Stalled { run_id: run_id.clone(), letters }.into());
        }
        Ok(Err(CommandError::RepairTimeout { run_id: run_id.clone(), recorded, chunks }))
    })
    .await
}

/// What was missing and published.
#[derive(Debug, Serialize)]
struct RepairReport {
    run_id: RunId,
    chunks_missing: u64,
    rows_missing: u64,
    is_published: bool,
    is_recorded: bool,
    chunks_total: u64,
    rows_read: u64,
    dead_letters_resolved: u64,
    /// How the run ends early, if it was ordered to and has not ended yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<StopKind>,
}

impl RepairReport {
    fn new(run: &Run, repaired: RepairCounts, dead_letters_resolved: u64, is_recorded: bool) -> Self {
        Self {
            run_id: run.run_id.clone(),
            chunks_missing: repaired.chunks_missing,
            rows_missing: repaired.rows_missing,
            is_published: repaired.is_published,
            is_recorded,
            chunks_total: repaired.sealed.chunks_total,
            rows_read: repaired.sealed.rows_read,
            dead_letters_resolved,
            ending: run.stop.as_ref().filter(|_| !run.state.is_finished()).map(|stop| stop.kind),
        }
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "run {}", self.run_id)?;
        let mut fields = FieldList::default();
        let source = counted(self.rows_read, "row", "rows");
        fields.add("source", format!("{source} in {}", counted(self.chunks_total, "chunk", "chunks")));
        let missing = match self.chunks_missing {
            0 => "nothing".to_owned(),
            chunks => {
                format!("{} in {}", counted(self.rows_missing, "row", "rows"), counted(chunks, "chunk", "chunks"))
            }
        };
        fields.add("missing", missing);
        if self.dead_letters_resolved > 0 {
            fields.add("dead letters", format!("{} resolved", grouped(self.dead_letters_resolved)));
        }
        fields.fmt(out)?;
        match (self.chunks_missing > 0, self.is_published, self.is_recorded) {
            (true, false, _) => writeln!(out, "nothing was published (--dry-run)"),
            (true, true, _) if let Some(kind) = self.ending => writeln!(
                out,
                "published again; as the run ends early, the rows fail with class {}: `assay replay {}` scores them after all",
                kind.as_str(),
                self.run_id
            ),
            (true, true, false) => writeln!(
                out,
                "published again for predictors and writers: `assay status {}` shows progress",
                self.run_id
            ),
            (true, true, true) => {
                writeln!(out, "published again and recorded: `assay audit {}` verifies it", self.run_id)
            }
            (false, ..) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;
    use assay_transaction::{SealedTotals, StopOrder};

    fn report(chunks_missing: u64, is_published: bool, is_recorded: bool) -> String {
        let sealed = SealedTotals { rows_read: 1_000, chunks_total: 10, amount: None };
        let repaired = RepairCounts { chunks_missing, rows_missing: chunks_missing * 100, is_published, sealed };
        RepairReport::new(&example(), repaired, chunks_missing / 2, is_recorded).to_string()
    }

    #[test]
    fn the_report_shows_what_was_missing() {
        assert_eq!(
            report(2, true, true),
            "\
run batch_20260111_100000_3f9a1c
  source        1,000 rows in 10 chunks
  missing       200 rows in 2 chunks
  dead letters  1 resolved
published again and recorded: `assay audit batch_20260111_100000_3f9a1c` verifies it
"
        );
        assert!(report(2, true, false).ends_with("`assay status batch_20260111_100000_3f9a1c` shows progress\n"));
        assert!(
            report(1, false, false).ends_with("  missing  100 rows in 1 chunk\nnothing was published (--dry-run)\n")
        );
        assert!(report(0, true, true).ends_with("  missing  nothing\n"));
        let stop = StopOrder { kind: StopKind::Cancelled, reason: "mistake".into(), at: example().started_at };
        let cancelled = Run { state: RunState::Sealed, stop: Some(stop), ..example() };
        let sealed = SealedTotals { rows_read: 1_000, chunks_total: 10, amount: None };
        let repaired = RepairCounts { chunks_missing: 1, rows_missing: 100, is_published: true, sealed };
        let text = RepairReport::new(&cancelled, repaired, 0, false).to_string();
        assert!(text.contains("as the run ends early, the rows fail with class cancelled"), "{text}");
    }

    #[test]
    fn its_json_is_pinned() {
        let sealed = SealedTotals { rows_read: 1_000, chunks_total: 10, amount: None };
        let repaired = RepairCounts { chunks_missing: 2, rows_missing: 200, is_published: true, sealed };
        crate::output::pin_json("repair", &RepairReport::new(&example(), repaired, 1, true));
    }
}
