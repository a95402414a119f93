//! The contract of the broker seam, on both implementations, and what RabbitMQ alone can go through.

mod broker;
mod consumer_timeout;
mod control;
mod dead_letters;
mod events;
mod fixture;
mod holding;
mod hostile;
mod memory;
mod node;
mod poison;
mod proxy;
mod rabbitmq;
/// Shared with the end-to-end tests.
#[expect(unreachable_pub, reason = "there it is public")]
#[path = "../../../../tests/src/raw_amqp.rs"]
mod raw_amqp;
mod serving;
mod serving_batches;
