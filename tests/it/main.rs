//! End-to-end tests: the real programs as child processes, on a real PostgreSQL, a real RabbitMQ, an S3 server and an ML
//! API. Every test that begins a run asserts the law for it.

mod again;
mod api;
mod crashes;
mod dependencies;
mod generated;
mod loads;
mod one_process;
mod rejects;
mod scenarios;
mod settings;
mod sources;
