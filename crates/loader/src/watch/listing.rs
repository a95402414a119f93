//! The listing finds objects without an event: the bucket is listed at intervals.
//!
//! Guarantee: the next listing finds every object that no run has read, whatever happened to its events.

use std::sync::Arc;

use assay_source::{ListedObject, ObjectEvent, SourceUrl, Sources};
use assay_store::SourceState;
use assay_transaction::SourceIdentity;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::event_source::{Event, EventSource, NoReceipt, WorkItem};
use super::options::{WatchOptions, WatchTarget};
use crate::{Dependencies, LoadError};

/// Objects per query of the ledger, and objects waiting for dispatch.
const BATCH: usize = 200;

pub(crate) struct Listing {
    found: mpsc::Receiver<ObjectEvent>,
    _listing_task: AbortOnDropHandle<()>,
}

impl Listing {
    pub(crate) fn start(dependencies: Arc<Dependencies>, watched: WatchTarget, options: WatchOptions) -> Self {
        let (sender, found) = mpsc::channel(BATCH);
        let lister = BucketLister { dependencies, watched, options, sender };
        Self { found, _listing_task: AbortOnDropHandle::new(tokio::spawn(lister.run())) }
    }
}

#[async_trait]
impl EventSource for Listing {
    async fn next(&mut self) -> Event {
        match self.found.recv().await {
            Some(object) => Event { items: vec![WorkItem::Object(object)], receipt: Box::new(NoReceipt) },
            None => std::future::pending().await,
        }
    }
}

struct BucketLister {
    dependencies: Arc<Dependencies>,
    watched: WatchTarget,
    options: WatchOptions,
    sender: mpsc::Sender<ObjectEvent>,
}

impl BucketLister {
    async fn run(self) {
        let interval = self.options.watch_interval;
        loop {
            if let Err(error) = self.list_once().await {
                let pause = interval.as_secs();
                warn!("{} was not listed, and will be again in {pause} s: {error}", self.watched);
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn list_once(&self) -> Result<(), LoadError> {
        let WatchTarget { bucket, prefix } = &self.watched;
        let listing = self.dependencies.sources.list(bucket, prefix);
        let mut pages = listing.ready_chunks(BATCH);
        while let Some(page) = pages.next().await {
            let listed = page.into_iter().collect::<Result<Vec<ListedObject>, _>>()?;
            self.find_new(listed).await?;
        }
        Ok(())
    }

    /// Sends the objects that no run has read.
    async fn find_new(&self, listed: Vec<ListedObject>) -> Result<(), LoadError> {
        let Dependencies { store, sources, .. } = &*self.dependencies;
        let (mut objects, mut identities) = (Vec::new(), Vec::new());
        for ListedObject { url, version, size } in listed {
            let SourceUrl::S3 { bucket, key } = &url else { continue };
            if !self.options.wants(&self.watched, key, Some(size)) {
                continue;
            }
            let Some(identity) = identity(sources, &url, version).await else { continue };
            let version = Some(identity.version.clone());
            objects.push(ObjectEvent { bucket: bucket.clone(), key: key.clone(), size: Some(size), version });
            identities.push(identity);
        }
        if identities.is_empty() {
            return Ok(());
        }
        for (object, known) in objects.into_iter().zip(store.source_states(&identities).await?) {
            if known == SourceState::Not {
                debug!("{} was not read yet", SourceUrl::S3 { bucket: object.bucket.clone(), key: object.key.clone() });
                // Waits for room. Fails only if the watch has ended.
                let _ = self.sender.send(object).await;
            }
        }
        Ok(())
    }
}

/// The version of an object, which not every listing has. None if the object is gone or unreadable.
async fn identity(sources: &Sources, url: &SourceUrl, version: Option<String>) -> Option<SourceIdentity> {
    match version {
        Some(version) => Some(SourceIdentity { location: url.to_string(), version }),
        None => match sources.identify(url).await {
            Ok(found) => Some(found.identity),
            Err(error) => {
                debug!("{error}");
                None
            }
        },
    }
}
