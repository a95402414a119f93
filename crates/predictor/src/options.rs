//! How live transactions are collected and read.

use std::num::NonZeroUsize;
use std::time::Duration;

use assay_transaction::{TimeZone, parse_duration};
use clap::Args;

/// How live transactions share requests, and how those of other people's producers are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Live transactions")]
pub struct LiveOptions {
    /// Most live transactions that share one request to the ML API
    #[arg(long, env = "API_BATCH_SIZE", default_value = "100", value_name = "ROWS")]
    pub api_batch_size: NonZeroUsize,
    /// How long a live transaction waits for others to share its request with
    #[arg(long, env = "BUFFER_TIMEOUT", default_value = "20ms", value_parser = parse_duration, value_name = "DURATION")]
    pub buffer_timeout: Duration,
    /// Zone of timestamps that name none, in what other producers send
    #[arg(long, env = "TIME_ZONE", default_value = "UTC", value_name = "ZONE")]
    pub time_zone: TimeZone,
    /// Namespace in which the ids of what other producers send are unique [default: each producer has its own]
    #[arg(long, env = "ID_NAMESPACE", value_name = "TEXT")]
    pub id_namespace: Option<String>,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            api_batch_size: const { NonZeroUsize::new(100).unwrap() },
            buffer_timeout: Duration::from_millis(20),
            time_zone: TimeZone::UTC,
            id_namespace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        live: LiveOptions,
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let LiveOptions { api_batch_size, buffer_timeout, time_zone, id_namespace } = Program::parse_from(["x"]).live;
        let default = LiveOptions::default();
        assert_eq!((api_batch_size, buffer_timeout), (default.api_batch_size, default.buffer_timeout));
        assert_eq!((time_zone, id_namespace), (default.time_zone, default.id_namespace));
    }
}
