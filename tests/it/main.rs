//! End-to-end tests: the real programs as child processes, on a real PostgreSQL, a real RabbitMQ, an S3 server and an ML
//! API. Every test that begins a run asserts the law for it.

mod again;
mod api;
mod awkward;
mod crashes;
mod dead_letters;
mod dependencies;
mod desk_answers;
mod desk_audit;
mod desk_cancel;
mod desk_guide;
mod desk_in_one_process;
mod desk_invalid;
mod desk_on_the_way;
mod desk_repair;
mod desk_replay;
mod ended_early;
mod failures;
mod faults;
mod feed;
mod foreign;
mod generated;
mod hostile;
mod live;
mod loads;
mod many;
mod mapping;
mod one_process;
mod rejects;
mod roles;
mod scenarios;
mod secrets;
mod settings;
mod sources;
mod tls;
mod watching;
