//! Serving a queue in batches: how the writer consumes.
//!
//! Guarantees: one batch is in work at a time, while the next one is collected; it is worked on once it weighs enough, or its
//! messages have enough bytes, or once its first item has waited long enough, or once the prefetch is used up. Where the prefetch
//! is used up by items too light for a batch, more of them are held from then on. Outcomes are per item. A batch whose work
//! panics is worked on again item by item, so that one bad item takes no other down. Work that does not end is given up, and
//! all that is held by then is put off (`hold`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::defer::{Disposition, Pace, defer, drain_in_time};
use super::settle::{catch_panic, decode as run_decoder, settle};
use crate::{Broker, BrokerError, Delivery, Message, Outcome, Route};

/// A decoded value, and how much of a batch it is: the rows of a chunk, say.
#[derive(Debug, Clone, Copy)]
pub struct Weighed<T> {
    /// The value.
    pub value: T,
    /// Its share of [`BatchOptions::max_weight`].
    pub weight: usize,
}

/// When [`serve_batches`] considers a batch complete.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// A batch that weighs this much is complete. The item that brings it over this bound is still part of it.
    pub max_weight: usize,
    /// A batch whose messages have so many bytes together is complete as well, the last one again being part of it.
    pub max_bytes: usize,
    /// How long the first item of a batch waits at most, while no other batch is in work.
    pub max_wait: Duration,
    /// How many messages may be held, in work or not: fewer where they are large, more where so many do not weigh enough.
    pub prefetch: u16,
    /// How long running work may take to end after shutdown.
    pub drain: Duration,
}

/// Consumes until `shutdown`, then works on what it has collected, within `drain`. `work` returns one outcome per item, in
/// order. What `decode` refuses becomes a dead letter with its words as the reason. Work that takes longer than
/// [`Broker::hold_timeout`] is dropped, and so is what was collected meanwhile; all of it comes again, as the same attempt.
pub async fn serve_batches<T, D, W, F>(
    broker: Arc<dyn Broker>,
    route: Route,
    options: BatchOptions,
    shutdown: CancellationToken,
    decode: D,
    work: W,
) -> Result<(), BrokerError>
where
    D: Fn(&Message) -> Result<Weighed<T>, String>,
    W: Fn(Vec<T>) -> F,
    F: Future<Output = Vec<Outcome>> + Send,
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
    options: BatchOptions,
    shutdown: CancellationToken,
    decode: D,
    work: W,
}

/// A batch in work: what is settled once `outcomes` are known, or put off where they are not in time.
struct InWork<F> {
    deliveries: Vec<Delivery>,
    outcomes: F,
    until: Instant,
}

impl<D, W> Serving<D, W> {
    /// Consumes until another pace is called for, and returns that; `None` at the end. Each has a consumer of its own: what
    /// the last one had in its buffer goes back to the queue.
    async fn at_pace<T, F>(&self, pace: Pace) -> Result<Option<Pace>, BrokerError>
    where
        D: Fn(&Message) -> Result<Weighed<T>, String>,
        W: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<Outcome>> + Send,
    {
        let hold = self.broker.hold_timeout();
        let prefetch = match pace {
            Pace::Full => self.options.prefetch.max(1),
            Pace::Probe => 1,
        };
        let consume = self.broker.consume(self.route, prefetch);
        let Some(consumer) = self.shutdown.run_until_cancelled(consume).await else { return Ok(None) };
        let mut consumer = consumer?;
        let mut settling =
            Settling { broker: &self.broker, route: self.route, shutdown: &self.shutdown, tasks: JoinSet::new() };
        let mut batch = Batch::new(&self.options, hold);
        let mut in_work: Option<InWork<Pin<Box<_>>>> = None;
        let next = loop {
            if batch.is_heavy() && pace == Pace::Full {
                consumer.set_prefetch(batch.messages_needed(prefetch));
            }
            if in_work.is_none() && batch.is_due() {
                let (deliveries, values) = batch.take();
                let outcomes = Box::pin(self.process(messages(&deliveries), values));
                in_work = Some(InWork { deliveries, outcomes, until: Instant::now() + hold });
            }
            let unsettled = batch.deliveries.len() + in_work.as_ref().map_or(0, |batch| batch.deliveries.len());
            // All that is held fills the prefetch: nothing more will come before some of it is settled.
            let exhausted = unsettled >= usize::from(consumer.prefetch());
            if exhausted && in_work.is_none() && !batch.deliveries.is_empty() {
                if pace == Pace::Full {
                    consumer.set_prefetch(batch.messages_needed(prefetch));
                }
                batch.due_at = Some(Instant::now());
                continue;
            }
            let idle = in_work.is_none();
            let done: OptionFuture<_> =
                in_work.as_mut().map(|batch| timeout_at(batch.until, &mut batch.outcomes)).into();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break None,
                Some(outcomes) = done => {
                    let deliveries = in_work.take().map(|batch| batch.deliveries).unwrap_or_default();
                    let ended = if let Ok(outcomes) = outcomes {
                        settling.settle(deliveries.into_iter().zip(outcomes));
                        Disposition::Settled
                    } else {
                        settling.defer(deliveries.into_iter().chain(batch.take().0));
                        Disposition::Deferred
                    };
                    if let Some(next) = pace.after(ended, self.route) {
                        break Some(next);
                    }
                }
                () = batch.wait_until_due(), if idle => {}
                delivery = consumer.next(), if !batch.is_heavy() && !exhausted => {
                    let Some(delivery) = delivery else { break None };
                    match run_decoder(&self.decode, &delivery.message) {
                        Ok(item) => batch.push(delivery, item),
                        Err(reason) => settling.settle([(delivery, Outcome::Dead { reason })]),
                    }
                }
            }
            settling.reap();
        };
        let all = async {
            if let Some(InWork { deliveries, outcomes, .. }) = in_work {
                settling.settle(deliveries.into_iter().zip(outcomes.await));
            }
            let (deliveries, values) = batch.take();
            if !deliveries.is_empty() {
                let outcomes = self.process(messages(&deliveries), values).await;
                settling.settle(deliveries.into_iter().zip(outcomes));
            }
            settling.finish().await;
        };
        let in_time = drain_in_time(all, next, &self.shutdown, self.options.drain).await;
        if !in_time {
            info!(queue = %self.route, "work did not end in time; its messages will be redelivered");
            settling.tasks.shutdown().await;
        }
        consumer.close().await;
        Ok(next)
    }

    /// Works on a batch, and on its items one by one should that panic. There is an outcome for each of them.
    async fn process<T, F>(&self, messages: Vec<Message>, values: Vec<T>) -> Vec<Outcome>
    where
        D: Fn(&Message) -> Result<Weighed<T>, String>,
        W: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<Outcome>> + Send,
    {
        let queue = self.route;
        if let Some(outcomes) = catch_panic(async { (self.work)(values).await }).await {
            return one_each(outcomes, messages.len(), queue);
        }
        warn!(%queue, messages = messages.len(), "work on a batch panicked");
        let alone = messages.len() == 1;
        let mut settled = Vec::with_capacity(messages.len());
        for message in messages {
            let outcomes = match run_decoder(&self.decode, &message) {
                Err(reason) => Some(vec![Outcome::Dead { reason }]),
                Ok(_) if alone => None,
                Ok(item) => catch_panic(async { (self.work)(vec![item.value]).await }).await,
            };
            let outcomes = outcomes.unwrap_or_else(|| {
                warn!(%queue, message_id = message.id, "work panicked; it counts as a failed attempt");
                vec![Outcome::of_panic(&message)]
            });
            settled.extend(one_each(outcomes, 1, queue));
        }
        settled
    }
}

fn messages(deliveries: &[Delivery]) -> Vec<Message> {
    deliveries.iter().map(|delivery| delivery.message.clone()).collect()
}

/// What was given no outcome is tried again, as it may not have been worked on.
fn one_each(mut outcomes: Vec<Outcome>, items: usize, route: Route) -> Vec<Outcome> {
    if outcomes.len() != items {
        error!(queue = %route, messages = items, outcomes = outcomes.len(), "work must return one outcome per item");
        outcomes.resize(items, Outcome::Retry { after: Duration::from_secs(1) });
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
    max_weight: usize,
    max_bytes: usize,
    max_wait: Duration,
    due_at: Option<Instant>,
}

impl<T> Batch<T> {
    fn new(options: &BatchOptions, hold: Duration) -> Self {
        let BatchOptions { max_weight, max_bytes, max_wait, .. } = *options;
        let (deliveries, values) = (Vec::new(), Vec::new());
        let max_wait = max_wait.min(hold);
        Self { deliveries, values, weight: 0, bytes: 0, max_weight, max_bytes, max_wait, due_at: None }
    }

    fn push(&mut self, delivery: Delivery, item: Weighed<T>) {
        self.due_at.get_or_insert_with(|| Instant::now() + self.max_wait);
        self.weight = self.weight.saturating_add(item.weight);
        self.bytes += delivery.message.body.len();
        self.deliveries.push(delivery);
        self.values.push(item.value);
    }

    fn take(&mut self) -> (Vec<Delivery>, Vec<T>) {
        (self.weight, self.bytes) = (0, 0);
        self.due_at = None;
        (std::mem::take(&mut self.deliveries), std::mem::take(&mut self.values))
    }

    fn is_heavy(&self) -> bool {
        !self.deliveries.is_empty() && (self.weight >= self.max_weight || self.bytes >= self.max_bytes)
    }

    /// How many messages like these make a complete batch; no fewer than `least`. What the bytes of so many come to bounds the
    /// consumer by itself.
    fn messages_needed(&self, least: u16) -> u16 {
        let needed = self.max_weight.saturating_mul(self.deliveries.len()).div_ceil(self.weight.max(1));
        u16::try_from(needed).unwrap_or(u16::MAX).max(least)
    }

    fn is_due(&self) -> bool {
        self.is_heavy() || self.due_at.is_some_and(|at| at <= Instant::now())
    }

    /// Never ends for an empty batch.
    async fn wait_until_due(&self) {
        match self.due_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Deliveries whose outcome is known, on their way to be settled.
struct Settling<'a> {
    broker: &'a Arc<dyn Broker>,
    route: Route,
    shutdown: &'a CancellationToken,
    tasks: JoinSet<()>,
}

impl Settling<'_> {
    fn settle(&mut self, outcomes: impl IntoIterator<Item = (Delivery, Outcome)>) {
        for (delivery, outcome) in outcomes {
            if outcome == Outcome::Done {
                delivery.ack();
                continue;
            }
            // The others may have to wait for the broker; what they hold counts towards the prefetch meanwhile.
            let (broker, route, shutdown) = (Arc::clone(self.broker), self.route, self.shutdown.clone());
            self.tasks.spawn(async move { settle(&*broker, route, delivery, outcome, &shutdown).await });
        }
    }

    fn defer(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        for delivery in deliveries {
            let (broker, route) = (Arc::clone(self.broker), self.route);
            self.tasks.spawn(async move { defer(&*broker, route, delivery).await });
        }
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
