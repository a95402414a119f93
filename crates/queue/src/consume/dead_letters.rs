//! Draining the dead letters: recording the messages that were given up.
//!
//! Guarantees: a dead letter leaves its queue only once it is recorded; one that cannot be recorded now is redelivered after a
//! pause; none is held for longer than the hold timeout. Nothing is decoded: a body that is no chunk arrives as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::catch_panic;
use super::settle::release_after_pause;
use crate::{Broker, BrokerError, Death, Message};

/// One in work and one at hand: a dead letter may have the largest size of a message.
const PREFETCH: u16 = 2;

/// What became of a dead letter. It can neither be delayed nor be dead-lettered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It is recorded elsewhere, and leaves the queue.
    Recorded,
    /// It could not be recorded now, and stays in the queue.
    NotRecorded,
}

/// Consumes the dead letters until `shutdown`; work under way may then take `drain` to end. A panic counts as
/// [`DrainOutcome::NotRecorded`], as does work that takes longer than [`Broker::hold_timeout`].
pub async fn serve_dead_letters<W, F>(
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
    drain: Duration,
    work: W,
) -> Result<(), BrokerError>
where
    W: Fn(Message, Death) -> F,
    F: Future<Output = DrainOutcome> + Send,
{
    while consume(&*broker, &shutdown, drain, &work).await? {}
    Ok(())
}

/// Consumes until its deliveries have to go back to the queue, which ending the consumer does. Returns whether to consume again.
async fn consume<W, F>(
    broker: &dyn Broker,
    shutdown: &CancellationToken,
    drain: Duration,
    work: &W,
) -> Result<bool, BrokerError>
where
    W: Fn(Message, Death) -> F,
    F: Future<Output = DrainOutcome> + Send,
{
    let hold = broker.hold_timeout();
    let consumer = shutdown.run_until_cancelled(broker.consume_dead_letters(PREFETCH)).await;
    let Some(consumer) = consumer else { return Ok(false) };
    let mut consumer = consumer?;
    let again = loop {
        let Some(Some(delivery)) = shutdown.run_until_cancelled(consumer.next()).await else { break false };
        if delivery.since.elapsed() > hold {
            // It waited behind others, as did those after it.
            break true;
        }
        let message_id = delivery.message.id.as_str();
        let death = delivery.death.clone().unwrap_or_else(Death::unknown);
        let recording = catch_panic(async { work(delivery.message.clone(), death).await });
        let overdue = async {
            shutdown.cancelled().await;
            sleep(drain).await;
        };
        let drain_in_time = tokio::select! {
            biased;
            drain_in_time = timeout(hold, recording) => drain_in_time,
            () = overdue => break false,
        };
        match drain_in_time {
            Ok(Some(DrainOutcome::Recorded)) => delivery.ack(),
            Ok(Some(DrainOutcome::NotRecorded)) => release_after_pause(delivery, shutdown).await,
            Ok(None) => {
                warn!(message_id, "work on a dead letter panicked; the letter stays in its queue");
                release_after_pause(delivery, shutdown).await;
            }
            Err(_) => {
                warn!(
                    message_id,
                    "work on a dead letter does not end within HOLD_TIMEOUT; the letter stays in its queue"
                );
                break true;
            }
        }
    };
    consumer.close().await;
    Ok(again)
}
