//! What fails, and what must not be lost then: programs, services, the ML API, messages.

mod crashes;
mod dead_letters;
mod ended_early;
mod injected;
mod malformed_messages;
mod ml_api;
mod outages;
mod poison_properties;
mod restored_database;
mod unreachable;
