//! The exchange with the ML API: HTTP, the format of requests and responses, their signature, and the health check.

pub(crate) mod address;
mod error_body;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod protocol;
pub(crate) mod signing;
mod traced;
