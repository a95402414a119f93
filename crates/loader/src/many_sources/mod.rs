//! Several sources in one invocation: found, told from those that were read before, and loaded some at a time.
//!
//! Each has a run of its own, as [`run`](crate::run) gives it. One that is broken keeps no other from being loaded.

pub(crate) mod report;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use assay_source::{Named, SourcePattern, SourceUrl, Sources};
use assay_store::{Known, Store};
use assay_telemetry::{Failure as _, about_run, one_of_several};
use assay_transaction::{Exit, SourceIdentity};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use crate::patience::until_reached;
use crate::{Dependencies, Ended, LoadError, LoadOptions, LoadProgress, WaitOptions, run};

/// Sources that are asked for their versions at a time.
const IDENTIFIED_TOGETHER: usize = 16;

/// How several sources are loaded.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct ManyOptions {
    /// Sources that are loaded at a time, where there are several
    #[arg(long, env = "MAX_LOADS", default_value = "2", value_name = "SOURCES")]
    pub max_loads: NonZeroUsize,
    /// Load only those of the sources that no run has read
    #[arg(long, conflicts_with = "force")]
    pub new: bool,
}

/// A source, or a pattern that found none, and what became of it.
#[derive(Debug)]
pub struct SourceEnded {
    /// As it was found, or as it was given.
    pub name: String,
    /// Its run as the ledger knows it by now, or why there is none to speak of.
    pub ended: Result<Ended, LoadError>,
}

impl SourceEnded {
    /// Its name with what is wrong, which may begin with it.
    pub fn broken(&self) -> Option<String> {
        let error = self.ended.as_ref().err()?.to_string();
        Some(if error.contains(&self.name) { error } else { format!("{}: {error}", self.name) })
    }

    /// What a scheduler is told of it.
    pub fn exit(&self) -> Exit {
        match &self.ended {
            Ok(ended) => ended.exit(),
            Err(error) => error.exit(),
        }
    }

    fn is_begun(&self) -> bool {
        !matches!(self.ended, Err(LoadError::NotBegun))
    }
}

/// What a scheduler is told of several: the gravest. What may go well when it is started again comes first, then wrong
/// settings, a source that cannot be read, and failed rows.
pub fn gravest(ended: &[SourceEnded]) -> Exit {
    let gravity = |exit: &Exit| match exit {
        Exit::Done => 0,
        Exit::FailedRows => 1,
        Exit::SourceUnreadable => 2,
        Exit::Usage => 3,
        Exit::DependencyAway => 4,
    };
    ended.iter().map(SourceEnded::exit).max_by_key(gravity).unwrap_or(Exit::Done)
}

/// The sources that are named, each once, and what is to be said of patterns that found none. Where there is but one
/// pattern, that is an error. An S3 that is away is waited for.
pub async fn find(
    sources: &Sources,
    patterns: &[SourcePattern],
    startup: Duration,
) -> Result<(Vec<Named>, Vec<SourceEnded>), LoadError> {
    let (mut found, mut seen, mut broken) = (Vec::new(), HashSet::new(), Vec::new());
    for pattern in patterns {
        match until_reached(&pattern.to_string(), startup, || Box::pin(sources.expand(pattern))).await {
            Ok(named) => found.extend(named.into_iter().filter(|named| seen.insert(named.url.clone()))),
            Err(error) if patterns.len() == 1 => return Err(error.into()),
            Err(error) => broken.push(SourceEnded { name: pattern.to_string(), ended: Err(error.into()) }),
        }
    }
    Ok((found, broken))
}

/// Leaves out what a run has read, where only new sources are asked for; checks that there are not several for one name.
pub async fn choose(
    sources: &Sources,
    store: &dyn Store,
    mut found: Vec<Named>,
    load: &LoadOptions,
    many: &ManyOptions,
) -> Result<Vec<SourceUrl>, LoadError> {
    found.retain(|named| !load.totals.is_manifest(&named.url));
    if found.len() > 1 && load.batch_run_id.is_some() {
        return Err(LoadError::OneName { sources: found.len() });
    }
    if !many.new {
        return Ok(found.into_iter().map(|named| named.url).collect());
    }
    let total = found.len();
    let identified = stream::iter(found).map(|named| identified(sources, named));
    let identified: Vec<_> = identified.buffered(IDENTIFIED_TOGETHER).collect().await;
    let known: Vec<_> = identified.iter().filter_map(|(_, identity)| identity.clone()).collect();
    // One whose run is still loading, or was left so, is to go on.
    let mut unread = store.known(&known).await?.into_iter().map(|known| known != Known::Read);
    // What cannot be identified is tried, and then says why.
    let mut is_new = |identity: &Option<SourceIdentity>| identity.is_none() || unread.next().unwrap_or(true);
    let new: Vec<_> = identified.into_iter().filter(|(_, identity)| is_new(identity)).map(|(url, _)| url).collect();
    info!("{} of {total} sources are new", new.len());
    Ok(new)
}

async fn identified(sources: &Sources, Named { url, version }: Named) -> (SourceUrl, Option<SourceIdentity>) {
    let identity = match version {
        Some(version) => Some(SourceIdentity { location: url.to_string(), version }),
        None => sources.identify(&url).await.ok().map(|found| found.identity),
    };
    (url, identity)
}

/// Loads sources, some at a time. What was not begun when a shutdown came is not begun any more.
pub async fn run_many(
    dependencies: &Dependencies,
    sources: Vec<SourceUrl>,
    options: &LoadOptions,
    wait: &WaitOptions,
    max_loads: NonZeroUsize,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Vec<SourceEnded> {
    let loads = stream::iter(sources.into_iter().enumerate()).map(|(at, url)| async move {
        let progress = Arc::new(LoadProgress::part_of(Arc::clone(progress)));
        let name = url.to_string();
        if shutdown.is_cancelled() {
            return (at, SourceEnded { name, ended: Err(LoadError::NotBegun) });
        }
        let loading = Box::pin(run(dependencies, &url, options, wait, &progress, shutdown));
        let mut ended = loading.instrument(one_of_several()).await;
        match &mut ended {
            Ok(ended) => refresh(&*dependencies.store, ended).await,
            Err(LoadError::NotBegun) => {}
            // The summary may be hours away.
            Err(error) => warn!("not loaded: {error}"),
        }
        (at, SourceEnded { name, ended })
    });
    let mut ended: Vec<_> = loads.buffer_unordered(max_loads.get()).collect().await;
    ended.sort_by_key(|(at, _)| *at);
    ended.into_iter().map(|(_, ended)| ended).collect()
}

/// The run as it is in the ledger by now: it began with nothing read.
async fn refresh(store: &dyn Store, ended: &mut Ended) {
    if let Ok(Some(run)) = store.run(&ended.run.run_id).await {
        ended.run = run;
    }
}

/// Says in the log what became of several sources.
pub fn log_summary(ended: &[SourceEnded]) {
    let (mut loaded, mut before, mut failed, mut rows) = (0_u64, 0_u64, 0_u64, 0_u64);
    for source in ended.iter().filter(|source| source.is_begun()) {
        let Ok(Ended { run, already_loaded, copy, remarks, .. }) = &source.ended else {
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
        let (run_id, state) = (&run.run_id, run.state.in_words());
        about_run(run_id, || info!("{}: run {run_id} {state}, {read} rows{when}", source.name));
        for remark in remarks.lines() {
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
