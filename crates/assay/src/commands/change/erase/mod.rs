//! `assay erase`: deletes everything that is stored under given ids.
//!
//! `lists` reads the ids, `search` finds where they are, `report` says what was done. Neither logs, nor errors, nor the table of
//! operations hold any of them.

mod lists;
mod report;
mod search;

use std::collections::HashMap;
use std::path::PathBuf;

use assay_store::{ChunkPlace, ErasureCounts, MAX_ERASED, Store};
use assay_transaction::{Exit, RunId};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use self::report::ErasureReport;
use self::search::Found;
use super::steps;
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::operator::ConfirmOptions;
use crate::error::CommandError;
use crate::output::{counted, grouped, print};

/// Ids that are listed as erased together.
const LISTED: usize = 50_000;
/// Progress is logged after this many ids.
const LOG_EVERY_IDS: usize = 10_000;

/// Delete everything that is stored under given ids
///
/// For a customer's wish to be forgotten. Takes a list of transaction ids, stored UUIDs or ids of the source, one a line, from a file
/// or stdin: not as arguments, which would stay in the history of the shell. Reaches transactions, predictions, replaced contents,
/// payloads of failed rows, invalid rows that parse to such an id, dead letters, and names of live messages. A row that cannot be
/// read is named in a list of RUN:ROW lines.
///
/// Each row keeps its number: it counts as failed with class erased, and cannot be replayed, so the row accounting stays complete. An
/// erased id is refused from then on: a message in a queue, or a new load of the source, brings nothing of it back. The table of
/// operations records who, when, why and how many, and no id.
///
/// Works in small steps while loads go on, and can be stopped: the same command with the same list takes the rest. Repeat it once
/// the runs that it names as unfinished are done.
///
/// Exits 0 when everything found is erased; 2 if a list cannot be read, or without a confirmation; 3 when the database is
/// unreachable, or the command was stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay erase ids.txt --dry-run
  assay erase ids.txt --reason 'request 4711' --yes
  assay erase - --reason 'request 4711' --yes < ids.txt
  assay erase --rows rows.txt --reason 'request 4711' --yes")]
pub(crate) struct EraseArguments {
    /// File of ids, one a line; - for stdin
    #[arg(value_name = "FILE", required_unless_present = "rows")]
    ids: Option<PathBuf>,
    /// File of rows, one a line as RUN:ROW: erases the transaction of each, or the row itself if it is invalid
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Only show what would be erased
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: ConfirmOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Erases what the lists name, or shows what that would do.
pub(crate) async fn erase(arguments: &EraseArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let ids = arguments.ids.as_deref().map(lists::read_ids).transpose()?.unwrap_or_default();
    let rows = arguments.rows.as_deref().map(lists::read_rows).transpose()?.unwrap_or_default();
    let store = arguments.ledger.open("erase").await?;
    let report = async {
        let search = shutdown.run_until_cancelled(search::search(&*store, &ids, &rows));
        let found = search.await.ok_or_else(stopped)??;
        carry_out(&*store, arguments, (ids.len(), rows.len()), found, shutdown).await
    };
    let report = report.await;
    store.close().await;
    print(&report?, arguments.json)?;
    Ok(Exit::Done)
}

async fn carry_out(
    store: &dyn Store,
    arguments: &EraseArguments,
    (id_lines, row_lines): (usize, usize),
    found: Found,
    shutdown: &CancellationToken,
) -> Result<ErasureReport, CommandError> {
    let ids: Vec<Uuid> = found.ids.iter().copied().collect();
    let planned = plan(store, &ids, &found).await?;
    let unfinished = store.open_runs().await?.into_iter().map(|open| open.run.run_id).collect();
    let mut report = ErasureReport::new((id_lines, row_lines), &found, planned, unfinished);
    if arguments.dry_run {
        return Ok(report);
    }
    let context = arguments.confirm.ask(&format!("Erase {}?", report.question()))?;
    let details = json!({ "ids": id_lines, "rows": row_lines });
    let operation = store.begin_operation("erase", &details, &context).await?;
    let refused: Vec<Uuid> = found.ids.union(&found.expected).copied().collect();
    for group in refused.chunks(LISTED) {
        steps::take(shutdown, stopped, async || store.refuse_ids(operation, group).await).await?;
    }
    // Again, as a writer may have met one of them until now.
    let places = duplicates(store, &ids).await?;
    let mut erased = ErasureCounts::default();
    for (at, group) in ids.chunks(MAX_ERASED).enumerate() {
        let places = places_of(&places, group);
        erased += steps::take(shutdown, stopped, async || store.erase_ids(operation, group, &places).await).await?;
        let done = (at + 1) * MAX_ERASED;
        if done.is_multiple_of(LOG_EVERY_IDS) {
            info!("Erased {} of {}", grouped(done as u64), counted(ids.len() as u64, "id", "ids"));
        }
    }
    let rows: Vec<(RunId, u64)> = found.rows.iter().cloned().collect();
    for group in rows.chunks(MAX_ERASED) {
        erased += steps::take(shutdown, stopped, async || store.erase_rows(operation, group).await).await?;
    }
    let letters: Vec<u64> = found.letters.iter().copied().collect();
    for group in letters.chunks(MAX_ERASED) {
        erased += steps::take(shutdown, stopped, async || store.erase_letters(operation, group).await).await?;
    }
    report.done(operation, erased);
    Ok(report)
}

fn stopped() -> CommandError {
    CommandError::ErasureStopped
}

/// What would be erased.
async fn plan(store: &dyn Store, ids: &[Uuid], found: &Found) -> Result<ErasureCounts, CommandError> {
    let places = duplicates(store, ids).await?;
    let mut planned = ErasureCounts {
        invalid: found.rows.len() as u64,
        dead_letters: found.letters.len() as u64,
        ..ErasureCounts::default()
    };
    for group in ids.chunks(MAX_ERASED) {
        planned += store.plan_erasure(group, &places_of(&places, group)).await?;
    }
    Ok(planned)
}

/// The chunks in which rows count as duplicates of transactions, by transaction.
type DuplicatePlaces = HashMap<Uuid, Vec<ChunkPlace>>;

async fn duplicates(store: &dyn Store, ids: &[Uuid]) -> Result<DuplicatePlaces, CommandError> {
    let (mut places, mut after) = (DuplicatePlaces::new(), None);
    if ids.is_empty() {
        return Ok(places);
    }
    loop {
        let (found, next) = store.find_duplicates(ids, after.as_ref()).await?;
        for (id, place) in found {
            places.entry(id).or_default().push(place);
        }
        if next.is_none() {
            return Ok(places);
        }
        after = next;
    }
}

fn places_of(places: &DuplicatePlaces, ids: &[Uuid]) -> Vec<ChunkPlace> {
    let mut of: Vec<ChunkPlace> = ids.iter().filter_map(|id| places.get(id)).flatten().cloned().collect();
    of.sort();
    of.dedup();
    of
}
