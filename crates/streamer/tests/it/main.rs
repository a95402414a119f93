//! The streamer as a library, over a real socket, with everything it depends on in this process.

mod fixture;
mod openapi;
mod refused_requests;
mod serve;
mod simulate;
mod unconfirmed;
