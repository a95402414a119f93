//! Serving a queue message by message: how predictors consume.
//!
//! Guarantees: at most `concurrency` messages are in work; each is settled only once its outcome is confirmed (`settle`); a
//! panic is a failed attempt. While nothing arrives, nothing runs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::defer::defer;
use super::settle::settle;
use super::{DeliveryWorker, Disposition, Pace, Service, catch_panic};
use crate::{Broker, BrokerError, Consumer, Delivery, DeliveryOutcome, Message, Route};

/// How much [`serve`] takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Messages in work at a time.
    pub concurrency: usize,
    /// Messages held, in work or not.
    pub prefetch: u16,
    /// How long running work may take to end after shutdown.
    pub drain: Duration,
}

/// Consumes until `shutdown`, then drains. If `decode` fails, the message becomes a dead letter with the error as the reason.
/// Work that takes longer than [`Broker::hold_timeout`] is dropped; its message is redelivered as the same attempt.
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
    D: Fn(&Message) -> Result<T, String> + Sync,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send,
{
    let service = Service { broker, route, shutdown, decode, work };
    let start = |pace| {
        let (concurrency, prefetch) = match pace {
            Pace::Full => (options.concurrency.max(1), options.prefetch),
            Pace::Probe => (1, 1),
        };
        let permits = Arc::new(Semaphore::new(concurrency));
        (prefetch, SingleWorker { service: &service, pace, permits, running: JoinSet::new() })
    };
    // Boxed, as the compiler cannot prove it `Send` for all callers otherwise.
    service.run(options.drain, start).boxed().await
}

struct SingleWorker<'a, D, W> {
    service: &'a Service<D, W>,
    pace: Pace,
    permits: Arc<Semaphore>,
    /// The permit stays with its task until the delivery is settled: a broker that is slow to take retries slows the worker.
    running: JoinSet<(Disposition, OwnedSemaphorePermit)>,
}

impl<T, D, W, F> DeliveryWorker for SingleWorker<'_, D, W>
where
    T: Send + 'static,
    D: Fn(&Message) -> Result<T, String> + Sync,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send,
{
    async fn run(&mut self, consumer: &mut dyn Consumer) -> Option<Pace> {
        let service = self.service;
        loop {
            let (permit, delivery) = tokio::select! {
                biased;
                () = service.shutdown.cancelled() => return None,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((disposition, _permit)) if let Some(next) = self.pace.after(disposition, service.route) => {
                        return Some(next);
                    }
                    _ => continue,
                },
                // The permit comes first, so that nothing is taken that would have to wait for one.
                taken = async { (Arc::clone(&self.permits).acquire_owned().await, consumer.next().await) } => taken,
            };
            let (Ok(permit), Some(delivery)) = (permit, delivery) else { return None };
            let work = service.work.clone();
            let work = service.decode(&delivery.message).map(|value| async move { work(value).await });
            let settled =
                work_and_settle(Arc::clone(&service.broker), service.route, delivery, work, service.shutdown.clone());
            self.running.spawn(async move { (settled.await, permit) });
        }
    }

    async fn finish(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    async fn abort(&mut self) {
        self.running.shutdown().await;
    }
}

/// Works on a message, unless it could not be decoded, and settles it.
async fn work_and_settle(
    broker: Arc<dyn Broker>,
    route: Route,
    delivery: Delivery,
    work: Result<impl Future<Output = DeliveryOutcome> + Send, String>,
    shutdown: CancellationToken,
) -> Disposition {
    let outcome = match work {
        Ok(work) => match timeout(broker.hold_timeout(), catch_panic(work)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                warn!(queue = %route, message_id = delivery.message.id, "work panicked; it counts as a failed attempt");
                DeliveryOutcome::of_panic(&delivery.message)
            }
            Err(_) => {
                defer(&*broker, route, delivery).await;
                return Disposition::Deferred;
            }
        },
        Err(reason) => DeliveryOutcome::DeadLetter { reason },
    };
    settle(&*broker, route, delivery, outcome, &shutdown).await;
    Disposition::Settled
}
