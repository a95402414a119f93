//! Settings of the writer.

use std::num::NonZeroUsize;
use std::time::Duration;

use assay_store::IdConflict;
use assay_transaction::parse_duration;
use clap::{Args, ValueEnum};

/// Which stored predictions are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PredictionFeed {
    /// None.
    #[default]
    Off,
    /// Those labelled `fraud`, or with a score of 0.5 or more.
    Flagged,
    /// All.
    All,
}

/// Batching, the feed, and conflicts of ids.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Writing")]
pub struct WriterOptions {
    /// Rows that are written in one database transaction, up to four times as many from a backlog
    #[arg(long, env = "DB_ROW_BATCH_SIZE", default_value = "5000", value_name = "ROWS")]
    pub db_row_batch_size: NonZeroUsize,
    /// Batches written concurrently, each on its own connection
    #[arg(long, env = "DB_MAX_WORKERS", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=16), value_name = "COUNT")]
    pub db_max_workers: u8,
    /// Longest wait before a partial batch is written; it is written sooner if no more rows come
    #[arg(long, env = "FLUSH_INTERVAL", default_value = "200ms", value_parser = parse_duration, value_name = "DURATION")]
    pub flush_interval: Duration,
    /// Longest wait before a partial batch of live transactions is written
    #[arg(long, env = "REALTIME_FLUSH_INTERVAL", default_value = "5ms", value_parser = parse_duration, value_name = "DURATION")]
    pub realtime_flush_interval: Duration,
    /// What a transaction does whose id is stored with other content: fail, or update the stored one
    #[arg(long, env = "ID_CONFLICT", default_value = "fail", value_enum, value_name = "POLICY")]
    pub id_conflict: IdConflict,
    /// Stored predictions to announce on the exchange `assay.predictions`: off, flagged (fraud) or all
    #[arg(long, env = "PREDICTION_FEED", default_value = "off", value_enum, value_name = "WHICH")]
    pub prediction_feed: PredictionFeed,
}
