//! Serving a queue message by message: how predictors consume.
//!
//! Guarantees: at most `concurrency` messages are in work; each is settled only after its outcome is confirmed
//! (`outcome`); a panic is a failed attempt; on shutdown the intake stops, running work may end within `drain`, and
//! the rest is redelivered. While nothing arrives, nothing runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::outcome::{conclude, decode as run_decoder, guarded};
use crate::{Broker, BrokerError, Message, Outcome, Route};

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

/// Consumes until `shutdown`, then drains. What `decode` refuses becomes a dead letter with its words as the reason.
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
    let mut consumer = broker.consume(route, options.prefetch).await?;
    let permits = Arc::new(Semaphore::new(options.concurrency.max(1)));
    let mut running = JoinSet::new();
    loop {
        // The permit comes first, and the task holds it until the delivery is settled: a broker that is slow to take
        // retries slows the intake.
        let permit = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        while running.try_join_next().is_some() {}
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else { break };
        let decoded = run_decoder(&decode, &delivery.message);
        let (broker, work, shutdown) = (Arc::clone(&broker), work.clone(), shutdown.clone());
        running.spawn(async move {
            let _permit = permit;
            let outcome = match decoded {
                Ok(value) => guarded(async move { work(value).await }).await.unwrap_or_else(|| {
                    warn!(queue = %route, message_id = delivery.message.id, "work panicked; it counts as a failed attempt");
                    Outcome::of_panic(&delivery.message)
                }),
                Err(reason) => Outcome::Dead { reason },
            };
            conclude(&*broker, route, delivery, outcome, &shutdown).await;
        });
    }
    let all = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(options.drain, all).await.is_err() {
        info!(queue = %route, messages = running.len(), "work did not end in time; its messages will be redelivered");
        running.shutdown().await;
    }
    consumer.close().await;
    Ok(())
}
