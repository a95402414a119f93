//! The beginning of a load: the source gets an identity, its dialect is settled, and the ledger says which run this is.

use std::time::Duration;

use assay_source::{FormatOptions, Found, Inspected, SourceError, SourceUrl, Sources};
use assay_store::{Begun, NewRun};
use assay_transaction::{Checkpoint, Exit, Run, RunSettings, RunState};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use chrono::Utc;
use tokio::time::Instant;
use tracing::{debug, info};
use uuid::Uuid;

use crate::load::Part;
use crate::ordering::abort_replaced;
use crate::run_name::run_name;
use crate::{Dependencies, LoadError, LoadOptions};

/// Between two attempts to find the source.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How many earlier runs of a location are looked at.
const KNOWN: u32 = 100;

/// What there is to do.
pub(crate) enum Beginning {
    /// Read, as the part says.
    Read(Run, Part),
    /// Nothing: every chunk of the source was confirmed before.
    Nothing(Run),
}

/// Begins the run of a source, or finds the one that has begun; tells the size of the source too.
pub(crate) async fn begin(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
) -> Result<(Beginning, u64), LoadError> {
    let Dependencies { sources, store, broker, startup, act, .. } = dependencies;
    let found = identify(sources, url, *startup).await?;
    let known = store.runs(Some(&found.identity.location), KNOWN).await?;
    // A run that goes on, or is there already, has its settings, whatever the environment says by now.
    let settings = match known.iter().find(|run| run.source == found.identity && is_same(run, options)) {
        Some(run) => run.settings.clone(),
        None => settle(dependencies, url, &found, options).await?,
    };
    let new = NewRun {
        run_id: options.batch_run_id.clone().unwrap_or_else(|| run_name(Utc::now(), Uuid::new_v4())),
        explicit_id: options.batch_run_id.is_some(),
        source: found.identity,
        settings,
        force: options.force,
        source_bytes: Some(found.size),
    };
    let begun = store.begin_run(&new).await?;
    if let Begun::Started(run) | Begun::Resumed(run) = &begun {
        // Also where the loader before died in between.
        abort_replaced(&**store, &run.source, &known, act).await?;
    }
    if let Begun::Started(run) = &begun
        && options.force
    {
        store.record_operation("force", Some(&run.run_id), None, act).await?;
    }
    let (Begun::Started(run) | Begun::Resumed(run) | Begun::AlreadyLoaded(run)) = &begun;
    let first = first_row(sources, url, run).await?;
    // What was published before is still there only if the broker then, and the broker now, are of that kind.
    let is_durable = run.settings.durable_broker && broker.survives_restart();
    let part = |from, only_missing| Part { from, until: None, only_missing };
    let beginning = match begun {
        Begun::Started(run) => Beginning::Read(run, part(first, false)),
        Begun::Resumed(run) if !is_durable => Beginning::Read(run, part(first, true)),
        Begun::Resumed(run) if run.checkpoint.chunk == 0 => Beginning::Read(run, part(first, false)),
        Begun::Resumed(run) => {
            let rest = part(run.checkpoint, false);
            Beginning::Read(run, rest)
        }
        // The chunks that were not recorded went with the process that held them.
        Begun::AlreadyLoaded(run) if !is_durable && !run.state.is_finished() => Beginning::Read(run, part(first, true)),
        Begun::AlreadyLoaded(run) => Beginning::Nothing(run),
    };
    if let Beginning::Read(run, part) = &beginning {
        info!("Pipeline Run ID: {}", run.run_id);
        info!("Loading {}", run.source.location);
        if part.from.at.row > 1 {
            info!("going on at row {}, where the loader before stopped", part.from.at.row);
        }
    }
    Ok((beginning, found.size))
}

/// Whether a run of the same source is the one that these options mean, and was not given up.
fn is_same(run: &Run, options: &LoadOptions) -> bool {
    let is_meant = options.batch_run_id.as_ref() == Some(&run.run_id) || !options.force;
    is_meant && run.error.is_none() && !matches!(run.state, RunState::Failed | RunState::Cancelled)
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
    let deadline = Instant::now() + startup;
    let mut pauses = ExponentialBuilder::new().with_jitter().without_max_times().with_max_delay(LONGEST_PAUSE).build();
    loop {
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        match sources.identify(url).await {
            Err(error) if error.exit() == Exit::DependencyAway && Instant::now() + pause < deadline => {
                debug!("waiting for the source: {error}");
                tokio::time::sleep(pause).await;
            }
            found => return found,
        }
    }
}

/// The settings that a new run freezes.
async fn settle(
    dependencies: &Dependencies,
    url: &SourceUrl,
    found: &Found,
    options: &LoadOptions,
) -> Result<RunSettings, LoadError> {
    let layout = inspect(&dependencies.sources, url, found, &options.read.format).await?.layout;
    let settings = RunSettings {
        durable_broker: dependencies.broker.survives_restart(),
        budgets: options.budgets(),
        ..options.read.settings(layout, url)
    };
    options.totals.freeze(&dependencies.sources, url, settings).await
}

/// Looks at the head of a source.
async fn inspect(
    sources: &Sources,
    url: &SourceUrl,
    found: &Found,
    format: &FormatOptions,
) -> Result<Inspected, LoadError> {
    let unusable = |cause| LoadError::Layout { location: url.to_string(), cause };
    sources.inspect(url, found, format).await.map_err(unusable)
}
