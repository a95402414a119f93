//! Serving a queue message by message: how predictors consume.
//!
//! Messages may weigh differently, such as chunks by the requests that they need. Guarantees: no more than `concurrency` is in work,
//! but always room for two messages where it allows two, however heavy; each is settled only once its outcome is confirmed
//! (`settle`); a panic is a failed attempt. The prefetch follows the weight of the latest messages, so that other consumers
//! find the rest in the queue. While nothing arrives, nothing runs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, warn};

use super::batch::BatchItem;
use super::defer::defer;
use super::settle::settle;
use super::{DeliveryWorker, Disposition, Pace, Service, catch_panic};
use crate::trace::process_span;
use crate::{Broker, BrokerError, Consumer, Delivery, DeliveryOutcome, Message, Route, metrics};

/// How much [`serve`] takes on.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Messages in work at a time; their weight, if they have one.
    pub concurrency: usize,
    /// Messages held, in work or not; their weight, if they have one.
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
    let decode = |message: &Message| decode(message).map(|value| BatchItem { value, weight: 1 });
    serve_weighted(broker, route, options, 1, shutdown, decode, work).await
}

/// As [`serve`], for messages that weigh differently; until some are seen, each is expected to weigh `expected_weight`.
pub async fn serve_weighted<T, D, W, F>(
    broker: Arc<dyn Broker>,
    route: Route,
    options: ServeOptions,
    expected_weight: usize,
    shutdown: CancellationToken,
    decode: D,
    work: W,
) -> Result<(), BrokerError>
where
    T: Send + 'static,
    D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send,
{
    let service = Service { broker, route, shutdown, decode, work };
    let start = |pace| {
        let limits = match pace {
            Pace::Full => Limits::new(&options, expected_weight),
            Pace::Probe => Limits::one(),
        };
        let permits = Arc::new(Semaphore::new(limits.concurrency));
        let prefetch = limits.prefetch();
        let (next, running) = (None, JoinSet::new());
        (prefetch, SingleWorker { service: &service, pace, limits, permits, next, running })
    };
    // Boxed, as the compiler cannot prove it `Send` for all callers otherwise.
    service.run(options.drain, start).boxed().await
}

/// How much is in work and held, by the weight of messages.
#[derive(Debug)]
struct Limits {
    concurrency: usize,
    /// Weight held.
    held: usize,
    /// The mean weight of the latest messages, in [`Self::SCALE`]ths.
    mean: usize,
}

impl Limits {
    const SCALE: usize = 16;

    fn new(options: &ServeOptions, expected_weight: usize) -> Self {
        let concurrency = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self { concurrency, held: usize::from(options.prefetch), mean: expected_weight.max(1) * Self::SCALE }
    }

    fn one() -> Self {
        Self { concurrency: 1, held: 1, mean: Self::SCALE }
    }

    /// What a message of that weight takes of the concurrency: at most half, so that one is in work while another one's result is
    /// on its way.
    fn share(&self, weight: usize) -> u32 {
        u32::try_from(weight.clamp(1, (self.concurrency / 2).max(1))).unwrap_or(u32::MAX)
    }

    /// Counts a message in.
    fn record(&mut self, weight: usize) {
        let weight = weight.clamp(1, usize::from(u16::MAX)) * Self::SCALE;
        self.mean = (self.mean * 3 + weight) / 4;
    }

    /// How many messages of the mean weight are held: as many as the weight allows, but one more than can be in work; at most as
    /// many as if each weighed one.
    fn prefetch(&self) -> u16 {
        let in_work = if self.concurrency == 1 { 1 } else { self.messages(self.concurrency).max(2) };
        let held = self.messages(self.held).max(in_work + 1).min(self.held);
        u16::try_from(held).unwrap_or(u16::MAX)
    }

    /// How many messages of the mean weight make that weight.
    fn messages(&self, weight: usize) -> usize {
        let mean = self.mean.max(Self::SCALE);
        (weight * Self::SCALE + mean / 2) / mean
    }
}

struct SingleWorker<'a, T, D, W> {
    service: &'a Service<D, W>,
    pace: Pace,
    limits: Limits,
    permits: Arc<Semaphore>,
    /// Waits until there is room for its weight.
    next: Option<NextMessage<T>>,
    /// The permit stays with its task until the delivery is settled: a broker that is slow to take retries slows the worker.
    running: JoinSet<(Disposition, OwnedSemaphorePermit)>,
}

/// What [`SingleWorker`] does next.
enum Step {
    Taken(Box<Delivery>),
    /// For the next message.
    HasRoom(OwnedSemaphorePermit),
}

struct NextMessage<T> {
    delivery: Delivery,
    value: Result<T, String>,
    /// Its share of the concurrency.
    share: u32,
}

impl<T, D, W, F> DeliveryWorker for SingleWorker<'_, T, D, W>
where
    T: Send + 'static,
    D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send,
{
    async fn run(&mut self, consumer: &mut dyn Consumer) -> Option<Pace> {
        let service = self.service;
        loop {
            let room = Arc::clone(&self.permits).acquire_many_owned(self.next.as_ref().map_or(1, |next| next.share));
            let may_take = self.next.is_none();
            // Room comes first, so that nothing is taken that would have to wait for the work before it.
            let step = async {
                let permit = room.await.ok()?;
                Some(if may_take { Step::Taken(Box::new(consumer.next().await?)) } else { Step::HasRoom(permit) })
            };
            tokio::select! {
                biased;
                () = service.shutdown.cancelled() => return None,
                Some(ended) = self.running.join_next() => {
                    if let Ok((disposition, _permit)) = ended
                        && let Some(next) = self.pace.after(disposition, service.route)
                    {
                        return Some(next);
                    }
                }
                step = step => match step? {
                    Step::HasRoom(permit) => self.start(permit),
                    Step::Taken(delivery) => {
                        self.next = Some(self.decode(*delivery));
                        consumer.set_prefetch(self.limits.prefetch());
                    }
                },
            }
        }
    }

    async fn finish(&mut self) {
        // It is redelivered.
        self.next = None;
        while self.running.join_next().await.is_some() {}
    }

    async fn abort(&mut self) {
        self.running.shutdown().await;
    }
}

impl<T, D, W, F> SingleWorker<'_, T, D, W>
where
    T: Send + 'static,
    D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
    W: Fn(T) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send,
{
    fn decode(&mut self, delivery: Delivery) -> NextMessage<T> {
        metrics::delivered(&delivery.message, self.service.route);
        match self.service.decode(&delivery.message) {
            Ok(BatchItem { value, weight }) => {
                if self.pace == Pace::Full {
                    self.limits.record(weight);
                }
                NextMessage { delivery, value: Ok(value), share: self.limits.share(weight) }
            }
            Err(reason) => NextMessage { delivery, value: Err(reason), share: 1 },
        }
    }

    /// Starts to work on the next message.
    fn start(&mut self, permit: OwnedSemaphorePermit) {
        let Some(NextMessage { delivery, value, share: _ }) = self.next.take() else { return };
        let (service, work) = (self.service, self.service.work.clone());
        let work = value.map(|value| async move { work(value).await });
        let span = process_span(&*service.broker, service.route, &delivery.message);
        let settled =
            work_and_settle(Arc::clone(&service.broker), service.route, delivery, work, service.shutdown.clone());
        self.running.spawn(async move { (settled.instrument(span).await, permit) });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(concurrency: usize, prefetch: u16, expected_weight: usize) -> Limits {
        Limits::new(&ServeOptions { concurrency, prefetch, drain: Duration::ZERO }, expected_weight)
    }

    #[test]
    fn what_is_held_follows_the_weight() {
        let cases = [
            // Concurrency, prefetch, weight; share of a message, messages held.
            (4, 8, 1, 1, 8),
            (1, 1, 1, 1, 1),
            (10, 15, 1, 1, 15),
            (10, 15, 5, 5, 3),
            (10, 15, 2, 2, 8),
            (10, 15, 100, 5, 3),
            (2, 3, 1, 1, 3),
            (2, 3, 5, 1, 3),
            (40, 60, 5, 5, 12),
        ];
        for (concurrency, prefetch, weight, share, held) in cases {
            let limits = limits(concurrency, prefetch, weight);
            assert_eq!((limits.share(weight), limits.prefetch()), (share, held), "{concurrency}, {prefetch}, {weight}");
        }
    }

    #[test]
    fn the_mean_weight_is_that_of_the_latest_messages() {
        let mut limits = limits(10, 15, 5);
        (0..30).for_each(|_| limits.record(1));
        assert_eq!(limits.prefetch(), 15);
        (0..30).for_each(|_| limits.record(5));
        assert_eq!(limits.prefetch(), 3);
    }

    proptest! {
        #[test]
        fn two_messages_fit_where_two_are_allowed(concurrency in 2_usize..500, weights in prop::collection::vec(0_usize..100_000, 0..20)) {
            let mut limits = limits(concurrency, 700, 1);
            for weight in weights {
                prop_assert!(2 * limits.share(weight) as usize <= concurrency && limits.share(weight) > 0);
                limits.record(weight);
                prop_assert!((3..=700).contains(&limits.prefetch()));
            }
        }
    }
}
