//! Consuming from queues: how stages get their work.
//!
//! - `single` serves messages one by one, many at once; `batch` serves many in one go; both run on the loop in this file
//! - `settle`: what becomes of a message, by its outcome; `defer`: of a message whose work does not end
//! - `dead_letters`: drains the dead letters
//!
//! Guarantees: work that takes longer than [`Broker::hold_timeout`] is dropped and its message deferred. From then on one
//! message at a time is tried, and the others stay in the queue, until work ends again. On shutdown nothing more is taken,
//! work under way may end within `drain`, and the rest is redelivered.

mod batch;
mod dead_letters;
mod defer;
mod settle;
mod single;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::batch::{BatchItem, BatchOptions, serve_batches};
pub use self::dead_letters::{DrainOutcome, serve_dead_letters};
pub(crate) use self::defer::Delay;
pub use self::settle::DeliveryOutcome;
pub use self::single::{ServeOptions, serve, serve_weighted};
use crate::{Broker, BrokerError, Consumer, Message, Route};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As much as the options allow.
    Full,
    /// One message, to see whether its work ends.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Settled,
    Deferred,
}

impl Pace {
    /// The other pace, if this one no longer fits.
    fn after(self, disposition: Disposition, route: Route) -> Option<Self> {
        match (self, disposition) {
            (Self::Full, Disposition::Deferred) => {
                warn!(
                    queue = %route,
                    "work does not end within HOLD_TIMEOUT, as if a dependency were unreachable; messages are deferred by a \
                     minute and tried one at a time until work ends again"
                );
                Some(Self::Probe)
            }
            (Self::Probe, Disposition::Settled) => {
                info!(queue = %route, "work ends again; resuming at full pace");
                Some(Self::Full)
            }
            (Self::Full, Disposition::Settled) | (Self::Probe, Disposition::Deferred) => None,
        }
    }
}

/// A queue that a stage serves, and what it does with the messages.
struct Service<D, W> {
    broker: Arc<dyn Broker>,
    route: Route,
    shutdown: CancellationToken,
    decode: D,
    work: W,
}

/// Works on the deliveries of one consumer.
trait DeliveryWorker: Send {
    /// Takes deliveries until another pace is called for, and returns it; `None` on shutdown and once the broker is closed.
    fn run(&mut self, consumer: &mut dyn Consumer) -> impl Future<Output = Option<Pace>> + Send;

    /// Finishes and settles what was taken. May be cancelled.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;

    /// Drops what is not finished.
    fn abort(&mut self) -> impl Future<Output = ()> + Send;
}

impl<D, W> Service<D, W> {
    /// Serves with one consumer for each pace: at its end, what it has buffered goes back to the queue.
    async fn run<I: DeliveryWorker>(
        &self,
        drain: Duration,
        start: impl Fn(Pace) -> (u16, I),
    ) -> Result<(), BrokerError> {
        let mut pace = Some(Pace::Full);
        while let Some(current) = pace {
            let (prefetch, mut worker) = start(current);
            let consume = self.broker.consume(self.route, prefetch);
            let Some(consumer) = self.shutdown.run_until_cancelled(consume).await else { return Ok(()) };
            let mut consumer = consumer?;
            pace = worker.run(&mut *consumer).await;
            let is_shutdown = pace.is_none();
            if !self.ends_in_time(worker.finish(), is_shutdown, drain).await {
                info!(queue = %self.route, "work did not end in time; its messages will be redelivered");
                worker.abort().await;
            }
            consumer.close().await;
        }
        Ok(())
    }

    /// Whether the work ends within `drain` after the shutdown. Before a shutdown it may take as long as the hold timeout lets it.
    async fn ends_in_time(&self, work: impl Future<Output = ()>, is_shutdown: bool, drain: Duration) -> bool {
        let overdue = async {
            if !is_shutdown {
                self.shutdown.cancelled().await;
            }
            sleep(drain).await;
        };
        tokio::select! {
            biased;
            () = work => true,
            () = overdue => false,
        }
    }

    /// Decodes a message. An error, or a panic, is the reason for a dead letter.
    fn decode<T>(&self, message: &Message) -> Result<T, String>
    where
        D: Fn(&Message) -> Result<T, String>,
    {
        if let Some(reason) = message.unreadable() {
            return Err(reason.to_owned());
        }
        std::panic::catch_unwind(AssertUnwindSafe(|| (self.decode)(message)))
            .unwrap_or_else(|_| Err("decoding it panicked".to_owned()))
    }
}

/// Sleeps until `at`; never ends for `None`.
pub(crate) async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs the work. `None` if it panicked.
async fn catch_panic<O>(work: impl Future<Output = O>) -> Option<O> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}
