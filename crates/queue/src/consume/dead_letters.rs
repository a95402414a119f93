//! Draining the dead letters: how what was given up is put on record.
//!
//! Guarantees: a dead letter leaves its queue only once the work says that it is recorded; what cannot be recorded now comes
//! again, after a pause; nothing is held for long (`hold`). Nothing is decoded: what is no chunk arrives as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::settle::{catch_panic, release_after_pause};
use crate::{Broker, BrokerError, Death, Message};

/// One in work, and the next one at hand: a dead letter may be as large as any message can be.
const PREFETCH: u16 = 2;

/// What became of the work on a dead letter. It can neither be tried again later nor be given up: it is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// It is recorded elsewhere, and leaves the dead letters.
    Recorded,
    /// It could not be recorded now, and stays.
    NotNow,
}

/// Consumes the dead letters until `shutdown`; the work of then may take `drain` to end. A panic counts as
/// [`Drained::NotNow`], and so does work that takes longer than [`Broker::hold_timeout`].
pub async fn serve_dead_letters<W, F>(
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
    drain: Duration,
    work: W,
) -> Result<(), BrokerError>
where
    W: Fn(Message, Death) -> F,
    F: Future<Output = Drained> + Send,
{
    while consume(&*broker, &shutdown, drain, &work).await? {}
    Ok(())
}

/// Consumes until what it holds has to go back to the queue, which its end brings about; `false` if that was all.
async fn consume<W, F>(
    broker: &dyn Broker,
    shutdown: &CancellationToken,
    drain: Duration,
    work: &W,
) -> Result<bool, BrokerError>
where
    W: Fn(Message, Death) -> F,
    F: Future<Output = Drained> + Send,
{
    let hold = broker.hold_timeout();
    let consumer = shutdown.run_until_cancelled(broker.consume_dead_letters(PREFETCH)).await;
    let Some(consumer) = consumer else { return Ok(false) };
    let mut consumer = consumer?;
    let goes_on = loop {
        let Some(Some(delivery)) = shutdown.run_until_cancelled(consumer.next()).await else { break false };
        if delivery.since.elapsed() > hold {
            // It waited behind others, and so did those after it.
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
            Ok(Some(Drained::Recorded)) => delivery.ack(),
            Ok(Some(Drained::NotNow)) => release_after_pause(delivery, shutdown).await,
            Ok(None) => {
                warn!(message_id, "work on a dead letter panicked; the letter stays");
                release_after_pause(delivery, shutdown).await;
            }
            Err(_) => {
                warn!(message_id, "work on a dead letter does not end within HOLD_TIMEOUT; the letter stays");
                break true;
            }
        }
    };
    consumer.close().await;
    Ok(goes_on)
}
