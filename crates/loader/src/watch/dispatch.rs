//! Dispatch: looks up the objects of an event again, as they may have changed; begins their runs; acknowledges the event; and
//! loads the runs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assay_source::{FoundSource, ObjectEvent, SourceError, SourceUrl};
use assay_store::{RunStart, SourceState};
use assay_telemetry::{record_run_id, run_span, several_runs_span};
use assay_transaction::{Checkpoint, Exit, Namespace, RunId, RunSettings, SealedTotals, SourceIdentity, escaped};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use super::event_source::{Event, WorkItem};
use super::options::{WatchOptions, WatchTarget};
use crate::load::Load;
use crate::load::begin::{LoadPlan, begin_found, new_run, take_over};
use crate::load::copies::{FingerprintCache, log_copy};
use crate::{Dependencies, LoadError, LoadOptions};

/// Longest key in S3, in bytes.
const LONGEST_KEY: usize = 1_024;
/// Characters of a longer key that are logged.
const KEY_SHOWN: usize = 64;
/// Pause between two attempts while a service is unreachable.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// Pause between two attempts to get a lock.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// Longest time that an event is held while its work cannot begin. RabbitMQ allows 30 minutes.
const HOLD_LIMIT: Duration = Duration::from_mins(5);

/// Objects of one event that are looked up concurrently.
const CONCURRENT_LOOKUPS: usize = 16;

pub(super) struct Dispatcher {
    pub(super) dependencies: Arc<Dependencies>,
    pub(super) watched: WatchTarget,
    pub(super) load: LoadOptions,
    pub(super) options: WatchOptions,
    pub(super) shutdown: CancellationToken,
    pub(super) begin_locks: BeginLocks,
    pub(super) copies: KnownCopies,
}

/// Objects known to be copies of loaded ones: each listing finds them again, as no run has read them. Forgotten copies are
/// recognised again.
#[derive(Default)]
pub(super) struct KnownCopies(Mutex<HashSet<SourceIdentity>>);

impl KnownCopies {
    const CAPACITY: usize = 10_000;

    fn has(&self, object: &SourceIdentity) -> bool {
        self.objects().contains(object)
    }

    fn remember(&self, object: SourceIdentity) {
        let mut objects = self.objects();
        if objects.len() >= Self::CAPACITY {
            objects.clear();
        }
        objects.insert(object);
    }

    fn objects(&self) -> MutexGuard<'_, HashSet<SourceIdentity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks by name: of two events for the same work, one begins it, and the other finds it begun.
#[derive(Default)]
pub(super) struct BeginLocks(Mutex<HashSet<String>>);

impl BeginLocks {
    async fn lock(&self, name: String) -> BeginLock<'_> {
        while !self.names().insert(name.clone()) {
            tokio::time::sleep(LOCK_POLL).await;
        }
        BeginLock { locks: self, name }
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct BeginLock<'a> {
    locks: &'a BeginLocks,
    name: String,
}

impl Drop for BeginLock<'_> {
    fn drop(&mut self) {
        self.locks.names().remove(&self.name);
    }
}

/// The work cannot begin now: the event must be delivered again.
struct RetryLater;

impl Dispatcher {
    /// Begins the work of an event, acknowledges it, and loads.
    pub(super) async fn dispatch(&self, event: Event) {
        let Event { mut items, receipt } = event;
        // A sender may name an object repeatedly.
        let mut names = HashSet::new();
        items.retain(|item| names.insert(describe(item)));
        let looking = self.without_loaded_objects(items);
        let Some(items) = self.shutdown.run_until_cancelled(looking.boxed()).await else { return };
        if items.is_empty() {
            receipt.ack().await;
            return;
        }
        let (mut receipt, mut left) = (Some(receipt), items.len());
        for item in items {
            let span = several_runs_span().in_scope(run_span);
            let Ok(begun) = self.begin(&item).boxed().instrument(span.clone()).await else { return };
            left -= 1;
            if left == 0
                && let Some(receipt) = receipt.take()
            {
                receipt.ack().await;
            }
            if let Some((url, plan)) = begun {
                self.load(&url, plan).boxed().instrument(span).await;
            }
        }
    }

    /// Leaves out objects that are gone or loaded. Looks them up concurrently, as a webhook sender that names thousands would time
    /// out otherwise. Once a service is unreachable, leaves the rest to `begin`, which waits for it.
    async fn without_loaded_objects(&self, items: Vec<WorkItem>) -> Vec<WorkItem> {
        if items.len() < 2 {
            return items;
        }
        let is_unreachable = AtomicBool::new(false);
        let has_something_to_do = async |item: &WorkItem| {
            let WorkItem::Object(object) = item else { return true };
            if is_unreachable.load(Ordering::Relaxed) {
                return true;
            }
            let seen = self.find_object(object).boxed().await;
            is_unreachable.fetch_or(seen.is_err(), Ordering::Relaxed);
            !matches!(seen, Ok(None))
        };
        let looking = items.into_iter().map(|item| async { has_something_to_do(&item).await.then_some(item) });
        stream::iter(looking).buffered(CONCURRENT_LOOKUPS).filter_map(std::future::ready).collect().await
    }

    /// Begins an item. None if there is nothing to load. Waits for unreachable services.
    async fn begin(&self, item: &WorkItem) -> Result<Option<(SourceUrl, LoadPlan)>, RetryLater> {
        let deadline = Instant::now() + HOLD_LIMIT;
        let mut is_logged = false;
        loop {
            let trying = async {
                let _lock = self.begin_locks.lock(describe(item)).await;
                match item {
                    WorkItem::Object(object) => Box::pin(self.begin_object(object)).await,
                    WorkItem::Orphan(run_id) => self.begin_orphan(run_id).await,
                }
            };
            let Some(begun) = self.shutdown.run_until_cancelled(trying.boxed()).await else { return Err(RetryLater) };
            let error = match begun {
                Ok(begun) => return Ok(begun),
                Err(error) => error,
            };
            if !is_unreachable(&error) {
                warn!("{} is not loaded: {error}", describe(item));
                return Ok(None);
            }
            if !is_logged {
                warn!("{} has to wait: {error}", describe(item));
                is_logged = true;
            }
            if Instant::now() >= deadline
                || self.shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none()
            {
                return Err(RetryLater);
            }
        }
    }

    /// The current version of an object. None if there is nothing to load.
    async fn find_object(&self, object: &ObjectEvent) -> Result<Option<(SourceUrl, FoundSource)>, LoadError> {
        let ObjectEvent { bucket, key, .. } = object;
        if *bucket != self.watched.bucket || !self.options.wants(&self.watched, key, None) {
            return Ok(None);
        }
        if let Some(problem) = too_long(key) {
            warn!("an event is ignored: {problem}");
            return Ok(None);
        }
        let url = SourceUrl::S3 { bucket: bucket.clone(), key: key.clone() };
        if self.load.totals.is_manifest(&url) {
            return Ok(None);
        }
        let Dependencies { sources, store, .. } = &*self.dependencies;
        let found = match sources.identify(&url).await {
            Ok(found) => found,
            Err(SourceError::NoObject { .. }) => {
                info!("{url} is gone: there is nothing to load");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if !self.options.wants(&self.watched, key, Some(found.size))
            || store.source_states(std::slice::from_ref(&found.identity)).await? != [SourceState::Not]
        {
            return Ok(None);
        }
        Ok((!self.copies.has(&found.identity)).then_some((url, found)))
    }

    async fn begin_object(&self, object: &ObjectEvent) -> Result<Option<(SourceUrl, LoadPlan)>, LoadError> {
        let Some((url, found)) = self.find_object(object).await? else { return Ok(None) };
        match begin_found(&self.dependencies, &url, found.clone(), &self.load, &mut FingerprintCache::default()).await {
            Ok(LoadPlan::Copied(run)) => {
                log_copy(&url, &run);
                self.copies.remember(found.identity);
                Ok(None)
            }
            Ok(plan) => Ok(Some((url, plan))),
            Err(LoadError::Layout { cause, .. }) if is_hopeless(&cause) => {
                self.record_unusable(&url, found, &cause).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn begin_orphan(&self, run_id: &RunId) -> Result<Option<(SourceUrl, LoadPlan)>, LoadError> {
        let Some((url, plan)) = take_over(&self.dependencies, run_id).await? else { return Ok(None) };
        info!("run {run_id} has lost its loader: taking it over");
        Ok(Some((url, plan)))
    }

    /// Records a failed run for a file that cannot be loaded: it is visible, and the next listing skips it.
    async fn record_unusable(&self, url: &SourceUrl, found: FoundSource, cause: &SourceError) -> Result<(), LoadError> {
        let Dependencies { store, broker, .. } = &*self.dependencies;
        let namespace = self.load.read.namespace().map_or_else(|| url.default_namespace(), str::to_owned);
        // No row will ever be read with these settings.
        let settings = RunSettings {
            chunk_rows: self.load.read.most_chunk_rows(),
            time_zone: self.load.read.time_zone,
            durable_broker: broker.survives_restart(),
            ..RunSettings::standard(Namespace::new(&namespace))
        };
        let new = new_run(&self.dependencies, found, &self.load, settings);
        let RunStart::Started(run, lease) = store.begin_run(&new).await? else { return Ok(()) };
        record_run_id(&run.run_id);
        warn!("{url} cannot be loaded, see run {}: {cause}", run.run_id);
        // The run has just begun: nothing of it is recorded.
        let _ = store.seal(&lease, SealedTotals::at(Checkpoint::START), Some(&escaped(&cause.to_string()))).await?;
        store.close_run(&run.run_id).await?;
        Ok(())
    }

    /// Loads what has begun, and logs how it ends.
    async fn load(&self, url: &SourceUrl, plan: LoadPlan) {
        let (run, lease, scope) = match plan {
            LoadPlan::Read(run, lease, scope) => (run, lease, scope),
            LoadPlan::NothingToDo(_) | LoadPlan::Copied(_) | LoadPlan::Held { .. } => return,
        };
        let (progress, rows) = (Arc::default(), self.load.row_batch_size);
        let load = Load::new(&self.dependencies, url, rows, lease, &progress, &self.shutdown);
        match load.run_logged(&run, scope).boxed().await {
            Ok(_) => {}
            Err(error @ (LoadError::Stopped { .. } | LoadError::TakenOver { .. })) => info!("{error}"),
            Err(error) => warn!("{url} is not loaded completely: {error}"),
        }
    }
}

/// Whether a retry may succeed, as a service is unreachable or the object has just changed.
fn is_unreachable(error: &LoadError) -> bool {
    match error {
        LoadError::Store(_) => true,
        // An object that was replaced or removed since it was found is looked up again at once.
        LoadError::Source(cause) => cause.exit() == Exit::DependencyUnavailable || cause.is_final(),
        LoadError::Layout { cause, .. } => cause.exit() == Exit::DependencyUnavailable || cause.is_final(),
        _ => false,
    }
}

/// Whether this version of the object can never be loaded because of its content. Problems that can be solved elsewhere, such
/// as missing permissions, do not count.
fn is_hopeless(cause: &SourceError) -> bool {
    let is_elsewhere = matches!(
        cause,
        SourceError::Denied { .. }
            | SourceError::Skewed { .. }
            | SourceError::NoBucket { .. }
            | SourceError::Refused { .. }
            | SourceError::Read { .. }
            | SourceError::File { .. }
    );
    cause.exit() == Exit::SourceUnreadable && !cause.is_final() && !is_elsewhere
}

/// Why no S3 server can have an object with this key. Some servers drop the connection for such a request.
fn too_long(key: &str) -> Option<String> {
    let shown = || key.chars().take(KEY_SHOWN).flat_map(char::escape_debug).collect::<String>();
    (key.len() > LONGEST_KEY)
        .then(|| format!("its key, `{}…`, has {} bytes, more than {LONGEST_KEY}", shown(), key.len()))
}

fn describe(item: &WorkItem) -> String {
    match item {
        WorkItem::Object(ObjectEvent { bucket, key, .. }) => {
            SourceUrl::S3 { bucket: bucket.clone(), key: key.clone() }.to_string()
        }
        WorkItem::Orphan(run_id) => format!("run {run_id}"),
    }
}

#[cfg(test)]
mod tests;
