//! What no event told of: the bucket is listed now and again, and the ledger is asked for runs that have lost their loader.
//!
//! Guarantee: an object that lies in the bucket, and that no run has read, is found by the next listing, whatever became of
//! its events.

use std::sync::Arc;
use std::time::Duration;

use assay_source::{Listed, ObjectEvent, SourceUrl, Sources};
use assay_store::Known;
use assay_transaction::{RunState, SourceIdentity};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::intake::{Intake, Piece, Receipt, Told};
use super::options::{WatchOptions, Watched};
use crate::{Dependencies, LoadError};

/// Objects that the ledger is asked about at a time, and that wait to be taken up.
const BATCH: usize = 200;

/// What the latest listings have found.
pub(crate) struct Listing {
    found: mpsc::Receiver<Piece>,
    _sweeping: AbortOnDropHandle<()>,
}

impl Listing {
    /// Lists at once, and then at intervals.
    pub(crate) fn start(dependencies: Arc<Dependencies>, watched: Watched, options: WatchOptions) -> Self {
        let (tell, found) = mpsc::channel(BATCH);
        let sweeper = Sweeper { dependencies, watched, options, tell };
        Self { found, _sweeping: AbortOnDropHandle::new(tokio::spawn(sweeper.sweep_on())) }
    }
}

#[async_trait]
impl Intake for Listing {
    async fn next(&mut self) -> Told {
        match self.found.recv().await {
            Some(piece) => Told { pieces: vec![piece], receipt: Box::new(Nobody) },
            None => std::future::pending().await,
        }
    }
}

/// What is left undone, the next listing finds.
struct Nobody;

#[async_trait]
impl Receipt for Nobody {
    async fn ack(self: Box<Self>) {}
}

struct Sweeper {
    dependencies: Arc<Dependencies>,
    watched: Watched,
    options: WatchOptions,
    tell: mpsc::Sender<Piece>,
}

impl Sweeper {
    /// Lists at intervals, and looks in between for loads whose loader is gone: those need not wait as long as that.
    async fn sweep_on(self) {
        let look = self.dependencies.lease.min(self.options.watch_interval);
        loop {
            if let Err(error) = self.sweep().await {
                let pause = seconds(self.options.watch_interval);
                warn!("{} was not looked through, and will be in {pause}: {error}", self.watched);
            }
            let listed = Instant::now();
            tokio::time::sleep(look).await;
            while listed.elapsed() < self.options.watch_interval {
                if let Err(error) = self.find_orphans().await {
                    debug!("cannot look for runs without a loader: {error}");
                }
                tokio::time::sleep(look).await;
            }
        }
    }

    async fn sweep(&self) -> Result<(), LoadError> {
        self.find_orphans().await?;
        let Watched { bucket, prefix } = &self.watched;
        let listing = self.dependencies.sources.list(bucket, prefix);
        let mut pages = listing.ready_chunks(BATCH);
        while let Some(page) = pages.next().await {
            let listed = page.into_iter().collect::<Result<Vec<Listed>, _>>()?;
            self.find_new(listed).await?;
        }
        Ok(())
    }

    /// Runs of the place that are loading, and that no loader holds any more.
    async fn find_orphans(&self) -> Result<(), LoadError> {
        let Dependencies { store, holder, .. } = &*self.dependencies;
        let place = self.watched.to_string();
        for open in store.open_runs().await? {
            let is_held = open.held_by.as_deref().is_some_and(|by| !holder.outlives(by));
            let run = open.run;
            if run.state == RunState::Loading && !is_held && run.source.location.starts_with(&place) {
                self.tell(Piece::Orphan(run.run_id)).await;
            }
        }
        Ok(())
    }

    /// Objects that no run has read.
    async fn find_new(&self, listed: Vec<Listed>) -> Result<(), LoadError> {
        let Dependencies { store, sources, .. } = &*self.dependencies;
        let (mut objects, mut identities) = (Vec::new(), Vec::new());
        for Listed { url, version, size } in listed {
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
        for (object, known) in objects.into_iter().zip(store.known(&identities).await?) {
            if known == Known::Not {
                debug!("s3://{}/{} was not read yet", object.bucket, object.key);
                self.tell(Piece::Object(object)).await;
            }
        }
        Ok(())
    }

    /// Waits until somebody has room for what was found before.
    async fn tell(&self, piece: Piece) {
        // Nobody listens any more: this ends as well.
        let _ = self.tell.send(piece).await;
    }
}

/// Which version lies there. A listing does not always say; what is gone meanwhile, or cannot be read, is passed over.
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

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
