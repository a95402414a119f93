//! A broker that loses the connection after each message, before it confirms it.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{
    BroadcastListener, Broker, BrokerError, Consumer, EventQueue, InProcess, Message, PublishError, QueueCounts, Route,
};
use async_trait::async_trait;

pub(crate) struct UnconfirmingBroker(Arc<dyn Broker>);

impl UnconfirmingBroker {
    pub(crate) fn start() -> Arc<dyn Broker> {
        Arc::new(Self(InProcess::new(100)))
    }
}

#[async_trait]
impl Broker for UnconfirmingBroker {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.0.publish(route, message).await?;
        Err(PublishError::Unavailable("connection lost".to_owned()))
    }

    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError> {
        self.0.publish_later(route, message, after).await
    }

    async fn dead_letter(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError> {
        self.0.dead_letter(route, message, reason).await
    }

    async fn wait_for_room(&self, route: Route) {
        self.0.wait_for_room(route).await;
    }

    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.consume(route, prefetch).await
    }

    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.consume_dead_letters(prefetch).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.0.broadcast(message).await
    }

    async fn publish_to_feed(&self, key: &str, message: Message) -> Result<(), PublishError> {
        self.0.publish_to_feed(key, message).await
    }

    async fn listen(&self) -> Result<Box<dyn BroadcastListener>, BrokerError> {
        self.0.listen().await
    }

    async fn subscribe_events(&self, exchange: &str, watched: &str) -> Result<Box<dyn EventQueue>, BrokerError> {
        self.0.subscribe_events(exchange, watched).await
    }

    async fn depth(&self, route: Route) -> Result<QueueCounts, BrokerError> {
        self.0.depth(route).await
    }

    fn health(&self) -> Result<(), String> {
        self.0.health()
    }

    fn max_in_flight(&self) -> usize {
        self.0.max_in_flight()
    }

    fn hold_timeout(&self) -> Duration {
        self.0.hold_timeout()
    }

    fn survives_restart(&self) -> bool {
        self.0.survives_restart()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
