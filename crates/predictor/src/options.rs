//! Settings of live transactions: how they share requests, and how external messages are read.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use assay_transaction::{ParseProducerError, Producer, TimeZone, parse_duration};
use clap::Args;

/// How live transactions share requests, and how messages of external producers are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Live transactions")]
pub struct LiveOptions {
    /// Most transactions in one request to the ML API
    #[arg(long, env = "API_BATCH_SIZE", default_value = "100", value_name = "ROWS")]
    pub api_batch_size: NonZeroUsize,
    /// Longest wait of a live transaction for others to share its request
    #[arg(long, env = "BUFFER_TIMEOUT", default_value = "20ms", value_parser = parse_duration, value_name = "DURATION")]
    pub buffer_timeout: Duration,
    /// Time zone of timestamps without one, in messages of external producers
    #[arg(long, env = "TIME_ZONE", default_value = "UTC", value_name = "ZONE")]
    pub time_zone: TimeZone,
    /// Namespace of the ids in messages of external producers [default: one for each producer]
    #[arg(long, env = "ID_NAMESPACE", value_name = "TEXT")]
    pub id_namespace: Option<String>,
    /// Producer names by `app_id`, comma-separated, such as `till 7=till-7` [default: an invalid name is cleaned and gets a hash]
    #[arg(long, env = "PRODUCER_ALIASES", value_delimiter = ',', value_name = "APP_ID=NAME")]
    pub producer_aliases: Vec<ProducerAlias>,
}

/// The producer name of an external program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerAlias {
    /// The program's `app_id`.
    pub application: String,
    /// The producer's name.
    pub producer: Producer,
}

impl FromStr for ProducerAlias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A producer's name has no `=`; an `app_id` may.
        let (application, producer) = text.rsplit_once('=').ok_or("expected APP_ID=NAME, such as `till 7=till-7`")?;
        let producer = producer.parse().map_err(|error: ParseProducerError| error.to_string())?;
        Ok(Self { application: application.to_owned(), producer })
    }
}

impl LiveOptions {
    /// The producer of an `app_id`.
    pub(crate) fn producer(&self, application: &str) -> Producer {
        let alias = self.producer_aliases.iter().find(|alias| alias.application == application);
        alias.map_or_else(|| Producer::of_application(application), |alias| alias.producer.clone())
    }
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            api_batch_size: const { NonZeroUsize::new(100).unwrap() },
            buffer_timeout: Duration::from_millis(20),
            time_zone: TimeZone::UTC,
            id_namespace: None,
            producer_aliases: Vec::new(),
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
        let LiveOptions { api_batch_size, buffer_timeout, time_zone, id_namespace, producer_aliases } =
            Program::parse_from(["x"]).live;
        let default = LiveOptions::default();
        assert_eq!(producer_aliases, default.producer_aliases);
        assert_eq!((api_batch_size, buffer_timeout), (default.api_batch_size, default.buffer_timeout));
        assert_eq!((time_zone, id_namespace), (default.time_zone, default.id_namespace));
    }

    #[test]
    fn an_app_id_maps_to_its_producer() {
        let live = Program::parse_from(["x", "--producer-aliases", "till 7=till-7,a=b=c"]).live;
        for (application, expected) in [("till 7", "till-7"), ("a=b", "c"), ("till-7", "till-7"), ("other", "other")] {
            assert_eq!(live.producer(application).as_str(), expected);
        }
        assert_ne!(live.producer("till/7").as_str(), "till-7");
        for wrong in ["till 7", "till 7=till 7", "=", "till 7="] {
            assert!(Program::try_parse_from(["x", "--producer-aliases", wrong]).is_err(), "{wrong}");
        }
    }
}
