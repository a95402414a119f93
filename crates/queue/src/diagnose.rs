//! What `assay doctor` asks of RabbitMQ.

use std::time::Duration;

use assay_connect::{Finding, Role};

use crate::{BrokerError, BrokerOptions, Message, rabbitmq};

/// The name of RabbitMQ as a dependency, in `/health/ready` and in `assay doctor`.
pub const DEPENDENCY: &str = "rabbitmq";

/// What [`measure_round_trip`] measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// Messages that came back and were acknowledged.
    pub messages: u64,
    /// How long that took.
    pub took: Duration,
}

/// Checks the RabbitMQ of the settings without disturbing a fleet at work, for one program or for all. Each step takes at most
/// `limit`.
pub async fn diagnose(options: &BrokerOptions, role: Option<Role>, limit: Duration) -> Vec<Finding> {
    rabbitmq::diagnose(options, role, limit).await
}

/// Sends copies of a message through a queue of its own for that long, and leaves nothing behind. To connect may take `limit`.
pub async fn measure_round_trip(
    options: &BrokerOptions,
    message: Message,
    time: Duration,
    limit: Duration,
) -> Result<RoundTrip, BrokerError> {
    rabbitmq::round_trip(options, message, time, limit).await
}
