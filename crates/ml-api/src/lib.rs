//! The reference ML API: a demonstration model behind HTTP.
//!
//! `assay run` scores with it unless `ML_API_URL` is set; it is also a reference for a model server of your own. [`serve`]
//! answers over HTTP; [`Model`] scores; one module computes the [features](Tables) for training and serving, so that the two
//! never differ.
//!
//! **The bundled model is a demonstration.** It is trained on data made up by `assay-generator`, with planted fraud patterns,
//! and must not decide about real money. The crate's README says how good it is on unseen made-up data.
//!
//! The model is trained in `crates/training`, by a library that is not needed here: a model is a JSON file, and [`Model`]
//! walks its trees.

mod arguments;
mod error;
mod features;
mod fields;
mod metrics;
mod model;
mod predict;
mod server;

pub use arguments::Arguments;
pub use error::MlApiError;
pub use features::{FEATURES, FeatureEncoder, Features, MerchantStats, Tables, words};
pub use fields::TransactionFields;
pub use model::{MAX_DEPTH, Model, ModelError, ModelFile, Training, Tree};
pub use predict::{RejectedRequest, ScoredBatch, predict};
pub use server::{ModelServerOptions, serve};
