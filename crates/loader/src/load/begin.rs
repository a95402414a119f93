//! The beginning of a load: the source gets an identity, its dialect is settled, and the ledger says which run this is.

use std::time::Duration;

use assay_source::{FormatOptions, Found, Inspected, SourceError, SourceUrl, Sources};
use assay_store::{Begun, Lease, NewRun, Taken};
use assay_telemetry::name_run;
use assay_transaction::{Checkpoint, Decision, Run, RunId, RunSettings, RunState, StopKind};
use chrono::Utc;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::load::PassScope;
use crate::load::copies::{FingerprintCache, copy_of, evict_dead_owner, with_path_values};
use crate::load::lease::abort_runs_of_replaced_source;
use crate::load::lease_owner::held_by;
use crate::load::run_name::run_name;
use crate::patience::until_reached;
use crate::{Dependencies, LoadError, LoadOptions};

/// Between two looks at a run that another loader is at.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// How many earlier runs of a location are looked at.
const KNOWN: u32 = 100;

/// What there is to do.
pub(crate) enum LoadPlan {
    /// Read, as the scope says. Only a run that is sealed already has no lease.
    Read(Run, Option<Lease>, PassScope),
    /// Nothing: every chunk of the source was confirmed before.
    NothingToDo(Run),
    /// Nothing: a run of another source, or of another version, has loaded the same content.
    Copied(Run),
    /// Nothing for now: another loader is at it, which lives.
    Held {
        /// The run.
        run: Run,
        /// Which loader.
        by: String,
        /// How long its lease lasts unless it renews it.
        remaining: Duration,
    },
}

/// Begins the run of a source, or finds the one that has begun; tells the size of the source too. Where another loader is at
/// it, waits until it is loaded, or that loader is gone.
pub(crate) async fn begin(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
) -> Result<(LoadPlan, u64), LoadError> {
    let (mut is_said, mut fingerprints) = (false, FingerprintCache::default());
    loop {
        let found = identify(&dependencies.sources, url, dependencies.startup).await?;
        let size = found.size;
        let plan = begin_found(dependencies, url, found, options, &mut fingerprints).await?;
        let LoadPlan::Held { run, by, remaining } = plan else { return Ok((plan, size)) };
        if !is_said {
            let Run { run_id, source, .. } = &run;
            let copy = format!("{url} has the same content as {}, which", source.location);
            let what = if source.location == url.to_string() { url.to_string() } else { copy };
            info!(
                "{what} is being loaded by {by}, as run {run_id}: waiting until it is loaded, or that loader is gone"
            );
            is_said = true;
        }
        tokio::time::sleep(HELD_PAUSE.min(remaining)).await;
    }
}

/// Begins the run of a version of a source, or finds the one that has begun.
pub(crate) async fn begin_found(
    dependencies: &Dependencies,
    url: &SourceUrl,
    found: Found,
    options: &LoadOptions,
    fingerprints: &mut FingerprintCache,
) -> Result<LoadPlan, LoadError> {
    let Dependencies { sources, store, act, .. } = dependencies;
    let known = store.runs(Some(&found.identity.location), KNOWN).await?;
    let going_on = known.iter().find(|run| run.source == found.identity && is_same(run, options));
    let (settings, fingerprint) = if let Some(run) = going_on {
        // Whatever the environment says by now.
        (run.settings.clone(), None)
    } else {
        let mapping = options.read.format.mapping.as_deref();
        let with_path_values = |fingerprint| with_path_values(fingerprint, mapping, &found.identity.location);
        let fingerprint = fingerprints.of(sources, url, &found).await?.map(with_path_values).transpose();
        let fingerprint = fingerprint.map_err(|error| unusable(url, error.into()))?;
        // Before its head is looked at, which settings of today may not even read.
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
        Begun::Started(run, lease) => {
            let prepare = async {
                // Also where the loader before died in between.
                abort_runs_of_replaced_source(&**store, &run.source, &known, act).await?;
                if options.force {
                    store.record_operation("force", Some(&run.run_id), None, act).await?;
                }
                first_row(&dependencies.sources, url, &run).await
            };
            let first = or_release(dependencies, &lease, prepare.await).await?;
            Ok(read(run, Some(lease), PassScope { from: first, until: None, only_missing: false }))
        }
        Begun::Resumed(run, lease) => {
            let prepare = async {
                abort_runs_of_replaced_source(&**store, &run.source, &known, act).await?;
                rest(dependencies, url, &run).await
            };
            let scope = or_release(dependencies, &lease, prepare.await).await?;
            Ok(read(run, Some(lease), scope))
        }
        begun => begun_before(dependencies, url, begun).await,
    }
}

/// What there is to do where no run begins, and none goes on.
async fn begun_before(dependencies: &Dependencies, url: &SourceUrl, begun: Begun) -> Result<LoadPlan, LoadError> {
    let survives_restart = dependencies.broker.survives_restart();
    match begun {
        Begun::Held { run, by, remaining } => Ok(LoadPlan::Held { run, by, remaining }),
        Begun::Copied(run) => Ok(LoadPlan::Copied(run)),
        // The chunks that were not recorded went with the process that held them.
        Begun::AlreadyLoaded(run) if !is_durable(&run, survives_restart) && !run.state.is_finished() => {
            let scope = rest(dependencies, url, &run).await?;
            Ok(read(run, None, scope))
        }
        Begun::Started(run, _) | Begun::Resumed(run, _) | Begun::AlreadyLoaded(run) => Ok(LoadPlan::NothingToDo(run)),
    }
}

/// Goes on with a run that has lost its loader, where its source still is what it reads; otherwise the run is ended. None
/// where there is nothing to go on with.
pub(crate) async fn take_over(
    dependencies: &Dependencies,
    run_id: &RunId,
) -> Result<Option<(SourceUrl, LoadPlan)>, LoadError> {
    let Dependencies { store, holder, lease, .. } = dependencies;
    match held_by(&**store, run_id).await? {
        // This process is at it already.
        Some(by) if by == holder.to_string() => return Ok(None),
        Some(by) if holder.outlives(&by) => store.evict(run_id, &by).await?,
        _ => {}
    }
    let Taken::Granted(run, lease) = store.take_lease(run_id, &holder.to_string(), *lease).await? else {
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
        store.order_stop(run_id, StopKind::Aborted, &reason, &dependencies.act).await?;
        store.release_lease(&lease).await?;
        store.seal_stopped(run_id).await?;
        Ok(None)
    };
    let taken = or_release(dependencies, &lease, prepare.await).await?;
    Ok(taken.map(|(url, scope)| (url, read(run, Some(lease), scope))))
}

/// Who has begun and cannot go on lets others try.
async fn or_release<T>(
    dependencies: &Dependencies,
    lease: &Lease,
    prepared: Result<T, LoadError>,
) -> Result<T, LoadError> {
    if prepared.is_err()
        && let Err(error) = dependencies.store.release_lease(lease).await
    {
        debug!("the lease of run {} has to run out: {error}", lease.run_id);
    }
    prepared
}

/// What the ledger is asked to begin, of a content that nothing is known of.
pub(crate) fn new_run(
    dependencies: &Dependencies,
    found: Found,
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
        holder: dependencies.holder.to_string(),
        lease: dependencies.lease,
    }
}

/// What is left to be read of a run that was begun before.
async fn rest(dependencies: &Dependencies, url: &SourceUrl, run: &Run) -> Result<PassScope, LoadError> {
    let is_durable = is_durable(run, dependencies.broker.survives_restart());
    let from = if is_durable && run.checkpoint.chunk > 0 {
        run.checkpoint
    } else {
        first_row(&dependencies.sources, url, run).await?
    };
    Ok(PassScope { from, until: None, only_missing: !is_durable })
}

/// What was published before is still there only if the broker then, and the broker now, are of that kind.
pub(crate) fn is_durable(run: &Run, survives_restart: bool) -> bool {
    run.settings.durable_broker && survives_restart
}

fn read(run: Run, lease: Option<Lease>, scope: PassScope) -> LoadPlan {
    name_run(&run.run_id);
    info!("Pipeline Run ID: {}", run.run_id);
    info!("Loading {}", run.source.location);
    let decided: Vec<String> = run.settings.decisions.iter().map(Decision::to_string).collect();
    if !decided.is_empty() {
        info!("read with {}", decided.join(", "));
    }
    if scope.from.at.row > 1 {
        info!("going on at row {}, where the loader before stopped", scope.from.at.row);
    }
    LoadPlan::Read(run, lease, scope)
}

/// Whether a run of the same source is the one that these options mean, and was not given up.
fn is_same(run: &Run, options: &LoadOptions) -> bool {
    let is_meant = options.batch_run_id.as_ref() == Some(&run.run_id) || !options.force;
    is_meant
        && run.removal.is_none()
        && run.error.is_none()
        && !matches!(run.state, RunState::Failed | RunState::Cancelled)
}

/// Where the first row of a run's source is. Runs of earlier versions do not say, but the head of their source does.
pub(crate) async fn first_row(sources: &Sources, url: &SourceUrl, run: &Run) -> Result<Checkpoint, LoadError> {
    if let Some(start) = run.settings.start {
        return Ok(Checkpoint::first(start));
    }
    let found = Found { identity: run.source.clone(), size: run.source_bytes.unwrap_or_default() };
    let inspected = inspect(sources, url, &found, &FormatOptions::of(&run.settings)).await?;
    Ok(Checkpoint::first(inspected.layout.start))
}

/// Which version of the source is there. An S3 server that is away, or still starting, is waited for.
pub(crate) async fn identify(sources: &Sources, url: &SourceUrl, startup: Duration) -> Result<Found, SourceError> {
    until_reached("the source", startup, || sources.identify(url)).await
}

/// The settings that a new run freezes. A location keeps the namespace that its latest run had, unless another one is named: what is
/// the default may change, and its transactions must be the same ones all the same.
async fn settle(
    dependencies: &Dependencies,
    url: &SourceUrl,
    found: &Found,
    options: &LoadOptions,
    latest: Option<&Run>,
) -> Result<RunSettings, LoadError> {
    let format = FormatOptions { trailer: options.totals.trailer.clone(), ..options.read.format.clone() };
    let layout = inspect(&dependencies.sources, url, found, &format).await?.layout;
    let settings = RunSettings {
        durable_broker: dependencies.broker.survives_restart(),
        budgets: options.budgets(),
        ..options.read.settings(layout, url)
    };
    let namespace = latest.filter(|_| !options.read.names_namespace()).map(|run| run.settings.namespace);
    let settings = RunSettings { namespace: namespace.unwrap_or(settings.namespace), ..settings };
    let (rows, asked) = (settings.chunk_rows, options.read.api_batch_size);
    if rows < asked {
        info!("{url} has long rows of many columns: its chunks have {rows} rows, not the {asked} of API_BATCH_SIZE");
    }
    options.totals.freeze(&dependencies.sources, url, settings).await
}

/// Looks at the head of a source.
async fn inspect(
    sources: &Sources,
    url: &SourceUrl,
    found: &Found,
    format: &FormatOptions,
) -> Result<Inspected, LoadError> {
    sources.inspect(url, found, format).await.map_err(|cause| unusable(url, cause))
}

fn unusable(url: &SourceUrl, cause: SourceError) -> LoadError {
    LoadError::Layout { location: url.to_string(), cause: Box::new(cause) }
}
