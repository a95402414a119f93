//! End-to-end tests: the real programs as child processes, on a real PostgreSQL, a real RabbitMQ, an S3 server and an ML
//! API. Every test that begins a run asserts the law for it.

mod addresses;
mod again;
mod api;
mod awkward;
mod commands;
mod crashes;
mod dead_letters;
mod dependencies;
mod ended_early;
mod failures;
mod faults;
mod feed;
mod field;
mod foreign;
mod from_the_old_job;
mod generated;
mod hostile;
mod live;
mod loaded_before;
mod loads;
mod many;
mod mapping;
mod observed;
mod one_process;
mod poison;
mod rejects;
mod restored;
mod roles;
mod row_content;
mod scenarios;
mod secrets;
mod settings;
mod sources;
mod tls;
mod watching;
