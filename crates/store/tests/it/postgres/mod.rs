//! What only a server does.

pub(crate) mod pgbouncer;
mod poolers;
mod rows;
pub(crate) mod server;
