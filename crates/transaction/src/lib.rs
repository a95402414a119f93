//! The domain of Assay: transactions, chunks, runs, the rules a row must pass, and the reasons it may fail.
//!
//! Everything here is pure: no I/O, no clock, no environment. All other crates depend on this one; it depends on none of them.
//!
//! A row's path: the source passes its fields to [`Rules::check_fields`], which returns [`CheckedFields`] or a [`Rejection`]; the
//! [`Chunker`] writes rows into [`EncodedChunk`]s; a predictor turns a [`Chunk`] into a [`ScoredChunk`]; the store records it. A row is
//! always in exactly one list of its chunk, so the law holds: `rows_read = predicted + invalid + failed + duplicate`.

mod message;
mod rules;
mod run;
mod schema;
mod value;

pub use message::*;
pub use rules::*;
pub use run::*;
pub use schema::*;
pub use value::*;
