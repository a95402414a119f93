//! Serving a queue message by message: how predictors consume.
//!
//! Guarantees: at most `concurrency` messages are in work; each is settled only after its outcome is confirmed
//! (`outcome`); a panic is a failed attempt; work that does not end is given up and its message put off (`hold`); on
//! shutdown the intake stops, running work may end within `drain`, and the rest is redelivered. While nothing arrives,
//! nothing runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::defer::{Disposition, Pace, defer, drain_in_time};
use super::settle::{catch_panic, decode as run_decoder, settle};
use crate::{Broker, BrokerError, Delivery, Message, Outcome, Route};

/// How much [`serve`] takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// How many messages may be in work at a time.
    pub concurrency: usize,
    /// How many messages may be held, in work or not.
    pub prefetch: u16,
    /// How long running work may take to end after shutdown.
    pub drain: Duration,
}

/// Consumes until `shutdown`, then drains. What `decode` refuses becomes a dead letter with its words as the reason. Work
/// that takes longer than [`Broker::hold_timeout`] is dropped; its message comes again, as the same attempt.
pub async fn serve<T, D, W, F>(
    broker: Arc<dyn Broker>,
    route: Route,
    options: ServeOptions,
    shutdown: CancellationToken,
    decode: D,
    work: W,
) -> Result<(), BrokerError>
where
    T: Send + 'static,
    D: Fn(&Message) -> Result<T, String>,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send,
{
    let serving = Serving { broker, route, options, shutdown, decode, work };
    let mut pace = Some(Pace::Full);
    while let Some(current) = pace {
        pace = serving.at_pace(current).await?;
    }
    Ok(())
}

struct Serving<D, W> {
    broker: Arc<dyn Broker>,
    route: Route,
    options: ServeOptions,
    shutdown: CancellationToken,
    decode: D,
    work: W,
}

impl<D, W> Serving<D, W> {
    /// Consumes until another pace is called for, and returns that; `None` at the end. Each has a consumer of its own: what
    /// the last one had in its buffer goes back to the queue.
    async fn at_pace<T, F>(&self, pace: Pace) -> Result<Option<Pace>, BrokerError>
    where
        T: Send + 'static,
        D: Fn(&Message) -> Result<T, String>,
        W: Fn(T) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send,
    {
        let (concurrency, prefetch) = match pace {
            Pace::Full => (self.options.concurrency.max(1), self.options.prefetch),
            Pace::Probe => (1, 1),
        };
        let consume = self.broker.consume(self.route, prefetch);
        let Some(consumer) = self.shutdown.run_until_cancelled(consume).await else { return Ok(None) };
        let mut consumer = consumer?;
        let permits = Arc::new(Semaphore::new(concurrency));
        let mut running = JoinSet::new();
        let next = loop {
            // The permit comes first, and stays with the task until the delivery is settled: a broker that is slow to take
            // retries slows the intake.
            let (permit, delivery) = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break None,
                Some(ended) = running.join_next() => match ended {
                    Ok((ended, _permit)) if let Some(next) = pace.after(ended, self.route) => break Some(next),
                    _ => continue,
                },
                taken = async { (Arc::clone(&permits).acquire_owned().await, consumer.next().await) } => taken,
            };
            let Some(delivery) = delivery else { break None };
            let decoded = run_decoder(&self.decode, &delivery.message);
            let work = self.work.clone();
            let work = decoded.map(|value| async move { work(value).await });
            let work_and_settle =
                work_and_settle(Arc::clone(&self.broker), self.route, delivery, work, self.shutdown.clone());
            running.spawn(async move { (work_and_settle.await, permit) });
        };
        let all = async { while running.join_next().await.is_some() {} };
        let in_time = drain_in_time(all, next, &self.shutdown, self.options.drain).await;
        if !in_time {
            let messages = running.len();
            info!(queue = %self.route, messages, "work did not end in time; its messages will be redelivered");
            running.shutdown().await;
        }
        consumer.close().await;
        Ok(next)
    }
}

/// Works on a message, unless it could not be decoded, and settles it.
async fn work_and_settle(
    broker: Arc<dyn Broker>,
    route: Route,
    delivery: Delivery,
    work: Result<impl Future<Output = Outcome> + Send, String>,
    shutdown: CancellationToken,
) -> Disposition {
    let outcome = match work {
        Ok(work) => match timeout(broker.hold_timeout(), catch_panic(work)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                warn!(queue = %route, message_id = delivery.message.id, "work panicked; it counts as a failed attempt");
                Outcome::of_panic(&delivery.message)
            }
            Err(_) => {
                defer(&*broker, route, delivery).await;
                return Disposition::Deferred;
            }
        },
        Err(reason) => Outcome::Dead { reason },
    };
    settle(&*broker, route, delivery, outcome, &shutdown).await;
    Disposition::Settled
}
