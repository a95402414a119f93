//! The harness of the end-to-end tests: a deployment of Assay, made anew for each test.
//!
//! A [`Stack`] is a private database, a private set of queues, an S3 server and an ML API, the last two in this process; it
//! starts the real programs on them. [`Program`] runs one with its own environment and keeps its output.
//! [`law`] checks the row accounting in the tables; [`scenarios`] play what must hold at any size. PostgreSQL and RabbitMQ come from
//! `TEST_DATABASE_URL` and `TEST_AMQP_URL`, which `scripts/test` sets. Servers, proxies and the scripted ML API are in
//! `assay-testkit`.
//!
//! [`faults`] is another harness, for failures: it kills its services, so they are its own. [`mutations`] needs none: it reads
//! files in this process.
//!
//! Nothing here waits by sleeping: every wait is for an output, a count or a record, and has a deadline.

mod content;
pub mod faults;
mod fleet;
pub mod guide;
pub mod law;
pub mod mutations;
mod rows;
pub mod scenarios;

pub use assay_testkit::servers::{Extras, Postgres, RabbitMq, Tools};
pub use assay_testkit::{
    Answer, Authority, Certificate, ClosedPort, DEADLINE, MlApi, NOT_UTF_8, Proxy, RawAmqp, RawProperties, S3Server,
    Script, TlsProxy, free_port, get, get_text, post, post_with,
};
pub use content::{STORED, assert_same, content};
pub use fleet::{Broker, Database, Ended, Heard, Listener, Program, Queue, Role, Running, Stack, Taken};
pub use rows::{HEADER, Rows, row};
