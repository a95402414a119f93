//! The broker seam: RabbitMQ and an in-process broker behind one trait.
//!
//! Stages do not use AMQP directly. They publish through [`publish_until_confirmed`] and consume through [`serve`] (single
//! messages) or [`serve_batches`], which pass decoded values to the stage and take [`DeliveryOutcome`]s back. Only this crate
//! acknowledges: decode, process, publish downstream, confirm, then acknowledge upstream. If a process dies in between, the
//! message is redelivered.
//!
//! - `broker`: the [`Broker`] trait, its deliveries and errors; `route` and `message`: what goes where
//! - `publish`: publishing until confirmed; `consume`: single messages, batches, dead letters; `memory`: bounds in bytes
//! - `diagnose`: what `assay doctor` asks
//! - `trace`: the spans of messages
//! - `broadcast`: messages to all processes; `events`: bucket notifications of other programs
//! - `rabbitmq`: the implementation on RabbitMQ 3.10 to 4.x; `in_process`: that of `assay run`, under the same contract suite
//!   (`tests/it/contract`)

mod broadcast;
mod broker;
mod consume;
mod diagnose;
mod events;
mod in_process;
mod memory;
mod message;
mod metrics;
mod options;
mod publish;
mod rabbitmq;
mod route;
mod trace;

pub use broker::{
    BroadcastListener, Broker, BrokerError, Consumer, Death, Delivery, PublishError, QueueCounts, health_check,
};
pub use consume::{
    BatchItem, BatchOptions, DeliveryOutcome, DrainOutcome, ServeOptions, serve, serve_batches, serve_dead_letters,
    serve_weighted,
};
pub use diagnose::{DEPENDENCY, RoundTrip, diagnose, measure_round_trip};
pub use events::{EventDelivery, EventQueue};
pub use in_process::InProcess;
pub use message::{MAX_MESSAGE_BYTES, Message, PackedForms};
pub use metrics::observe_depths;
pub use options::{BrokerEndpoint, BrokerOptions, connect, declare, declare_events_exchange, finish_upgrade};
pub use publish::{ConfirmError, PublishWindow, publish_until_confirmed};
pub use route::{QueueKind, Route};
pub use trace::publish_once;
