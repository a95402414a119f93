//! The command lines of all programs, of which completions, man pages and docs/configuration.md are made.

use clap::{Command, CommandFactory as _};

/// `assay`, `loader`, `predictor`, `writer`, `streamer` and `ml-api`, in this order.
pub(crate) fn programs() -> [Command; 6] {
    [
        crate::arguments::Arguments::command(),
        assay_loader::Arguments::command(),
        assay_predictor::Arguments::command(),
        assay_writer::Arguments::command(),
        assay_streamer::Arguments::command(),
        assay_ml_api::Arguments::command(),
    ]
}
