//! The harness of the end-to-end tests: what a deployment of Assay consists of, made anew for each test.
//!
//! A [`Stack`] is a private database, a private set of queues, an S3 server and an ML API, both in this process, and knows
//! how to start the real programs beside them. [`Program`] runs one with an environment of its own and keeps what it says.
//! [`law`] counts the law from the tables; [`scenarios`] play what must hold at any size. PostgreSQL and RabbitMQ come from `TEST_DATABASE_URL` and `TEST_AMQP_URL`, which
//! `scripts/test` sets.
//!
//! [`faults`] is another harness, for what goes wrong: its services are its own, as they are killed. [`mutations`] needs none: it
//! reads files in this process.
//!
//! Nothing here waits by sleeping: every wait is for something that is said, counted or recorded, and has a deadline.

mod broker;
mod closed_port;
mod content;
mod database;
mod dice;
pub mod faults;
mod feed;
mod http;
pub mod law;
mod ml_api;
pub mod mutations;
mod process;
mod raw_amqp;
mod role;
mod rows;
mod s3;
pub mod scenarios;
mod servers;
mod stack;
mod tampering;
mod tls;

pub use broker::{Broker, Queue};
pub use closed_port::ClosedPort;
pub use content::{STORED, assert_same, content};
pub use database::Database;
pub use feed::{Heard, Listener};
pub use http::{Answer, get, get_text, post};
pub use ml_api::{MlApi, Script};
pub use process::{Ended, Program, Running};
pub use raw_amqp::{NOT_UTF_8, RawAmqp, RawProperties};
pub use role::Role;
pub use rows::{HEADER, Rows, row};
pub use s3::S3Server;
pub use servers::{Extras, Postgres, RabbitMq, Tools, free_port};
pub use stack::Stack;
pub use tampering::Taken;
pub use tls::{Authority, Certificate, TlsProxy};

use std::time::Duration;

/// How long anything may take that the tests wait for: far beyond what it takes on a busy machine with two cores.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Where something is that `scripts/test` provisions.
fn service_url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run ./scripts/test, which provisions it"))
}

/// A name that no other test has, fit for a database and for a queue.
fn unique_name() -> String {
    format!("assay_{}", uuid::Uuid::new_v4().simple())
}

/// Does something asynchronous where a value is dropped, in a panicking test too: on a thread with a runtime of its own.
fn on_drop(work: impl Future<Output = ()> + Send + 'static) {
    let cleaner = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        // What cannot be cleaned up in time is left to the owner of the service.
        let _ = runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
    });
    // A failure to clean up must not hide what the test says.
    let _ = cleaner.join();
}
