//! The end of an upgrade from versions up to 0.1, which published chunks to the exchange of live transactions: once none of their
//! programs is left, `transactions.batch` takes nothing from that exchange any more, and their delay queues are deleted.
//!
//! Guarantee: nothing is lost. Retries in those delay queues return through the binding that is removed, so it stays while one may wait.
//! AMQP does not count messages that expired while `transactions.batch` was full; RabbitMQ offers them again every three minutes.
//! So the queue has to have room for longer than that first, unless such delay queues never existed. Every step may be repeated.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Error};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::connect::{ConnectionSettings, PersistentConnection};
use super::failure::{FailureKind, cause, classify};
use super::topology::{ChunksBefore, DeclareMode, OldDelay, find_queue};
use crate::{BrokerError, BrokerOptions};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Declares the topology and removes what only versions up to 0.1 need. Returns the delay queues that were deleted.
pub(crate) async fn finish(
    options: &BrokerOptions,
    startup: Duration,
    room_for: Duration,
) -> Result<Vec<String>, BrokerError> {
    let settings = Arc::new(ConnectionSettings::new(options, "declare", DeclareMode::Always)?);
    let connection = PersistentConnection::open(&settings, startup).await?;
    let upgrade = Upgrade { connection: &connection, before: settings.topology.before_chunks() };
    let finished = upgrade.finish(room_for).await;
    connection.close().await;
    finished
}

/// Warns if delay queues of versions up to 0.1 exist: the upgrade is not finished, or one of their programs has come back.
pub(super) async fn warn_if_unfinished(connection: &PersistentConnection) -> Result<(), BrokerError> {
    let upgrade = Upgrade { connection, before: connection.settings.topology.before_chunks() };
    if !upgrade.old_delay_queues().await?.is_empty() {
        let ChunksBefore { exchange, .. } = &upgrade.before;
        warn!(
            "whoever may publish to {exchange} may still publish chunks there, as versions up to 0.1 do: once none of their \
             programs runs, run `assay declare --finish-upgrade`"
        );
    }
    Ok(())
}

struct Upgrade<'a> {
    connection: &'a PersistentConnection,
    before: ChunksBefore,
}

impl Upgrade<'_> {
    async fn finish(&self, room_for: Duration) -> Result<Vec<String>, BrokerError> {
        let delayed = self.old_delay_queues().await?;
        self.check(&delayed).await?;
        // From now on nothing new waits there.
        for delay in &delayed {
            self.unbind(&delay.queue, &self.before.delay_exchange, &delay.key).await?;
        }
        if !delayed.is_empty() {
            self.until_returned(&delayed, room_for).await?;
        }
        let ChunksBefore { exchange, key, queue, .. } = &self.before;
        self.unbind(queue, exchange, key).await?;
        for delay in &delayed {
            self.check(&[delay]).await?;
            let queue = &delay.queue;
            let delete = async |channel: Channel| {
                channel.queue_delete(queue.clone(), QueueDeleteOptions::default()).await.map(drop)
            };
            self.ask(&format!("delete {queue}"), delete).await?;
        }
        Ok(delayed.iter().map(|delay| delay.queue.to_string()).collect())
    }

    /// Those that exist.
    async fn old_delay_queues(&self) -> Result<Vec<&OldDelay>, BrokerError> {
        let mut found = Vec::new();
        for delay in &self.before.delays {
            if self.waiting_in(&delay.queue).await?.is_some() {
                found.push(delay);
            }
        }
        Ok(found)
    }

    /// Waits until every message that expired has returned, which the queue's room allows.
    async fn until_returned(&self, delayed: &[&OldDelay], room_for: Duration) -> Result<(), BrokerError> {
        let ChunksBefore { queue, .. } = &self.before;
        info!(
            "making sure for {} s that no retry of a version up to 0.1 waits for room in {queue}",
            room_for.as_secs()
        );
        let end = Instant::now() + room_for;
        loop {
            self.check(delayed).await?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(LOOK_EVERY.min(left)).await;
        }
    }

    /// Refuses while messages wait in the delay queues, or may wait for room in the work queue.
    async fn check(&self, delayed: &[&OldDelay]) -> Result<(), BrokerError> {
        for OldDelay { queue, .. } in delayed {
            let waiting = self.waiting_in(queue).await?.unwrap_or_default();
            if waiting > 0 {
                return Err(BrokerError::NotYet(format!(
                    "{queue} holds {waiting} messages of a version up to 0.1, which still have to return through {}: stop all its \
                     programs, and run this again a minute later",
                    self.before.exchange
                )));
            }
        }
        let ChunksBefore { queue, bound, .. } = &self.before;
        let waiting = self.waiting_in(queue).await?.unwrap_or_default();
        if !delayed.is_empty() && waiting > bound / 2 {
            return Err(BrokerError::NotYet(format!(
                "{queue} holds {waiting} of at most {bound} messages, so retries of a version up to 0.1 may wait for room: run this \
                 again once the predictors have caught up"
            )));
        }
        Ok(())
    }

    /// Removes a binding; having none is no error.
    async fn unbind(&self, queue: &ShortString, exchange: &ShortString, key: &ShortString) -> Result<(), BrokerError> {
        let unbind = async |channel: Channel| {
            channel.queue_unbind(queue.clone(), exchange.clone(), key.clone(), FieldTable::default()).await
        };
        self.ask(&format!("unbind {queue} from {exchange}"), unbind).await.map(drop)
    }

    /// The number of messages that wait in a queue; `None` if there is no such queue.
    async fn waiting_in(&self, queue: &ShortString) -> Result<Option<u32>, BrokerError> {
        let count = async |channel: Channel| Ok(find_queue(&channel, queue.clone()).await?.message_count());
        self.ask(&format!("look at {queue}"), count).await
    }

    /// Sends a request on a channel of its own, which RabbitMQ closes with an error. `None` if the queue is missing.
    async fn ask<T>(
        &self,
        action: &str,
        request: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
    ) -> Result<Option<T>, BrokerError> {
        let unreachable =
            |cause: String| BrokerError::Unreachable(format!("cannot {action} ({cause}): check AMQP_URL"));
        let Some(live) = self.connection.live().await else {
            return Err(unreachable("the connection is closed".to_owned()));
        };
        let asking = async {
            let channel = live.channel().await?;
            let answer = request(channel.clone()).await;
            if answer.is_ok() {
                channel.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await?;
            }
            Ok(answer)
        };
        let answer = live.attempt(self.connection.settings.request_timeout, asking).await.map_err(unreachable)?;
        answer.map(Some).or_else(|error: Error| match classify(&error) {
            FailureKind::Missing => Ok(None),
            FailureKind::Refused => Err(BrokerError::Usage(format!(
                "RabbitMQ does not let the user of AMQP_URL {action} ({}): use the user of `assay declare`",
                cause(&error)
            ))),
            _ => Err(unreachable(cause(&error))),
        })
    }
}
