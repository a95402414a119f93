//! The exchange with the ML API: HTTP, the format of requests and responses, and the health check.

pub(crate) mod address;
mod error_body;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod protocol;
mod traced;
