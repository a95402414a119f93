//! The server over real sockets, and its model.

mod endpoints;
mod generated;
mod http;
mod model;
mod openapi;
