//! The beginning of a load: the source gets an identity, its dialect is settled, and the ledger says which run this is.

use std::time::Duration;

use assay_source::{ByteStream, FormatOptions, Found, SourceError, SourceUrl, Sources, inspect};
use assay_store::{Begun, NewRun};
use assay_transaction::{Checkpoint, Exit, Namespace, Run, RunSettings};
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
    let head = sources.open(url, &found.identity, 0).await?;
    let known = store.runs(Some(&found.identity.location), KNOWN).await?;
    // A run that goes on has its dialect and its mapping, whatever the environment says by now.
    let unfinished = |run: &&Run| run.source == found.identity && !run.state.is_finished() && !options.force;
    let frozen = known.iter().find(unfinished).map(|run| FormatOptions::of(&run.settings));
    let format = frozen.as_ref().unwrap_or(&options.format);
    let (settings, data_start) = settle(head, url, options, format, broker.survives_restart()).await?;
    let new = NewRun {
        run_id: options.batch_run_id.clone().unwrap_or_else(|| run_name(Utc::now(), Uuid::new_v4())),
        explicit_id: options.batch_run_id.is_some(),
        source: found.identity,
        settings,
        force: options.force,
        source_bytes: Some(found.size),
    };
    // What was published before is still there only if the broker then, and the broker now, are of that kind.
    let durable = |run: &Run| run.settings.durable_broker && broker.survives_restart();
    let all = Part { from: data_start, only_missing: false };
    let missing = Part { from: data_start, only_missing: true };
    let beginning = match store.begin_run(&new).await? {
        Begun::Started(run) => {
            abort_replaced(&**store, &new.source, &known, act).await?;
            if options.force {
                store.record_operation("force", Some(&run.run_id), None, act).await?;
            }
            Beginning::Read(run, all)
        }
        Begun::Resumed(run) if !durable(&run) => Beginning::Read(run, missing),
        Begun::Resumed(run) if run.checkpoint == Checkpoint::START => Beginning::Read(run, all),
        Begun::Resumed(run) => {
            let rest = Part { from: run.checkpoint, only_missing: false };
            Beginning::Read(run, rest)
        }
        // The chunks that were not recorded went with the process that held them.
        Begun::AlreadyLoaded(run) if !durable(&run) && !run.state.is_finished() => Beginning::Read(run, missing),
        Begun::AlreadyLoaded(run) => Beginning::Nothing(run),
    };
    if let Beginning::Read(run, part) = &beginning {
        info!("Pipeline Run ID: {}", run.run_id);
        info!("Loading {}", run.source.location);
        if part.from.row > 1 {
            info!("going on at row {}, where the loader before stopped", part.from.row);
        }
    }
    Ok((beginning, found.size))
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

/// The settings that a new run freezes, and where its first row is.
async fn settle(
    mut head: ByteStream,
    url: &SourceUrl,
    options: &LoadOptions,
    format: &FormatOptions,
    durable_broker: bool,
) -> Result<(RunSettings, Checkpoint), LoadError> {
    let layout =
        inspect(&mut head, format).await.map_err(|cause| LoadError::Layout { location: url.to_string(), cause })?;
    let data_start = layout.start();
    let namespace = options.id_namespace.clone().unwrap_or_else(|| url.default_namespace());
    let settings = RunSettings {
        chunk_rows: options.api_batch_size,
        chunk_bytes: RunSettings::CHUNK_BYTES,
        dialect: layout.dialect,
        header: layout.header,
        time_zone: options.time_zone,
        namespace: Namespace::new(&namespace),
        durable_broker,
        budgets: options.budgets(),
        mapping: format.mapping.clone(),
    };
    Ok((settings, data_start))
}
