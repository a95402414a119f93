//! The beginning of a load: the source gets an identity, its dialect is settled, and the ledger says which run this is.

use assay_source::{ByteStream, SourceUrl, Sources, inspect};
use assay_store::{Begun, NewRun, Store};
use assay_transaction::{Checkpoint, Namespace, Run, RunSettings};
use chrono::Utc;
use tracing::info;
use uuid::Uuid;

use crate::run_name::run_name;
use crate::{LoadError, LoadOptions};

/// What there is to do.
pub(crate) enum Beginning {
    /// Read from here on.
    Read(Run, Checkpoint),
    /// Nothing: every chunk of the source was confirmed before.
    Nothing(Run),
}

/// Begins the run of a source, or finds the one that has begun. `durable` tells whether what was published to the broker
/// before is still there.
pub(crate) async fn begin(
    sources: &Sources,
    store: &dyn Store,
    url: &SourceUrl,
    options: &LoadOptions,
    durable: bool,
) -> Result<(Beginning, u64), LoadError> {
    let found = sources.identify(url).await?;
    let head = sources.open(url, &found.identity, 0).await?;
    let (settings, data_start) = settle(head, url, options).await?;
    let new = NewRun {
        run_id: options.batch_run_id.clone().unwrap_or_else(|| run_name(Utc::now(), Uuid::new_v4())),
        explicit_id: options.batch_run_id.is_some(),
        source: found.identity,
        settings,
        force: options.force,
    };
    let beginning = match store.begin_run(&new).await? {
        Begun::Resumed(run) if durable && run.checkpoint != Checkpoint::START => {
            let checkpoint = run.checkpoint;
            Beginning::Read(run, checkpoint)
        }
        Begun::Started(run) | Begun::Resumed(run) => Beginning::Read(run, data_start),
        // The chunks that were not recorded went with the process that held them.
        Begun::AlreadyLoaded(run) if !durable && !run.state.is_finished() => Beginning::Read(run, data_start),
        Begun::AlreadyLoaded(run) => Beginning::Nothing(run),
    };
    if let Beginning::Read(run, from) = &beginning {
        info!("Pipeline Run ID: {}", run.run_id);
        info!("Loading {}", run.source.location);
        if from.row > 1 {
            info!("going on at row {}, where the loader before stopped", from.row);
        }
    }
    Ok((beginning, found.size))
}

/// The settings that a new run freezes, and where its first row is.
async fn settle(
    mut head: ByteStream,
    url: &SourceUrl,
    options: &LoadOptions,
) -> Result<(RunSettings, Checkpoint), LoadError> {
    let layout = inspect(&mut head, &options.format)
        .await
        .map_err(|cause| LoadError::Layout { location: url.to_string(), cause })?;
    let data_start = layout.start();
    let namespace = options.id_namespace.clone().unwrap_or_else(|| url.default_namespace());
    let settings = RunSettings {
        chunk_rows: options.api_batch_size,
        chunk_bytes: RunSettings::CHUNK_BYTES,
        dialect: layout.dialect,
        header: layout.header,
        time_zone: options.time_zone,
        namespace: Namespace::new(&namespace),
    };
    Ok((settings, data_start))
}
