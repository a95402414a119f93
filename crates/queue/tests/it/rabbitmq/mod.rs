//! What concerns RabbitMQ alone: the network, its timeouts, and external messages.

mod connections;
mod consumer_timeout;
mod events;
mod malformed_input;
mod permissions;
mod poison;
mod priorities;
mod upgrade;
