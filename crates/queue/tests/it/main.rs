//! The contract of the broker seam, on both implementations, and what RabbitMQ alone can go through.

mod broker;
mod consumer_timeout;
mod control;
mod dead_letters;
mod events;
mod fixture;
mod holding;
mod hostile;
mod node;
mod proxy;
mod rabbitmq;
mod serving;
mod serving_batches;
