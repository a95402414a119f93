//! Tests of the broker seam: its contract on both implementations, and what concerns RabbitMQ alone.

mod contract;
mod fixture;
mod node;
mod proxy;
mod rabbitmq;
/// Shared with the end-to-end tests.
#[expect(unreachable_pub, reason = "there it is public")]
#[path = "../../../../tests/src/raw_amqp.rs"]
mod raw_amqp;
