//! The beginning of a load: identifies the source, settles its dialect, and begins or resumes its run in the ledger.

use std::time::Duration;

use assay_source::{FormatOptions, FoundSource, Inspection, SourceError, SourceUrl, Sources};
use assay_store::{AuditContext, Lease, LeaseAttempt, NewRun, RunStart, Store, StoreError};
use assay_telemetry::record_run_id;
use assay_transaction::{Checkpoint, Decision, Run, RunId, RunSettings, RunState, SourceIdentity, StopKind};
use chrono::{DateTime, Utc};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::load::PassScope;
use crate::load::copies::{FingerprintCache, copy_of, evict_dead_owner, with_path_values};
use crate::load::lease_owner::held_by;
use crate::retry::retry_source;
use crate::{Dependencies, LoadError, LoadOptions};

/// Pause between two attempts to begin a run that another loader holds.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// Earlier runs of a location that are considered.
const MAX_EARLIER_RUNS: u32 = 100;

/// Of run names: digits and letters that are not easily confused.
const NAME_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 50 random bits: among a thousand runs in one second, two names collide once in two thousand million times.
const NAME_CHARACTERS: u32 = 10;

/// What is left to do for a source.
pub(crate) enum LoadPlan {
    /// Read this scope. Only a sealed run has no lease.
    Read(Run, Option<Lease>, PassScope),
    /// Every chunk of the source is confirmed.
    NothingToDo(Run),
    /// A run of another source, or of another version, has the same content.
    Copied(Run),
    /// Another loader holds the run.
    Held {
        /// The run.
        run: Run,
        /// Its lease owner.
        by: String,
        /// Time until its lease expires, unless it is renewed.
        remaining: Duration,
    },
}

/// Begins or resumes the run of a source; also returns the size of the source. Waits while another loader holds the run.
pub(crate) async fn begin(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
) -> Result<(LoadPlan, u64), LoadError> {
    let (mut is_logged, mut fingerprints) = (false, FingerprintCache::default());
    loop {
        let found = identify(&dependencies.sources, url, dependencies.startup).await?;
        let size = found.size;
        let plan = begin_found(dependencies, url, found, options, &mut fingerprints).await?;
        let LoadPlan::Held { run, by, remaining } = plan else { return Ok((plan, size)) };
        if !is_logged {
            let Run { run_id, source, .. } = &run;
            let copy = format!("{url} has the same content as {}, which", source.location);
            let what = if source.location == url.to_string() { url.to_string() } else { copy };
            info!(
                "{what} is being loaded by {by}, as run {run_id}: waiting until it is loaded, or that loader is gone"
            );
            is_logged = true;
        }
        tokio::time::sleep(HELD_PAUSE.min(remaining)).await;
    }
}

/// Begins or resumes the run of one version of a source.
pub(crate) async fn begin_found(
    dependencies: &Dependencies,
    url: &SourceUrl,
    found: FoundSource,
    options: &LoadOptions,
    fingerprints: &mut FingerprintCache,
) -> Result<LoadPlan, LoadError> {
    let Dependencies { sources, store, audit, .. } = dependencies;
    let known = store.runs(Some(&found.identity.location), MAX_EARLIER_RUNS).await?;
    let resumable = known.iter().find(|run| run.source == found.identity && is_same(run, options));
    let (settings, fingerprint) = if let Some(run) = resumable {
        // Its settings are frozen.
        (run.settings.clone(), None)
    } else {
        let mapping = options.read.format.mapping.as_deref();
        let of_location = |fingerprint| with_path_values(fingerprint, mapping, &found.identity.location);
        let fingerprint = fingerprints.of(sources, url, &found).await?.map(of_location).transpose();
        let fingerprint = fingerprint.map_err(|error| unusable(url, error.into()))?;
        // Before its head is inspected, which the current settings may be unable to read.
        if let Some(fingerprint) = fingerprint.as_deref().filter(|_| !options.force)
            && let Some(copy) = copy_of(dependencies, fingerprint).await?
        {
            return begun_before(dependencies, url, copy).await;
        }
        (settle(dependencies, url, &found, options, known.first()).await?, fingerprint)
    };
    let new = NewRun { fingerprint, ..new_run(dependencies, found, options, settings) };
    let mut begun = store.begin_run(&new).await?;
    if evict_dead_owner(dependencies, &begun).await? {
        begun = store.begin_run(&new).await?;
    }
    match begun {
        RunStart::Started(run, lease) => {
            let prepare = async {
                // Also if the previous loader died in between.
                abort_runs_of_replaced_source(&**store, &run.source, &known, audit).await?;
                if options.force {
                    store.record_operation("force", Some(&run.run_id), None, audit).await?;
                }
                first_row(&dependencies.sources, url, &run).await
            };
            let first = or_release(dependencies, &lease, prepare.await).await?;
            Ok(plan_to_read(run, Some(lease), PassScope { from: first, until: None, only_missing: false }))
        }
        RunStart::Resumed(run, lease) => {
            let prepare = async {
                abort_runs_of_replaced_source(&**store, &run.source, &known, audit).await?;
                rest(dependencies, url, &run).await
            };
            let scope = or_release(dependencies, &lease, prepare.await).await?;
            Ok(plan_to_read(run, Some(lease), scope))
        }
        begun => begun_before(dependencies, url, begun).await,
    }
}

/// What is left to do if no run begins or resumes.
async fn begun_before(dependencies: &Dependencies, url: &SourceUrl, begun: RunStart) -> Result<LoadPlan, LoadError> {
    let survives_restart = dependencies.broker.survives_restart();
    match begun {
        RunStart::Held { run, by, remaining } => Ok(LoadPlan::Held { run, by, remaining }),
        RunStart::Copied(run) => Ok(LoadPlan::Copied(run)),
        // Chunks that were not recorded died with their in-process broker.
        RunStart::AlreadyLoaded(run) if !is_durable(&run, survives_restart) && !run.state.is_finished() => {
            let scope = rest(dependencies, url, &run).await?;
            Ok(plan_to_read(run, None, scope))
        }
        RunStart::Started(run, _) | RunStart::Resumed(run, _) | RunStart::AlreadyLoaded(run) => {
            Ok(LoadPlan::NothingToDo(run))
        }
    }
}

/// Takes over a run that has lost its loader. Aborts it if its source was replaced. None if there is nothing left to load.
pub(crate) async fn take_over(
    dependencies: &Dependencies,
    run_id: &RunId,
) -> Result<Option<(SourceUrl, LoadPlan)>, LoadError> {
    let Dependencies { store, lease_owner, lease_timeout, .. } = dependencies;
    match held_by(&**store, run_id).await? {
        // This process loads it.
        Some(by) if by == lease_owner.to_string() => return Ok(None),
        Some(by) if lease_owner.outlives(&by) => store.evict(run_id, &by).await?,
        _ => {}
    }
    let LeaseAttempt::Granted(run, lease) = store.take_lease(run_id, &lease_owner.to_string(), *lease_timeout).await?
    else {
        return Ok(None);
    };
    let prepare = async {
        let url: SourceUrl = run.source.location.parse()?;
        let reason = match dependencies.sources.identify(&url).await {
            Ok(found) if found.identity == run.source => {
                let scope = rest(dependencies, &url, &run).await?;
                return Ok(Some((url, scope)));
            }
            Ok(_) => format!("its source was replaced: version {} is gone", run.source.version),
            Err(SourceError::NoObject { .. }) => "its source is gone".to_owned(),
            Err(error) => return Err(error.into()),
        };
        warn!("run {run_id} is aborted: {reason}");
        store.order_stop(run_id, StopKind::Aborted, &reason, &dependencies.audit).await?;
        store.release_lease(&lease).await?;
        store.seal_stopped(run_id).await?;
        Ok(None)
    };
    let taken = or_release(dependencies, &lease, prepare.await).await?;
    Ok(taken.map(|(url, scope)| (url, plan_to_read(run, Some(lease), scope))))
}

/// Releases the lease if the load cannot be prepared, so that others can try.
async fn or_release<T>(
    dependencies: &Dependencies,
    lease: &Lease,
    prepared: Result<T, LoadError>,
) -> Result<T, LoadError> {
    if prepared.is_err()
        && let Err(error) = dependencies.store.release_lease(lease).await
    {
        debug!("the lease of run {} is left to expire: {error}", lease.run_id);
    }
    prepared
}

/// A new run, without a fingerprint.
pub(crate) fn new_run(
    dependencies: &Dependencies,
    found: FoundSource,
    options: &LoadOptions,
    settings: RunSettings,
) -> NewRun {
    NewRun {
        run_id: options.batch_run_id.clone().unwrap_or_else(|| run_name(Utc::now(), Uuid::new_v4())),
        explicit_id: options.batch_run_id.is_some(),
        source: found.identity,
        settings,
        force: options.force,
        source_bytes: Some(found.size),
        fingerprint: None,
        owner: dependencies.lease_owner.to_string(),
        lease: dependencies.lease_timeout,
    }
}

/// What is left to read of a run that began before.
async fn rest(dependencies: &Dependencies, url: &SourceUrl, run: &Run) -> Result<PassScope, LoadError> {
    let is_durable = is_durable(run, dependencies.broker.survives_restart());
    let from = if is_durable && run.checkpoint.chunk > 0 {
        run.checkpoint
    } else {
        first_row(&dependencies.sources, url, run).await?
    };
    Ok(PassScope { from, until: None, only_missing: !is_durable })
}

/// Whether chunks that were published before are still on the broker.
pub(crate) fn is_durable(run: &Run, survives_restart: bool) -> bool {
    run.settings.durable_broker && survives_restart
}

/// Logs what is read, and how.
fn plan_to_read(run: Run, lease: Option<Lease>, scope: PassScope) -> LoadPlan {
    record_run_id(&run.run_id);
    info!("Pipeline Run ID: {}", run.run_id);
    info!("Loading {}", run.source.location);
    let decided: Vec<String> = run.settings.decisions.iter().map(Decision::to_string).collect();
    if !decided.is_empty() {
        info!("read with {}", decided.join(", "));
    }
    if scope.from.at.row > 1 {
        info!("resuming at row {}, where the previous loader stopped", scope.from.at.row);
    }
    LoadPlan::Read(run, lease, scope)
}

/// Whether these options mean this run of the same source, and it was not given up.
fn is_same(run: &Run, options: &LoadOptions) -> bool {
    let is_meant = options.batch_run_id.as_ref() == Some(&run.run_id) || !options.force;
    is_meant
        && run.removal.is_none()
        && run.error.is_none()
        && !matches!(run.state, RunState::Failed | RunState::Cancelled)
}

/// The first row of a run's source. Runs of earlier versions do not record it: then the head of the source is inspected.
pub(crate) async fn first_row(sources: &Sources, url: &SourceUrl, run: &Run) -> Result<Checkpoint, LoadError> {
    if let Some(start) = run.settings.start {
        return Ok(Checkpoint::first(start));
    }
    let found = FoundSource { identity: run.source.clone(), size: run.source_bytes.unwrap_or_default() };
    let inspected = inspect(sources, url, &found, &FormatOptions::of(&run.settings)).await?;
    Ok(Checkpoint::first(inspected.layout.start))
}

/// The current version of the source. Waits for an S3 server that is unreachable or still starting.
pub(crate) async fn identify(
    sources: &Sources,
    url: &SourceUrl,
    startup: Duration,
) -> Result<FoundSource, SourceError> {
    retry_source("the source", startup, || sources.identify(url)).await
}

/// The settings that a new run freezes. A location keeps the namespace of its latest run, unless another one is named: the
/// default may change, but its transactions must keep their identity.
async fn settle(
    dependencies: &Dependencies,
    url: &SourceUrl,
    found: &FoundSource,
    options: &LoadOptions,
    latest: Option<&Run>,
) -> Result<RunSettings, LoadError> {
    let format = FormatOptions { trailer: options.totals.trailer.clone(), ..options.read.format.clone() };
    let inspected = inspect(&dependencies.sources, url, found, &format).await?;
    let settings = RunSettings {
        durable_broker: dependencies.broker.survives_restart(),
        budgets: options.budgets(),
        ..options.read.settings(&inspected, found.size, url)
    };
    let namespace = latest.filter(|_| !options.read.names_namespace()).map(|run| run.settings.namespace);
    let settings = RunSettings { namespace: namespace.unwrap_or(settings.namespace), ..settings };
    let (rows, least) = (settings.chunk_rows, options.read.api_batch_size.min(options.read.most_chunk_rows()));
    if rows < least {
        info!(
            "{url} has long rows of many columns: its chunks have {rows} rows, fewer than a request may have ({least})"
        );
    }
    options.totals.freeze(&dependencies.sources, url, settings).await
}

async fn inspect(
    sources: &Sources,
    url: &SourceUrl,
    found: &FoundSource,
    format: &FormatOptions,
) -> Result<Inspection, LoadError> {
    sources.inspect(url, found, format).await.map_err(|cause| unusable(url, cause))
}

fn unusable(url: &SourceUrl, cause: SourceError) -> LoadError {
    LoadError::Layout { location: url.to_string(), cause: Box::new(cause) }
}

/// Aborts the runs of earlier versions of a source that are still loading: nothing can read the rest of these versions.
async fn abort_runs_of_replaced_source(
    store: &dyn Store,
    source: &SourceIdentity,
    known: &[Run],
    audit: &AuditContext,
) -> Result<(), StoreError> {
    // A pipe replaces nothing.
    if source.piped_sha256().is_some() {
        return Ok(());
    }
    let earlier: Vec<&Run> = known.iter().filter(|run| run.source.version != source.version).collect();
    if let Some(latest) = earlier.first() {
        info!("{} has changed since run {}: this version is a new source", source.location, latest.run_id);
    }
    for run in earlier {
        if run.state != RunState::Loading || run.stop.is_some() {
            continue;
        }
        let reason = format!("its source was replaced: version {} is gone", run.source.version);
        warn!("run {} is aborted: {reason}", run.run_id);
        store.order_stop(&run.run_id, StopKind::Aborted, &reason, audit).await?;
    }
    Ok(())
}

/// The default name of a run, such as `batch_20260111_100000_3f9a1c7km2`: the time in UTC, as the earlier job logged it, and
/// random characters, as many loads may begin in one second.
fn run_name(now: DateTime<Utc>, random: Uuid) -> RunId {
    // The last 62 bits of a random UUID are random.
    let digit = |place| NAME_ALPHABET[(random.as_u128() >> (5 * place)) as usize % NAME_ALPHABET.len()];
    let random: String = (0..NAME_CHARACTERS).rev().map(|place| char::from(digit(place))).collect();
    let name = format!("batch_{}_{random}", now.format("%Y%m%d_%H%M%S"));
    name.parse().expect("letters, digits and underscores make a run id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_run_name_has_the_second_and_is_unique() {
        let now = "2026-01-11T10:00:00Z".parse().unwrap();
        let name = run_name(now, Uuid::from_u128(0x3_1f));
        assert_eq!(name.as_str(), "batch_20260111_100000_00000000rz");
        let names: HashSet<_> = (0..100_000).map(|_| run_name(now, Uuid::new_v4())).collect();
        assert_eq!(names.len(), 100_000);
    }
}
