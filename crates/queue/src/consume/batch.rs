//! Serving a queue in batches: how the writer consumes.
//!
//! Guarantees: one batch is in work at a time, while the next one is collected. So batches grow with the backlog: a batch goes to work
//! once it weighs enough, and takes more only as long as another one is in work, until it is full. A lighter one goes once its first
//! item has waited long enough, no more items seem to come, or the prefetch is used up. If items are too light for the prefetch, more
//! of them are held from then on. Each item has its own outcome. A batch whose work panics is worked on again item by item, so that
//! one bad item takes no other down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, warn};

use super::defer::defer;
use super::settle::settle;
use super::{DeliveryWorker, Disposition, Pace, Service, catch_panic, wait_until};
use crate::trace::{commit_span, process_span};
use crate::{Broker, BrokerError, Consumer, Delivery, DeliveryOutcome, Message, Route, metrics};

/// A decoded value, and its weight in a batch, such as the rows of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct BatchItem<T> {
    /// The value.
    pub value: T,
    /// Its share of [`BatchOptions::max_weight`].
    pub weight: usize,
}

/// When [`serve_batches`] works on a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Weight at which a batch is worked on, if no other one is in work.
    pub enough_weight: usize,
    /// Weight at which a batch is full. The item that exceeds it is still part of the batch.
    pub max_weight: usize,
    /// Bytes of messages at which a batch is full. The message that exceeds it is still part of the batch.
    pub max_bytes: usize,
    /// Longest wait of the first item of a batch while no other batch is in work.
    pub max_wait: Duration,
    /// Wait for a further item while no other batch is in work; longer if the items of the batch came more slowly.
    pub max_pause: Duration,
    /// Messages held, in work or not: fewer if they are large, more if so many do not weigh enough.
    pub prefetch: u16,
    /// How long running work may take to end after shutdown.
    pub drain: Duration,
}

/// Consumes until `shutdown`, then works on what it has collected, within `drain`. `work` returns one outcome per item, in
/// order. If `decode` fails, the message becomes a dead letter with the error as the reason. Work that takes longer than
/// [`Broker::hold_timeout`] is dropped with what was collected meanwhile; all of it is redelivered as the same attempt.
pub async fn serve_batches<T, D, W, F>(
    broker: Arc<dyn Broker>,
    route: Route,
    options: BatchOptions,
    shutdown: CancellationToken,
    decode: D,
    work: W,
) -> Result<(), BrokerError>
where
    T: Send,
    D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
    W: Fn(Vec<T>) -> F + Sync,
    F: Future<Output = Vec<DeliveryOutcome>> + Send,
{
    let hold = broker.hold_timeout();
    let service = Service { broker, route, shutdown, decode, work };
    let start = |pace| {
        let prefetch = match pace {
            Pace::Full => options.prefetch.max(1),
            Pace::Probe => 1,
        };
        let batch = Batch::new(&options, hold);
        (
            prefetch,
            BatchWorker { service: &service, pace, prefetch, hold, batch, in_work: None, settling: JoinSet::new() },
        )
    };
    // Boxed, as the compiler cannot prove it `Send` for all callers otherwise.
    service.run(options.drain, start).boxed().await
}

struct BatchWorker<'a, T, D, W> {
    service: &'a Service<D, W>,
    pace: Pace,
    prefetch: u16,
    hold: Duration,
    batch: Batch<T>,
    in_work: Option<InWork<'a>>,
    /// Deliveries whose outcome is known and not yet confirmed.
    settling: JoinSet<()>,
}

/// A batch in work: settled once `outcomes` are known, deferred if they are not known by `deadline`.
struct InWork<'a> {
    deliveries: Vec<Delivery>,
    outcomes: BoxFuture<'a, Vec<DeliveryOutcome>>,
    deadline: Instant,
}

impl<'a, T, D, W, F> DeliveryWorker for BatchWorker<'a, T, D, W>
where
    T: Send + 'a,
    D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
    W: Fn(Vec<T>) -> F + Sync,
    F: Future<Output = Vec<DeliveryOutcome>> + Send + 'a,
{
    async fn run(&mut self, consumer: &mut dyn Consumer) -> Option<Pace> {
        let service = self.service;
        loop {
            if self.in_work.is_none() && self.batch.is_due() {
                let (deliveries, values) = self.batch.take();
                let outcomes = Box::pin(service.process(&deliveries, values));
                self.in_work = Some(InWork { deliveries, outcomes, deadline: Instant::now() + self.hold });
            }
            let in_work = self.in_work.as_ref().map_or(0, |batch| batch.deliveries.len());
            // The prefetch is used up: nothing more arrives before something is settled.
            let is_exhausted = self.batch.deliveries.len() + in_work >= usize::from(consumer.prefetch());
            if is_exhausted && !self.batch.is_full() {
                self.raise_prefetch(consumer);
            }
            let is_idle = self.in_work.is_none();
            if is_exhausted && is_idle && !self.batch.deliveries.is_empty() {
                self.batch.is_complete = true;
                continue;
            }
            let done: OptionFuture<_> =
                self.in_work.as_mut().map(|batch| timeout_at(batch.deadline, &mut batch.outcomes)).into();
            tokio::select! {
                biased;
                () = service.shutdown.cancelled() => return None,
                Some(outcomes) = done => {
                    let disposition = self.end_work(outcomes.ok());
                    if let Some(next) = self.pace.after(disposition, service.route) {
                        return Some(next);
                    }
                }
                () = wait_until(self.batch.due_at()), if is_idle => {}
                delivery = consumer.next(), if !self.batch.is_full() && !is_exhausted => {
                    let mut delivery = delivery?;
                    metrics::delivered(&delivery.message, service.route);
                    match service.decode(&delivery.message) {
                        Ok(item) => {
                            delivery.span = process_span(&*service.broker, service.route, &delivery.message);
                            self.batch.push(delivery, item);
                        }
                        Err(reason) => self.settle([(delivery, DeliveryOutcome::DeadLetter { reason })]),
                    }
                }
            }
            while self.settling.try_join_next().is_some() {}
        }
    }

    async fn finish(&mut self) {
        if let Some(InWork { deliveries, outcomes, .. }) = self.in_work.take() {
            let outcomes = outcomes.await;
            self.settle(deliveries.into_iter().zip(outcomes));
        }
        let (deliveries, values) = self.batch.take();
        if !deliveries.is_empty() {
            let outcomes = self.service.process(&deliveries, values).await;
            self.settle(deliveries.into_iter().zip(outcomes));
        }
        while self.settling.join_next().await.is_some() {}
    }

    async fn abort(&mut self) {
        self.settling.shutdown().await;
    }
}

impl<T, D, W> BatchWorker<'_, T, D, W> {
    fn raise_prefetch(&self, consumer: &mut dyn Consumer) {
        if self.pace == Pace::Full {
            consumer.set_prefetch(self.batch.messages_held(self.prefetch));
        }
    }

    /// Settles the batch in work, or, without outcomes, defers it with what was collected meanwhile.
    fn end_work(&mut self, outcomes: Option<Vec<DeliveryOutcome>>) -> Disposition {
        let deliveries = self.in_work.take().map(|batch| batch.deliveries).unwrap_or_default();
        if let Some(outcomes) = outcomes {
            self.settle(deliveries.into_iter().zip(outcomes));
            return Disposition::Settled;
        }
        for delivery in deliveries.into_iter().chain(self.batch.take().0) {
            let (broker, route) = (Arc::clone(&self.service.broker), self.service.route);
            self.settling.spawn(async move { defer(&*broker, route, delivery).await });
        }
        Disposition::Deferred
    }

    fn settle(&mut self, outcomes: impl IntoIterator<Item = (Delivery, DeliveryOutcome)>) {
        for (delivery, outcome) in outcomes {
            if outcome == DeliveryOutcome::Done {
                delivery.ack();
                continue;
            }
            // Other outcomes may have to wait for the broker; their deliveries count towards the prefetch meanwhile.
            let Service { broker, route, shutdown, .. } = self.service;
            let (broker, route, shutdown) = (Arc::clone(broker), *route, shutdown.clone());
            let span = delivery.span.clone();
            let settling = async move { settle(&*broker, route, delivery, outcome, &shutdown).await };
            self.settling.spawn(settling.instrument(span));
        }
    }
}

impl<D, W> Service<D, W> {
    /// Works on a batch. Returns one outcome per item.
    fn process<'a, T, F>(
        &'a self,
        deliveries: &[Delivery],
        values: Vec<T>,
    ) -> impl Future<Output = Vec<DeliveryOutcome>> + Send + use<'a, T, D, W, F>
    where
        T: Send,
        D: Fn(&Message) -> Result<BatchItem<T>, String> + Sync,
        W: Fn(Vec<T>) -> F + Sync,
        F: Future<Output = Vec<DeliveryOutcome>> + Send,
    {
        let span = commit_span(&*self.broker, self.route, deliveries);
        self.work_on(messages(deliveries), values).instrument(span)
    }

    /// Works on a batch; if that panics, on its items one by one.
    async fn work_on<T, F>(&self, messages: Vec<Message>, values: Vec<T>) -> Vec<DeliveryOutcome>
    where
        D: Fn(&Message) -> Result<BatchItem<T>, String>,
        W: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<DeliveryOutcome>> + Send,
    {
        let queue = self.route;
        if let Some(outcomes) = catch_panic(async { (self.work)(values).await }).await {
            return one_each(outcomes, messages.len(), queue);
        }
        warn!(%queue, messages = messages.len(), "work on a batch panicked");
        let is_alone = messages.len() == 1;
        let mut settled = Vec::with_capacity(messages.len());
        for message in messages {
            let outcomes = match self.decode(&message) {
                Err(reason) => Some(vec![DeliveryOutcome::DeadLetter { reason }]),
                Ok(_) if is_alone => None,
                Ok(BatchItem { value, .. }) => catch_panic(async { (self.work)(vec![value]).await }).await,
            };
            let outcomes = outcomes.unwrap_or_else(|| {
                warn!(%queue, message_id = message.id, "work panicked; it counts as a failed attempt");
                vec![DeliveryOutcome::of_panic(&message)]
            });
            settled.extend(one_each(outcomes, 1, queue));
        }
        settled
    }
}

fn messages(deliveries: &[Delivery]) -> Vec<Message> {
    deliveries.iter().map(|delivery| delivery.message.clone()).collect()
}

/// Retries an item without an outcome: it may not have been worked on.
fn one_each(mut outcomes: Vec<DeliveryOutcome>, items: usize, route: Route) -> Vec<DeliveryOutcome> {
    if outcomes.len() != items {
        error!(queue = %route, messages = items, outcomes = outcomes.len(), "work must return one outcome per item");
        outcomes.resize(items, DeliveryOutcome::Retry { after: Duration::from_secs(1) });
    }
    outcomes
}

/// The batch that is being collected.
struct Batch<T> {
    deliveries: Vec<Delivery>,
    /// One for each delivery.
    values: Vec<T>,
    weight: usize,
    bytes: usize,
    /// When the first and the latest item came; `None` for an empty batch.
    came: Option<(Instant, Instant)>,
    /// Whether nothing more can come.
    is_complete: bool,
    /// Messages and weight of all batches so far.
    seen: (usize, usize),
    options: BatchOptions,
}

impl<T> Batch<T> {
    /// An item is the last one after a pause of so many times the mean one.
    const LONG_PAUSE: u32 = 4;

    fn new(options: &BatchOptions, hold: Duration) -> Self {
        let options = BatchOptions { max_wait: options.max_wait.min(hold), ..*options };
        let (deliveries, values) = (Vec::new(), Vec::new());
        Self { deliveries, values, weight: 0, bytes: 0, came: None, is_complete: false, seen: (0, 0), options }
    }

    fn push(&mut self, delivery: Delivery, item: BatchItem<T>) {
        let now = Instant::now();
        self.came = Some((self.came.map_or(now, |(first, _)| first), now));
        self.weight = self.weight.saturating_add(item.weight);
        self.seen = (self.seen.0 + 1, self.seen.1.saturating_add(item.weight));
        self.bytes += delivery.message.bytes();
        self.deliveries.push(delivery);
        self.values.push(item.value);
    }

    fn take(&mut self) -> (Vec<Delivery>, Vec<T>) {
        (self.weight, self.bytes) = (0, 0);
        (self.came, self.is_complete) = (None, false);
        (std::mem::take(&mut self.deliveries), std::mem::take(&mut self.values))
    }

    fn is_full(&self) -> bool {
        let BatchOptions { max_weight, max_bytes, .. } = self.options;
        !self.deliveries.is_empty() && (self.weight >= max_weight || self.bytes >= max_bytes)
    }

    /// How many messages like those seen make two full batches, one in work and one collected; at least `least`. The consumer
    /// bounds their bytes itself.
    fn messages_held(&self, least: u16) -> u16 {
        let (messages, weight) = self.seen;
        let held = self.options.max_weight.saturating_mul(2).saturating_mul(messages).div_ceil(weight.max(1));
        u16::try_from(held).unwrap_or(u16::MAX).max(least)
    }

    /// When it goes to work although it does not weigh enough; `None` if it is empty.
    fn due_at(&self) -> Option<Instant> {
        let (first, latest) = self.came?;
        let pauses = u32::try_from(self.deliveries.len() - 1).unwrap_or(u32::MAX);
        let usual_pause = (latest - first).checked_div(pauses).unwrap_or_default();
        let pause = (usual_pause * Self::LONG_PAUSE).max(self.options.max_pause).min(self.options.max_wait);
        Some((first + self.options.max_wait).min(latest + pause))
    }

    fn is_due(&self) -> bool {
        let is_enough = !self.deliveries.is_empty() && self.weight >= self.options.enough_weight;
        is_enough || self.is_full() || self.is_complete || self.due_at().is_some_and(|at| at <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Receipt, Settlement};
    use crate::memory::MemoryBudget;

    struct NoReceipt;

    impl Receipt for NoReceipt {
        fn settle(self: Box<Self>, _: Settlement) {}
    }

    /// Adds an item of weight 10.
    async fn push(batch: &mut Batch<()>) {
        let message = Message::new("m", "assay.test.v1", &"run".parse().unwrap(), "{}");
        let taken = MemoryBudget::new(1).take(0).await;
        batch
            .push(Delivery::new(message, false, None, Box::new(NoReceipt), taken), BatchItem { value: (), weight: 10 });
    }

    fn batch() -> Batch<()> {
        let (max_wait, max_pause) = (Duration::from_millis(200), Duration::from_millis(10));
        let (enough_weight, max_weight, max_bytes, prefetch) = (1_000, 4_000, usize::MAX, 10);
        let drain = Duration::ZERO;
        let options = BatchOptions { enough_weight, max_weight, max_bytes, max_wait, max_pause, prefetch, drain };
        Batch::new(&options, Duration::from_mins(5))
    }

    #[tokio::test(start_paused = true)]
    async fn a_light_batch_goes_once_no_more_items_seem_to_come() {
        // The pauses between items; how long after the last one the batch is due.
        for (pauses, expected) in [
            (vec![], 10),
            (vec![2, 2], 10),
            (vec![5; 4], 20),
            (vec![20; 3], 80),
            (vec![40; 4], 40),
            (vec![190], 10),
            (vec![250], 0),
        ] {
            let mut batch = batch();
            assert_eq!(batch.due_at(), None);
            push(&mut batch).await;
            for pause in &pauses {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
                push(&mut batch).await;
            }
            let due_in = batch.due_at().unwrap().saturating_duration_since(Instant::now());
            assert_eq!(due_in.as_millis(), expected, "{pauses:?}");
            assert_eq!(batch.is_due(), expected == 0);
            batch.take();
            assert!(batch.due_at().is_none() && !batch.is_due());
        }
    }

    #[tokio::test]
    async fn two_full_batches_are_held() {
        let mut batch = batch();
        push(&mut batch).await;
        assert_eq!((batch.messages_held(10), batch.messages_held(1_000)), (800, 1_000));
        batch.take();
        assert_eq!(batch.messages_held(10), 800, "of the kind that came before");
    }
}
