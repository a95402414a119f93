//! What the tests of the crates and the end-to-end tests share: private servers, proxies, an S3 server, a scripted ML API, and
//! clients that do what no library does.
//!
//! It depends on no crate of Assay, so that unit tests may use it. What needs the programs is in `tests/src`.
//!
//! - [`servers`] starts PostgreSQL, RabbitMQ and PgBouncer as processes that a test may kill
//! - [`Proxy`] cuts, silences or refuses connections; [`TlsProxy`] adds TLS
//! - [`S3Server`] and [`MlApi`] run in the process of the test
//! - [`free_port`] and [`ClosedPort`] choose ports that no other test gets

mod dice;
mod http;
mod ml_api;
mod ports;
mod proxy;
mod raw_amqp;
mod s3;
pub mod servers;
mod tls;
pub mod topology;

pub use dice::Dice;
pub use http::{Answer, exchange, get, get_text, post, post_with};
pub use ml_api::{MlApi, Script};
pub use ports::{ClosedPort, free_port};
pub use proxy::Proxy;
pub use raw_amqp::{NOT_UTF_8, RawAmqp, RawProperties, nested_table};
pub use s3::S3Server;
pub use tls::{Authority, Certificate, TlsProxy};

use std::time::Duration;

/// Longest wait for anything: far more than it takes on a busy machine with two cores.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The address of a service that `scripts/test` provisions.
pub fn service_url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run ./scripts/test, which provisions it"))
}

/// A name that no other test has, valid for a database and for a queue.
pub fn unique_name() -> String {
    format!("assay_{}", uuid::Uuid::new_v4().simple())
}

/// Runs asynchronous work while a value is dropped, also in a panicking test: on a thread with its own runtime.
pub fn on_drop(work: impl Future<Output = ()> + Send + 'static) {
    let cleaner = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        // What cannot be cleaned up in time is left to the provisioner of the service.
        let _ = runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
    });
    // A failure to clean up must not hide the result of the test.
    let _ = cleaner.join();
}
