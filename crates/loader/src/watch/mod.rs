//! `loader watch`: loads the objects of a bucket as they arrive.
//!
//! - `event_source`: where events come from, one trait; `amqp`, `sqs`, `webhook`, `listing` and `orphans` implement it
//! - `dispatch`: begins the runs of an event's objects, or takes over an orphaned run, and loads them
//! - `options`: what is watched
//!
//! Guarantees: one run for each version of an object, however many events name it; a bounded number of concurrent loads, and no
//! event is taken before there is room for it; an event is acknowledged once its runs and their leases are committed; a failed
//! object ends neither the watch nor other loads.

mod amqp;
mod dispatch;
mod event_source;
mod listing;
mod options;
mod orphans;
#[cfg(feature = "sqs")]
mod sqs;
mod webhook;

use std::sync::Arc;

use assay_source::{S3Options, SourceError, Sources};
use assay_transaction::Exit;
use futures_util::TryStreamExt as _;
use futures_util::future::select_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use self::amqp::AmqpEvents;
use self::dispatch::Dispatcher;
use self::event_source::{Event, EventSource};
use self::listing::Listing;
pub use self::options::{Switch, WatchOptions, WatchTarget};
use self::orphans::Orphans;
use self::webhook::WebhookEvents;
use crate::wait::warn_of_missing_consumers;
use crate::{Dependencies, LoadError, LoadOptions};

/// Loads the existing and new objects of the watched target until the shutdown. Then finishes the loads in progress within the
/// drain, and leaves the rest to others.
pub async fn watch(
    dependencies: Arc<Dependencies>,
    watched: WatchTarget,
    load: LoadOptions,
    options: WatchOptions,
    s3: &S3Options,
    shutdown: CancellationToken,
) -> Result<(), LoadError> {
    if load.batch_run_id.is_some() || load.force {
        let what = if load.force { "--force" } else { "BATCH_RUN_ID" };
        return Err(LoadError::Setting(format!(
            "{what} is for a single load: a watch names its runs itself, and loads nothing twice"
        )));
    }
    let starting = Box::pin(start(&dependencies, &watched, &options, s3, &shutdown));
    let Some(sources) = shutdown.run_until_cancelled(starting).await else { return Ok(()) };
    let sources = sources?;
    info!("Watching {watched}");
    let broker = Arc::clone(&dependencies.broker);
    let consumers =
        AbortOnDropHandle::new(tokio::spawn(async move { warn_of_missing_consumers(&*broker, true).await }));
    let dispatcher = Arc::new(Dispatcher {
        dependencies,
        watched,
        load,
        options,
        shutdown: shutdown.clone(),
        begin_locks: dispatch::BeginLocks::default(),
        copies: dispatch::KnownCopies::default(),
    });
    dispatch_events(sources, &dispatcher, &shutdown).await;
    drop(consumers);
    info!("the watch has ended");
    Ok(())
}

/// Checks that the target exists, and starts the event sources.
async fn start(
    dependencies: &Arc<Dependencies>,
    watched: &WatchTarget,
    options: &WatchOptions,
    s3: &S3Options,
    shutdown: &CancellationToken,
) -> Result<Vec<Box<dyn EventSource>>, LoadError> {
    let webhook = options.webhook()?;
    check_target(dependencies, watched).await?;
    let mut sources: Vec<Box<dyn EventSource>> = Vec::new();
    if options.amqp_events == Switch::On {
        let broker = &*dependencies.broker;
        sources.push(Box::new(AmqpEvents::subscribe(broker, &options.events_exchange, watched).await?));
    }
    if let Some(url) = options.sqs_queue_url.as_deref().filter(|url| !url.is_empty()) {
        sources.push(sqs_events(url, s3).await?);
    }
    if let Some(webhook) = webhook {
        sources.push(Box::new(WebhookEvents::serve(webhook, shutdown.clone()).await?));
    }
    sources.push(Box::new(Orphans::start(Arc::clone(dependencies), watched, options)));
    // Last, so that the other sources already receive events when it starts.
    sources.push(Box::new(Listing::start(Arc::clone(dependencies), watched.clone(), options.clone())));
    Ok(sources)
}

#[cfg(feature = "sqs")]
async fn sqs_events(url: &str, s3: &S3Options) -> Result<Box<dyn EventSource>, LoadError> {
    Ok(Box::new(sqs::SqsEvents::new(assay_source::SqsQueue::connect(url, s3).await?)))
}

#[cfg(not(feature = "sqs"))]
#[expect(clippy::unused_async, reason = "with the feature, it connects")]
async fn sqs_events(_: &str, _: &S3Options) -> Result<Box<dyn EventSource>, LoadError> {
    let reason = "SQS_QUEUE_URL is set, but this program is built without SQS: build it with --features sqs";
    Err(LoadError::Setting(reason.to_owned()))
}

/// Checks that the target can be listed.
pub async fn check_listing(sources: &Sources, WatchTarget { bucket, prefix }: &WatchTarget) -> Result<(), SourceError> {
    sources.list(bucket, prefix).try_next().await.map(drop)
}

/// Checks the target at the start. Waits for a server that is still starting.
async fn check_target(dependencies: &Dependencies, watched: &WatchTarget) -> Result<(), SourceError> {
    let deadline = Instant::now() + dependencies.startup;
    loop {
        match check_listing(&dependencies.sources, watched).await {
            Ok(()) => return Ok(()),
            Err(error) if error.exit() == Exit::DependencyUnavailable && Instant::now() < deadline => {
                tokio::time::sleep(dispatch::PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Dispatches one event after another, as long as there is room.
async fn dispatch_events(
    mut sources: Vec<Box<dyn EventSource>>,
    dispatcher: &Arc<Dispatcher>,
    shutdown: &CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(dispatcher.options.max_loads.get()));
    let mut loads = JoinSet::new();
    loop {
        if permits.available_permits() == 0 {
            for source in &mut sources {
                source.put_back();
            }
        }
        let permit = shutdown.run_until_cancelled(Arc::clone(&permits).acquire_owned()).await;
        let Some(Ok(permit)) = permit else { break };
        let Some(event) = shutdown.run_until_cancelled(next(&mut sources)).await else { break };
        let dispatcher = Arc::clone(dispatcher);
        loads.spawn(async move {
            let _permit = permit;
            dispatcher.dispatch(event).await;
        });
        while let Some(ended) = loads.try_join_next() {
            log_panic(&ended);
        }
    }
    // Undispatched events go back to their sources.
    drop(sources);
    if !loads.is_empty() {
        info!("finishing {} loads; other watchers continue", loads.len());
    }
    while let Some(ended) = loads.join_next().await {
        log_panic(&ended);
    }
}

/// The next event of any source.
async fn next(sources: &mut [Box<dyn EventSource>]) -> Event {
    let (event, at, _) = select_all(sources.iter_mut().map(|source| source.next())).await;
    // This source is asked last next time, so that a busy one does not starve the others.
    sources[at..].rotate_left(1);
    event
}

fn log_panic(ended: &Result<(), tokio::task::JoinError>) {
    if ended.is_err() {
        error!("a load has panicked; it will be taken over once its lease has expired");
    }
}
