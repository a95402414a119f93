//! Several sources in one invocation: found, filtered, and loaded `MAX_LOADS` at a time.
//!
//! Each has its own run. A broken source does not prevent the load of others.

pub(crate) mod report;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use assay_source::{NamedSource, SourcePattern, SourceUrl, Sources};
use assay_store::{SourceState, Store};
use assay_telemetry::{Failure as _, in_run_span, several_runs_span};
use assay_transaction::{Exit, SourceIdentity};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use crate::retry::retry_source;
use crate::{Dependencies, LoadError, LoadOptions, LoadProgress, LoadSummary, WaitOptions, run};

/// Sources whose versions are queried concurrently.
const CONCURRENT_LOOKUPS: usize = 16;

/// Options of a load of several sources.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct ManySourcesOptions {
    /// Sources loaded concurrently
    #[arg(long, env = "MAX_LOADS", default_value = "2", value_name = "SOURCES")]
    pub max_loads: NonZeroUsize,
    /// Load only sources that no run has read
    #[arg(long, conflicts_with = "force")]
    pub new: bool,
}

/// Result of one source, or of a pattern that found none.
#[derive(Debug)]
pub struct SourceResult {
    /// The URL, or the pattern as given.
    pub name: String,
    /// Its run as recorded in the ledger, or why it failed.
    pub ended: Result<LoadSummary, LoadError>,
}

impl SourceResult {
    /// Its error, with its name.
    pub fn broken(&self) -> Option<String> {
        let error = self.ended.as_ref().err()?.to_string();
        Some(if error.contains(&self.name) { error } else { format!("{}: {error}", self.name) })
    }

    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match &self.ended {
            Ok(ended) => ended.exit(),
            Err(error) => error.exit(),
        }
    }

    fn is_begun(&self) -> bool {
        !matches!(self.ended, Err(LoadError::StoppedBeforeStart))
    }
}

/// The sources to load, and the patterns that failed.
#[derive(Debug)]
pub struct SelectedSources {
    urls: Vec<SourceUrl>,
    broken: Vec<SourceResult>,
}

impl SelectedSources {
    /// Whether there is one source and nothing else to report.
    pub fn is_single(&self) -> bool {
        self.urls.len() == 1 && self.broken.is_empty()
    }
}

/// The most serious exit code of several sources: errors that a restart may solve, then wrong settings, unreadable sources and
/// failed rows.
pub fn worst_exit(ended: &[SourceResult]) -> Exit {
    let gravity = |exit: &Exit| match exit {
        Exit::Done => 0,
        Exit::FailedRows => 1,
        Exit::SourceUnreadable => 2,
        Exit::Usage => 3,
        Exit::DependencyUnavailable => 4,
    };
    ended.iter().map(SourceResult::exit).max_by_key(gravity).unwrap_or(Exit::Done)
}

/// The sources that the patterns match, each once, and the patterns that failed. A single pattern that fails is an error.
/// Waits for an unreachable S3.
pub async fn find_sources(
    sources: &Sources,
    patterns: &[SourcePattern],
    startup: Duration,
) -> Result<(Vec<NamedSource>, Vec<SourceResult>), LoadError> {
    let (mut found, mut seen, mut broken) = (Vec::new(), HashSet::new(), Vec::new());
    for pattern in patterns {
        match retry_source(&pattern.to_string(), startup, || Box::pin(sources.expand(pattern))).await {
            Ok(named) => found.extend(named.into_iter().filter(|named| seen.insert(named.url.clone()))),
            Err(error) if patterns.len() == 1 => return Err(error.into()),
            Err(error) => broken.push(SourceResult { name: pattern.to_string(), ended: Err(error.into()) }),
        }
    }
    Ok((found, broken))
}

/// Leaves out manifests and, with `--new`, sources that a run has read. Rejects several sources for one run name.
pub async fn select_sources(
    sources: &Sources,
    store: &dyn Store,
    (mut found, broken): (Vec<NamedSource>, Vec<SourceResult>),
    load: &LoadOptions,
    many: &ManySourcesOptions,
) -> Result<SelectedSources, LoadError> {
    found.retain(|named| !load.totals.is_manifest(&named.url));
    if found.len() > 1 && load.batch_run_id.is_some() {
        return Err(LoadError::RunNameForSeveral { sources: found.len() });
    }
    if !many.new {
        return Ok(SelectedSources { urls: found.into_iter().map(|named| named.url).collect(), broken });
    }
    let total = found.len();
    let identified = stream::iter(found).map(|named| identified(sources, named));
    let identified: Vec<_> = identified.buffered(CONCURRENT_LOOKUPS).collect().await;
    let known: Vec<_> = identified.iter().filter_map(|(_, identity)| identity.clone()).collect();
    // A source whose run is still loading is resumed.
    let mut unread = store.source_states(&known).await?.into_iter().map(|known| known != SourceState::Read);
    // A source that cannot be identified is loaded, which reports the error.
    let mut is_new = |identity: &Option<SourceIdentity>| identity.is_none() || unread.next().unwrap_or(true);
    let urls: Vec<_> = identified.into_iter().filter(|(_, identity)| is_new(identity)).map(|(url, _)| url).collect();
    info!("{} of {total} sources are new", urls.len());
    Ok(SelectedSources { urls, broken })
}

async fn identified(
    sources: &Sources,
    NamedSource { url, version }: NamedSource,
) -> (SourceUrl, Option<SourceIdentity>) {
    let identity = match version {
        Some(version) => Some(SourceIdentity { location: url.to_string(), version }),
        None => sources.identify(&url).await.ok().map(|found| found.identity),
    };
    (url, identity)
}

/// Loads the selected sources. The error of a single source is returned, that of one of several is part of the result.
pub async fn run_sources(
    dependencies: &Dependencies,
    selected: SelectedSources,
    options: &LoadOptions,
    wait: &WaitOptions,
    max_loads: NonZeroUsize,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Result<Vec<SourceResult>, LoadError> {
    let SelectedSources { urls, broken: mut ended } = selected;
    if let ([source], []) = (&urls[..], &ended[..]) {
        let loaded = run(dependencies, source, options, wait, progress, shutdown).await?;
        return Ok(vec![SourceResult { name: source.to_string(), ended: Ok(loaded) }]);
    }
    ended.extend(run_many(dependencies, urls, options, wait, max_loads, progress, shutdown).await);
    Ok(ended)
}

/// Loads sources concurrently. Begins no more of them after a shutdown.
pub async fn run_many(
    dependencies: &Dependencies,
    sources: Vec<SourceUrl>,
    options: &LoadOptions,
    wait: &WaitOptions,
    max_loads: NonZeroUsize,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Vec<SourceResult> {
    let loads = stream::iter(sources.into_iter().enumerate()).map(|(at, url)| async move {
        let progress = Arc::new(LoadProgress::part_of(Arc::clone(progress)));
        let name = url.to_string();
        if shutdown.is_cancelled() {
            return (at, SourceResult { name, ended: Err(LoadError::StoppedBeforeStart) });
        }
        let loading = Box::pin(run(dependencies, &url, options, wait, &progress, shutdown));
        let mut ended = loading.instrument(several_runs_span()).await;
        match &mut ended {
            Ok(ended) => refresh(&*dependencies.store, ended).await,
            Err(LoadError::StoppedBeforeStart) => {}
            // The summary may come hours later.
            Err(error) => warn!("not loaded: {error}"),
        }
        (at, SourceResult { name, ended })
    });
    let mut ended: Vec<_> = loads.buffer_unordered(max_loads.get()).collect().await;
    ended.sort_by_key(|(at, _)| *at);
    ended.into_iter().map(|(_, ended)| ended).collect()
}

/// Reads the run from the ledger again: it was read when it began.
async fn refresh(store: &dyn Store, ended: &mut LoadSummary) {
    if let Ok(Some(run)) = store.run(&ended.run.run_id).await {
        ended.run = run;
    }
}

/// Logs the results of several sources.
pub fn log_summary(ended: &[SourceResult]) {
    let (mut loaded, mut before, mut failed, mut rows) = (0_u64, 0_u64, 0_u64, 0_u64);
    for source in ended.iter().filter(|source| source.is_begun()) {
        let Ok(LoadSummary { run, already_loaded, copy, warnings, .. }) = &source.ended else {
            failed += 1;
            error!("{}", source.broken().unwrap_or_default());
            continue;
        };
        let read = run.sealed.map_or(0, |sealed| sealed.rows_read);
        let when = match (already_loaded, copy) {
            (true, Some(_)) => format!(", loaded before as {} (same content)", run.source.location),
            (true, None) => ", loaded before".to_owned(),
            (false, _) => String::new(),
        };
        let (run_id, state) = (&run.run_id, run.state.as_phrase());
        in_run_span(run_id, || info!("{}: run {run_id} {state}, {read} rows{when}", source.name));
        for remark in warnings.lines() {
            warn!("{}: {remark}", source.name);
        }
        if *already_loaded {
            before += 1;
        } else {
            loaded += 1;
            rows += read;
        }
    }
    let not_begun = ended.iter().filter(|source| !source.is_begun()).count();
    let rest = if not_begun > 0 { format!(", {not_begun} not begun") } else { String::new() };
    info!("{} sources: {loaded} loaded with {rows} rows, {before} loaded before, {failed} broken{rest}", ended.len());
}
