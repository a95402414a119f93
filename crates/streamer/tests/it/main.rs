//! The streamer as a library, over a real socket, with everything it depends on in this process.

mod openapi;
mod place;
mod refusing;
mod serving;
mod simulating;
mod unsure;
