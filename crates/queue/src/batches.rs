//! Serving a queue in batches: how the writer consumes.
//!
//! Guarantees: one batch is in work at a time, while the next one is collected; it is worked on once it weighs enough, or
//! once its first item has waited long enough, or once the prefetch is used up. Outcomes are per item. A batch whose work
//! panics is worked on again item by item, so that one bad item takes no other down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::outcome::{conclude, decode as run_decoder, guarded};
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
    /// How long the first item of a batch waits at most, while no other batch is in work.
    pub max_wait: Duration,
    /// How many messages may be held, in work or not.
    pub prefetch: u16,
    /// How long running work may take to end after shutdown.
    pub drain: Duration,
}

/// Consumes until `shutdown`, then works on what it has collected, within `drain`. `work` returns one outcome per item, in
/// order. What `decode` refuses becomes a dead letter with its words as the reason.
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
    let mut consumer = broker.consume(route, options.prefetch).await?;
    let mut settling = Settling { broker, route, shutdown: shutdown.clone(), tasks: JoinSet::new() };
    let mut batch = Batch::new(options);
    let mut in_work: Option<(usize, Pin<Box<_>>)> = None;
    let process = |items: Vec<(Delivery, T)>| process(items, &decode, &work, route);
    loop {
        if in_work.is_none() && batch.is_due() {
            let items = batch.take();
            in_work = Some((items.len(), Box::pin(process(items))));
        }
        let held = batch.items.len() + in_work.as_ref().map_or(0, |(items, _)| *items);
        // All that is held fills the prefetch: nothing more will come before some of it is settled.
        let exhausted = held >= usize::from(options.prefetch.max(1));
        if exhausted && in_work.is_none() && !batch.items.is_empty() {
            batch.due_at = Some(Instant::now());
            continue;
        }
        let idle = in_work.is_none();
        let done: OptionFuture<_> = in_work.as_mut().map(|(_, work)| work).into();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(outcomes) = done => {
                in_work = None;
                settling.settle(outcomes);
            }
            () = batch.wait_until_due(), if idle => {}
            delivery = consumer.next(), if !batch.is_heavy() && !exhausted => {
                let Some(delivery) = delivery else { break };
                match run_decoder(&decode, &delivery.message) {
                    Ok(item) => batch.push(delivery, item),
                    Err(reason) => settling.settle([(delivery, Outcome::Dead { reason })]),
                }
            }
        }
        settling.reap();
    }
    let drained = tokio::time::timeout(options.drain, async {
        if let Some((_, work)) = in_work {
            settling.settle(work.await);
        }
        if !batch.items.is_empty() {
            settling.settle(process(batch.take()).await);
        }
        settling.finish().await;
    });
    if drained.await.is_err() {
        info!(queue = %route, "work did not end in time; its messages will be redelivered");
        settling.tasks.shutdown().await;
    }
    consumer.close().await;
    Ok(())
}

/// The batch that is being collected.
struct Batch<T> {
    options: BatchOptions,
    items: Vec<(Delivery, T)>,
    weight: usize,
    due_at: Option<Instant>,
}

impl<T> Batch<T> {
    fn new(options: BatchOptions) -> Self {
        Self { options, items: Vec::new(), weight: 0, due_at: None }
    }

    fn push(&mut self, delivery: Delivery, item: Weighed<T>) {
        self.due_at.get_or_insert_with(|| Instant::now() + self.options.max_wait);
        self.weight = self.weight.saturating_add(item.weight);
        self.items.push((delivery, item.value));
    }

    fn take(&mut self) -> Vec<(Delivery, T)> {
        self.weight = 0;
        self.due_at = None;
        std::mem::take(&mut self.items)
    }

    fn is_heavy(&self) -> bool {
        !self.items.is_empty() && self.weight >= self.options.max_weight
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
struct Settling {
    broker: Arc<dyn Broker>,
    route: Route,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Settling {
    fn settle(&mut self, outcomes: impl IntoIterator<Item = (Delivery, Outcome)>) {
        for (delivery, outcome) in outcomes {
            if outcome == Outcome::Done {
                delivery.ack();
                continue;
            }
            // The others may have to wait for the broker; what they hold counts towards the prefetch meanwhile.
            let (broker, route, shutdown) = (Arc::clone(&self.broker), self.route, self.shutdown.clone());
            self.tasks.spawn(async move { conclude(&*broker, route, delivery, outcome, &shutdown).await });
        }
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Works on a batch, and on its items one by one should that panic.
async fn process<T, D, W, F>(items: Vec<(Delivery, T)>, decode: &D, work: &W, route: Route) -> Vec<(Delivery, Outcome)>
where
    D: Fn(&Message) -> Result<Weighed<T>, String>,
    W: Fn(Vec<T>) -> F,
    F: Future<Output = Vec<Outcome>> + Send,
{
    let (deliveries, values): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    if let Some(outcomes) = guarded(async { work(values).await }).await {
        return paired(deliveries, outcomes, route);
    }
    let alone = deliveries.len() == 1;
    warn!(queue = %route, messages = deliveries.len(), "work on a batch panicked");
    let mut settled = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let outcomes = match run_decoder(decode, &delivery.message) {
            Err(reason) => Some(vec![Outcome::Dead { reason }]),
            Ok(_) if alone => None,
            Ok(item) => guarded(async { work(vec![item.value]).await }).await,
        };
        let outcomes = outcomes.unwrap_or_else(|| {
            warn!(queue = %route, message_id = delivery.message.id, "work panicked; it counts as a failed attempt");
            vec![Outcome::of_panic(&delivery.message)]
        });
        settled.extend(paired(vec![delivery], outcomes, route));
    }
    settled
}

/// Each delivery with its outcome. One that was given none is tried again, as it may not have been worked on.
fn paired(deliveries: Vec<Delivery>, outcomes: Vec<Outcome>, route: Route) -> Vec<(Delivery, Outcome)> {
    if deliveries.len() != outcomes.len() {
        error!(queue = %route, messages = deliveries.len(), outcomes = outcomes.len(), "work must return one outcome per item");
    }
    let mut outcomes = VecDeque::from(outcomes);
    deliveries
        .into_iter()
        .map(|delivery| (delivery, outcomes.pop_front().unwrap_or(Outcome::Retry { after: Duration::from_secs(1) })))
        .collect()
}
