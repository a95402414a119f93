//! The server over real sockets, and the model that it serves.

mod endpoints;
mod generated;
mod http;
mod model;
mod openapi;
