//! Tests of the broker seam: its contract on both implementations, and what concerns RabbitMQ alone.

mod contract;
mod fixture;
mod rabbitmq;
