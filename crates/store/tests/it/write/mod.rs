//! Chunks become rows.

mod chunks;
mod conflicts;
mod in_bulk;
mod known_rows;
mod leftovers;
mod malformed_input;
mod models;
mod refused_data;
mod replays;
mod statistics;
