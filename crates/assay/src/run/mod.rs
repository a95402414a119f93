//! `assay run`: the three stages in one process, and what became of the rows.
//!
//! [`crate::stages`] puts them together with the parts that the settings name; [`display`] shows how far they are;
//! [`summary`] says how it ended.

mod display;
mod summary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_loader::{Dependencies, Holder, LoadError, WaitOptions};
use assay_source::{SourceUrl, Sources};
use assay_store::Store;
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::arguments::RunArguments;
use crate::error::CommandError;
pub(crate) use display::Display;
use summary::Summary;

use crate::print::print;
use crate::stages::{DEFAULT_DATABASE, Progress, StageSettings, Stages};

/// Loads one source and stays until all of it is stored.
pub(crate) async fn run(
    arguments: &RunArguments,
    display: &Display,
    shutdown: &CancellationToken,
) -> Result<Exit, CommandError> {
    let began = Instant::now();
    let progress = Progress::default();
    let startup = arguments.startup.startup_timeout;
    let sources = Sources::new(&arguments.s3)?;
    let settings = StageSettings {
        broker: &arguments.broker,
        api: &arguments.api,
        writer: &arguments.writer,
        startup,
        drain: arguments.shutdown.drain_timeout,
    };
    let starting = Box::pin(async {
        if let SourceUrl::File(_) = &arguments.source_url {
            // Before anything is started for a file that is not there.
            sources.identify(&arguments.source_url).await?;
        }
        let store = open(arguments).await?;
        Stages::start(store, settings, "run", &progress).await
    });
    let Some(stages) = shutdown.run_until_cancelled(starting).await else { return Err(LoadError::NotBegun.into()) };
    let stages = stages?;
    let (store, broker) = (Arc::clone(stages.store()), Arc::clone(stages.broker()));
    let dependencies = Dependencies {
        sources,
        store,
        broker,
        startup,
        drain: arguments.shutdown.drain_timeout,
        holder: Holder::new(),
        lease: arguments.lease.lease_timeout,
        act: arguments.act.act(),
    };
    let wait = WaitOptions { wait: true, wait_timeout: Duration::MAX / 4 };
    let shown = AbortOnDropHandle::new(tokio::spawn(display.clone().follow(progress.clone())));
    let ended = tokio::select! {
        ended = assay_loader::run(
            &dependencies, &arguments.source_url, &arguments.load, &wait, &progress.load, shutdown,
        ) => ended.map_err(CommandError::from),
        failed = stages.failed() => Err(failed),
    };
    drop(shown);
    display.clear();
    let summary = match &ended {
        Ok(ended) => Some(Summary::collect(&**stages.store(), ended, began.elapsed()).await),
        Err(_) => None,
    };
    stages.stop().await;
    let (ended, summary) = (ended?, summary.transpose()?);
    if let Some(summary) = summary {
        print(&summary, arguments.json)?;
        summary.check()?;
    }
    Ok(ended.exit())
}

/// Opens the database that is named, or the file here, which is created where it is missing.
async fn open(arguments: &RunArguments) -> Result<Arc<dyn Store>, CommandError> {
    let startup = arguments.startup.startup_timeout;
    let database = arguments.database.clone().or_default(DEFAULT_DATABASE);
    if database.is_file() {
        assay_store::migrate(&database, startup).await?;
    }
    Ok(assay_store::connect(&database, "run", startup).await?)
}

/// A rate, for a person.
fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
