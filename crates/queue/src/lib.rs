//! The broker seam: RabbitMQ and an in-process broker behind one trait.
//!
//! A stage never talks AMQP. It publishes through [`publish_until_confirmed`], and it consumes through [`serve`] (one
//! message at a time, many at once) or [`serve_batches`] (many messages in one go), which hand it decoded values and take
//! back [`Outcome`]s. Only this crate acknowledges, and only after what the outcome asks for has been confirmed: decode,
//! process, publish downstream, confirm, then acknowledge upstream. Whatever dies in between, the message is redelivered.
//!
//! - `broker`: the [`Broker`] trait, its deliveries and its errors; `route` and `message`: what goes where
//! - `rabbitmq`: the implementation on RabbitMQ, 3.10 to 4.x, with its own reconnect loop; the topology is in one file
//! - `in_process`: the implementation of `assay run`, under the same contract suite (`tests/it`)
//! - `publish`, `serve`, `batches`, `outcome`, `hold`: what stages use; `memory`: how much of it they hold
//! - `dead_letters`: what is done with messages that were given up; `control`: what is told to all processes;
//!   `events`: what others say of their objects

mod broadcast;
mod broker;
mod consume;
mod events;
mod in_process;
mod memory;
mod message;
mod metrics;
mod options;
mod publish;
mod rabbitmq;
mod route;

pub use broker::{Broker, BrokerError, Consumer, Death, Delivery, Depth, Listener, PublishError, health_check};
pub use consume::{BatchOptions, Drained, Outcome, ServeOptions, Weighed, serve, serve_batches, serve_dead_letters};
pub use events::{EventDelivery, EventQueue};
pub use in_process::InProcess;
pub use message::{MAX_MESSAGE_BYTES, Message};
pub use metrics::observe_depths;
pub use options::{BrokerOptions, connect, declare, declare_events_exchange};
pub use publish::{PublishWindow, Unpublished, publish_until_confirmed};
pub use route::{Route, Work};
