//! End-to-end tests: the real programs as child processes, on a real PostgreSQL, a real RabbitMQ, an S3 server and an ML
//! API. Every test that begins a run asserts the law for it.

mod alerts;
mod commands;
mod failures;
mod field;
mod live;
mod loads;
mod metrics_and_health;
mod scenarios;
mod security;
mod settings;
#[cfg(feature = "otlp")]
mod traces;
mod watching;
