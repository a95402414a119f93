//! Live transactions: from the streamer or an external producer to the feed of predictions.

mod external_programs;
mod identities;
mod prediction_feed;
pub(crate) mod streamer;
