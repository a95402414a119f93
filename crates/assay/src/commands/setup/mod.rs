//! Commands that prepare an installation and check on it.

pub(crate) mod declare;
pub(crate) mod health;
pub(crate) mod migrate;
pub(crate) mod watch_setup;
