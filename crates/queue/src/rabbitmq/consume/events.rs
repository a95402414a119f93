//! The queue of bucket events, pulled on a channel of its own, which is opened again after a loss.
//!
//! Guarantee: an event is settled only on the channel by which it came; one that is never settled goes back to the queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::ShortString;
use lapin::{Acker, Channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::BrokerError;
use crate::events::{EventDelivery, EventQueue, EventReceipt};
use crate::rabbitmq::connect::{LiveConnection, PersistentConnection};
use crate::rabbitmq::failure::{cause, events_refused};

pub(crate) struct RabbitMqEventQueue {
    connection: Arc<PersistentConnection>,
    exchange: ShortString,
    queue: ShortString,
    current: Option<(Arc<LiveConnection>, Channel)>,
    /// A pull, in a task of its own: its caller may have been cancelled.
    pulling: Option<JoinHandle<Result<Option<EventDelivery>, String>>>,
}

impl RabbitMqEventQueue {
    /// Declares exchange, queue and binding, so that events published from now on arrive.
    pub(crate) async fn subscribe(
        connection: Arc<PersistentConnection>,
        exchange: ShortString,
        queue: ShortString,
    ) -> Result<Self, BrokerError> {
        let mut events = Self { connection, exchange, queue, current: None, pulling: None };
        events.channel().await?;
        Ok(events)
    }

    async fn channel(&mut self) -> Result<(Arc<LiveConnection>, Channel), BrokerError> {
        if let Some((live, channel)) = &self.current
            && live.is_up()
            && channel.status().connected()
        {
            return Ok((Arc::clone(live), channel.clone()));
        }
        let request_timeout = self.request_timeout();
        let live = match timeout(request_timeout, self.connection.live()).await {
            Ok(Some(live)) => live,
            Ok(None) => return Err(self.unreachable("the connection is closed")),
            Err(_) => return Err(self.unreachable("no connection")),
        };
        let topology = &self.connection.settings.topology;
        let open = async {
            let channel = live.channel().await?;
            let declared = topology.declare_events(&channel, self.exchange.clone(), self.queue.clone()).await;
            Ok(declared.map(|()| channel))
        };
        let channel = match live.attempt(request_timeout, open).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                let what = format!("exchange {} or queue {}", self.exchange, self.queue);
                let action = format!("take events from {}", self.queue);
                let refused = events_refused(&error, &what, &action, "set AMQP_EVENTS=off");
                return Err(refused.unwrap_or_else(|| self.unreachable(&cause(&error))));
            }
            Err(cause) => return Err(self.unreachable(&cause)),
        };
        self.current = Some((Arc::clone(&live), channel.clone()));
        Ok((live, channel))
    }

    fn request_timeout(&self) -> Duration {
        self.connection.settings.request_timeout
    }

    fn unreachable(&self, cause: &str) -> BrokerError {
        BrokerError::Unreachable(format!("cannot pull events from {} ({cause})", self.queue))
    }
}

#[async_trait]
impl EventQueue for RabbitMqEventQueue {
    async fn pull(&mut self) -> Result<Option<EventDelivery>, BrokerError> {
        if self.pulling.is_none() {
            let (live, channel) = self.channel().await?;
            self.pulling = Some(tokio::spawn(get(live, channel, self.queue.clone(), self.request_timeout())));
        }
        let Some(pulling) = &mut self.pulling else { return Ok(None) };
        let pulled = pulling.await;
        self.pulling = None;
        match pulled {
            Ok(Ok(event)) => Ok(event),
            Ok(Err(cause)) => {
                self.current = None;
                Err(self.unreachable(&cause))
            }
            Err(error) => Err(self.unreachable(&error.to_string())),
        }
    }

    fn put_back(&mut self) {
        // The task continues, and its event is dropped with its result, which gives it back.
        self.pulling = None;
    }
}

async fn get(
    live: Arc<LiveConnection>,
    channel: Channel,
    queue: ShortString,
    request_timeout: Duration,
) -> Result<Option<EventDelivery>, String> {
    let answer = live.attempt(request_timeout, channel.basic_get(queue, BasicGetOptions::default())).await?;
    Ok(answer.map(|message| {
        let lapin::message::Delivery { data, acker, .. } = message.delivery;
        let receipt = AckerReceipt { live, request_timeout, acker: Some(acker) };
        EventDelivery::new(data.into(), Box::new(receipt))
    }))
}

struct AckerReceipt {
    live: Arc<LiveConnection>,
    request_timeout: Duration,
    /// Until it is settled.
    acker: Option<Acker>,
}

impl AckerReceipt {
    async fn settle<F: Future<Output = lapin::Result<bool>> + Send + 'static>(
        mut self: Box<Self>,
        how: impl FnOnce(Acker) -> F,
    ) -> Result<(), BrokerError> {
        let Some(acker) = self.acker.take() else { return Ok(()) };
        let (live, request_timeout, settling) = (Arc::clone(&self.live), self.request_timeout, how(acker));
        // In a task of its own: an event whose settling is cancelled half-way would be held for ever.
        let settled = tokio::spawn(async move { live.attempt(request_timeout, settling).await }).await;
        let unreachable = |cause: &str| {
            BrokerError::Unreachable(format!("an event is not settled and will be redelivered ({cause})"))
        };
        match settled {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(unreachable("its channel is closed")),
            Ok(Err(cause)) => Err(unreachable(&cause)),
            Err(error) => Err(unreachable(&error.to_string())),
        }
    }
}

#[async_trait]
impl EventReceipt for AckerReceipt {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError> {
        self.settle(|acker| async move { acker.ack(BasicAckOptions::default()).await }).await
    }

    async fn dead_letter(self: Box<Self>) -> Result<(), BrokerError> {
        let options = BasicNackOptions { requeue: false, multiple: false };
        self.settle(|acker| async move { acker.nack(options).await }).await
    }
}

impl Drop for AckerReceipt {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take() else { return };
        // Without a runtime the connection ends too, and gives everything back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (live, request_timeout) = (Arc::clone(&self.live), self.request_timeout);
            runtime.spawn(async move {
                let options = BasicNackOptions { requeue: true, multiple: false };
                let _ = live.attempt(request_timeout, acker.nack(options)).await;
            });
        }
    }
}
