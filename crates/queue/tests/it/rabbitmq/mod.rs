//! What RabbitMQ alone can go through.

mod connections;
mod consumer_timeout;
mod events;
mod malformed_input;
mod poison;
