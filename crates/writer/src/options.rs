//! How the writer collects and settles.

use std::num::NonZeroUsize;
use std::time::Duration;

use assay_store::IdConflict;
use assay_transaction::parse_duration;
use clap::{Args, ValueEnum};

/// Which predictions are told to whoever listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PredictionFeed {
    /// None.
    #[default]
    Off,
    /// Those that say `fraud`, or score 0.5 or more.
    Flagged,
    /// All.
    All,
}

/// How many rows are written together, and what happens where two claim one id.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "BatchWriter")]
pub struct WriterOptions {
    /// Rows at which collected chunks are written, in one database transaction
    #[arg(long, env = "DB_ROW_BATCH_SIZE", default_value = "5000", value_name = "ROWS")]
    pub db_row_batch_size: NonZeroUsize,
    /// How many batches are written at the same time, each on a connection of its own
    #[arg(long, env = "DB_MAX_WORKERS", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=16), value_name = "COUNT")]
    pub db_max_workers: u8,
    /// How long fewer rows than that may wait for more
    #[arg(long, env = "FLUSH_INTERVAL", default_value = "200ms", value_parser = parse_duration, value_name = "DURATION")]
    pub flush_interval: Duration,
    /// The same for live transactions
    #[arg(long, env = "REALTIME_FLUSH_INTERVAL", default_value = "5ms", value_parser = parse_duration, value_name = "DURATION")]
    pub realtime_flush_interval: Duration,
    /// What becomes of a transaction whose id is stored with other content: it fails, or it replaces the stored one
    #[arg(long, env = "ID_CONFLICT", default_value = "fail", value_enum, value_name = "POLICY")]
    pub id_conflict: IdConflict,
    /// Which stored predictions are announced on the exchange `assay.predictions`, for others to hear: those that say fraud,
    /// all, or none
    #[arg(long, env = "PREDICTION_FEED", default_value = "off", value_enum, value_name = "WHICH")]
    pub prediction_feed: PredictionFeed,
}
