//! Settings of the streamer.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use assay_connect::SecretString;
use assay_source::FormatOptions;
use assay_transaction::{IdScheme, MAX_LIVE_ROWS, Producer, RunSettings, TimeZone, parse_duration};
use clap::Args;

use crate::StreamError;
use crate::tokens::Tokens;

/// Upper limit of the setting: predictors and writers bound live messages by number, and so by bytes.
const MAX_BODY_BYTES: u32 = 1024 * 1024;

/// How transactions are read and identified.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reading")]
pub struct LiveReadOptions {
    /// Time zone of timestamps without an offset, such as Europe/Paris
    #[arg(long, env = "TIME_ZONE", default_value = "UTC", value_name = "ZONE")]
    pub time_zone: TimeZone,
    /// Namespace in which ids are unique [default: the producer's]
    #[arg(long, env = "ID_NAMESPACE", value_name = "TEXT")]
    pub id_namespace: Option<String>,
}

impl LiveReadOptions {
    /// Settings by which transactions of a producer are read, for a database of this scheme of ids.
    pub(crate) fn settings(&self, producer: &Producer, ids: IdScheme) -> RunSettings {
        RunSettings::live_read_in(producer, self.time_zone, self.id_namespace.as_deref(), ids)
    }
}

/// Address, authorization and limits of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Serving")]
pub struct StreamerOptions {
    /// Address of the server; any other than loopback requires tokens
    #[arg(long, env = "STREAMER_ADDR", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    pub streamer_addr: SocketAddr,
    /// Name of the producer, which has one run per day, such as live_streamer_20260111
    #[arg(long, env = "PRODUCER_RUN_ID", default_value = "streamer", value_name = "NAME")]
    pub producer_run_id: Producer,
    /// Accepted tokens of the clients, separated by commas: Authorization: Bearer …
    #[arg(long, env = "STREAMER_TOKENS", hide_env_values = true, value_name = "TOKENS")]
    pub streamer_tokens: Option<SecretString>,
    /// File with the accepted tokens
    #[arg(long, env = "STREAMER_TOKENS_FILE", value_name = "PATH")]
    pub streamer_tokens_file: Option<PathBuf>,
    /// Largest request body, in bytes
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = MAX_BODY_BYTES, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=MAX_BODY_BYTES.into()))]
    pub max_body_bytes: u32,
    /// Concurrent requests, including those that wait for predictions
    #[arg(long, env = "MAX_REQUESTS", default_value_t = 256, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_requests: u32,
    /// Reading.
    #[command(flatten)]
    pub read: LiveReadOptions,
}

impl StreamerOptions {
    /// The accepted tokens.
    pub fn tokens(&self) -> Result<Tokens, StreamError> {
        Tokens::read(self.streamer_tokens.as_ref(), self.streamer_tokens_file.as_deref(), self.streamer_addr)
    }
}

/// Contents and pace of a simulation.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Simulating")]
pub struct SimulateOptions {
    /// File to send, CSV or JSON Lines [default: generated transactions]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Number of transactions to send [default: the whole file; generated ones until Ctrl-C]
    #[arg(long, value_name = "COUNT")]
    pub transactions: Option<u64>,
    /// Name of the producer, which has one run per day, such as live_simulator_20260111
    #[arg(long, env = "PRODUCER_RUN_ID", default_value = "simulator", value_name = "NAME")]
    pub producer_run_id: Producer,
    /// Time between two messages
    #[arg(long, env = "PRODUCE_INTERVAL", default_value = "1s", value_parser = parse_interval, value_name = "DURATION")]
    pub produce_interval: Duration,
    /// Fewest transactions per message
    #[arg(long, env = "MIN_RECORDS_PER_BATCH", default_value_t = 1, value_name = "COUNT", value_parser = records())]
    pub min_records_per_batch: u16,
    /// Most transactions per message
    #[arg(long, env = "MAX_RECORDS_PER_BATCH", default_value_t = 10, value_name = "COUNT", value_parser = records())]
    pub max_records_per_batch: u16,
    /// Transactions per second, one per message, instead of messages at an interval
    #[arg(long, value_name = "TX_PER_SECOND")]
    pub rate: Option<NonZeroU32>,
    /// Reading.
    #[command(flatten)]
    pub read: LiveReadOptions,
    /// Format of the file.
    #[command(flatten)]
    pub format: FormatOptions,
}

fn records() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::try_from(MAX_LIVE_ROWS).unwrap_or(i64::MAX))
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be at least 1ms; use --rate for more".to_owned()),
        interval => Ok(interval),
    }
}

impl SimulateOptions {
    /// Whether the settings contradict each other.
    pub fn check(&self) -> Result<(), StreamError> {
        let (fewest, most) = (self.min_records_per_batch, self.max_records_per_batch);
        if fewest > most {
            return Err(StreamError::Setting(format!(
                "MIN_RECORDS_PER_BATCH is {fewest}, more than MAX_RECORDS_PER_BATCH, {most}"
            )));
        }
        Ok(())
    }
}
