//! The reference ML API: a demonstration model behind HTTP.
//!
//! It is what `assay run` scores with where no `ML_API_URL` is given, and what one's own model server can be compared
//! with. [`serve`] answers over HTTP; [`Model`] scores; [`features`](Tables) are computed by one module for training and
//! serving alike, so that the two never differ.
//!
//! **The model that comes along is a demonstration.** It is trained on made-up data that `assay-generator` makes, with
//! fraud patterns that were planted there. It must not decide about anybody's real money. What it is worth on made-up
//! data that it has not seen is in the crate's README.
//!
//! The model is trained elsewhere (`crates/training`), by a library that is not needed here: what is left of it is a
//! JSON file, and the few lines of [`Model`] that walk its trees.

mod arguments;
mod error;
mod features;
mod fields;
mod metrics;
mod model;
mod predict;
mod server;

pub use arguments::Arguments;
pub use error::ApiError;
pub use features::{Encoder, FEATURES, Features, Merchant, Tables, words};
pub use fields::TransactionFields;
pub use model::{MAX_DEPTH, Model, ModelError, ModelFile, Training, Tree};
pub use predict::{RejectedRequest, ScoredBatch, predict};
pub use server::{ServeOptions, serve};
