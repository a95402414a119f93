//! What only a server does.

pub(crate) mod pgbouncer;
mod poolers;
pub(crate) mod server;
