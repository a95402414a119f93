//! The settings of the broker, and the way from them to a connected one.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_transaction::parse_duration;

use crate::{Broker, BrokerError, metrics, rabbitmq};

/// Which RabbitMQ to use, and how. Its `Debug` shows no password.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerOptions {
    /// Address of RabbitMQ: `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS.
    #[arg(long, env = "AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub amqp_url: Option<String>,
    /// File that holds the address of RabbitMQ, such as a mounted secret; instead of `AMQP_URL`.
    #[arg(long, env = "AMQP_URL_FILE", value_name = "PATH")]
    pub amqp_url_file: Option<PathBuf>,
    /// Put in front of the names of all queues and exchanges, so that installations can share a RabbitMQ.
    #[arg(long, env = "QUEUE_PREFIX", value_name = "TEXT", default_value = "", value_parser = parse_prefix)]
    pub queue_prefix: String,
    /// How many messages a work queue takes; publishers wait when it is full. What they have under way when it fills up is
    /// still taken: at most `PUBLISH_WINDOW` more for each process that publishes. RabbitMQ keeps it with the queue: to
    /// change it, delete the queues first.
    #[arg(long, env = "QUEUE_MAX_LENGTH", value_name = "MESSAGES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub queue_max_length: u32,
    /// How many messages may be published and not yet confirmed.
    #[arg(long, env = "PUBLISH_WINDOW", value_name = "MESSAGES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub publish_window: u16,
    /// How long a publish may take until it is confirmed, before it is tried again.
    #[arg(long, env = "PUBLISH_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub publish_timeout: Duration,
    /// How long a message is held while what it needs is away; then it is put off for a minute, and no attempt is counted.
    /// Work on a message that takes longer does not come to an end. RabbitMQ itself takes back what is held for 30 minutes.
    #[arg(long, env = "HOLD_TIMEOUT", value_name = "DURATION", default_value = "8m", value_parser = parse_hold)]
    pub hold_timeout: Duration,
}

/// The default of [`BrokerOptions::hold_timeout`].
pub(crate) const HOLD_TIMEOUT: Duration = Duration::from_mins(8);
/// A message can be held for up to three times the hold timeout: behind others, in work, and while RabbitMQ has no room for
/// what takes its place. RabbitMQ allows 30 minutes.
const LONGEST_HOLD: Duration = Duration::from_mins(9);

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            amqp_url: None,
            amqp_url_file: None,
            queue_prefix: String::new(),
            queue_max_length: 2000,
            publish_window: 64,
            publish_timeout: Duration::from_secs(30),
            hold_timeout: HOLD_TIMEOUT,
        }
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            amqp_url,
            amqp_url_file,
            queue_prefix,
            queue_max_length,
            publish_window,
            publish_timeout,
            hold_timeout,
        } = self;
        formatter
            .debug_struct("BrokerOptions")
            .field("amqp_url", &amqp_url.as_ref().map(|_| "…"))
            .field("amqp_url_file", amqp_url_file)
            .field("queue_prefix", queue_prefix)
            .field("queue_max_length", queue_max_length)
            .field("publish_window", publish_window)
            .field("publish_timeout", publish_timeout)
            .field("hold_timeout", hold_timeout)
            .finish()
    }
}

impl BrokerOptions {
    /// Whether an address of RabbitMQ was given. An empty one counts as none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.url().is_some() || self.file().is_some()
    }

    fn url(&self) -> Option<&str> {
        self.amqp_url.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }

    fn file(&self) -> Option<&PathBuf> {
        self.amqp_url_file.as_ref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The address, from wherever it was given.
    fn address(&self) -> Result<String, BrokerError> {
        match (self.url(), self.file()) {
            (Some(url), None) => Ok(url.to_owned()),
            (Some(_), Some(_)) => {
                Err(BrokerError::Usage("AMQP_URL and AMQP_URL_FILE are both set: keep one".to_owned()))
            }
            (None, None) => Err(BrokerError::Usage(
                "AMQP_URL is not set: give the address of RabbitMQ, such as amqp://user:password@host:5672".to_owned(),
            )),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    BrokerError::Usage(format!("cannot read {} ({error}): check AMQP_URL_FILE", path.display()))
                })?;
                match text.trim() {
                    "" => Err(BrokerError::Usage(format!("{} is empty: check AMQP_URL_FILE", path.display()))),
                    url => Ok(url.to_owned()),
                }
            }
        }
    }
}

/// Connects to RabbitMQ as `assay-<stage>` and declares the topology. A broker that is away is waited for during `startup`.
pub async fn connect(options: &BrokerOptions, stage: &str, startup: Duration) -> Result<Arc<dyn Broker>, BrokerError> {
    metrics::describe();
    let address = options.address()?;
    Ok(Arc::new(rabbitmq::RabbitMq::connect(&address, options, stage, startup).await?))
}

/// Declares the exchange that an S3 server publishes its events to, a durable topic exchange, and the topology with it; tells
/// the whole name of it, as `QUEUE_PREFIX` is put in front.
pub async fn declare_events_exchange(
    options: &BrokerOptions,
    exchange: &str,
    startup: Duration,
) -> Result<String, BrokerError> {
    rabbitmq::declare_exchange(&options.address()?, options, exchange, startup).await
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("nothing is confirmed in no time; write a duration such as 30s".to_owned()),
        timeout => Ok(timeout),
    }
}

fn parse_hold(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("no work is done in no time; write a duration such as 5m".to_owned()),
        hold if hold > LONGEST_HOLD => {
            Err("at most 9m: RabbitMQ takes back what is held for 30 minutes, and a message may be held three times as long"
                .to_owned())
        }
        hold => Ok(hold),
    }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.len() <= 64 && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("a prefix has at most 64 letters, digits, `.`, `_` or `-`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        broker: BrokerOptions,
    }

    fn parse(arguments: &[&str]) -> Result<BrokerOptions, clap::Error> {
        Program::try_parse_from([&["program"], arguments].concat()).map(|program| program.broker)
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let cases = [
            (["--queue-prefix", "a b"], "a prefix has at most 64 letters"),
            (["--queue-max-length", "0"], "0 is not in 1..=10000000"),
            (["--publish-window", "0"], "0 is not in 1..=65535"),
            (["--publish-timeout", "5"], "such as 30s"),
            (["--hold-timeout", "0s"], "such as 5m"),
            (["--hold-timeout", "10m"], "at most 9m"),
        ];
        for (arguments, expected) in cases {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn an_address_comes_from_one_place() {
        let unset = BrokerOptions::default();
        assert!(!unset.is_set());
        assert!(unset.address().unwrap_err().to_string().starts_with("AMQP_URL is not set"));

        let empty = BrokerOptions { amqp_url: Some(String::new()), ..unset.clone() };
        assert!(!empty.is_set());

        let missing = BrokerOptions { amqp_url_file: Some("/nowhere/at/all".into()), ..unset.clone() };
        assert!(missing.is_set());
        assert!(missing.address().unwrap_err().to_string().ends_with("check AMQP_URL_FILE"));

        let both = BrokerOptions { amqp_url: Some("amqp://host".to_owned()), ..missing };
        assert!(both.address().unwrap_err().to_string().contains("both set"));

        let plain = BrokerOptions { amqp_url: Some("amqp://host".to_owned()), ..unset };
        assert_eq!(plain.address().unwrap(), "amqp://host");
    }

    #[test]
    fn debug_shows_no_password() {
        let options = BrokerOptions { amqp_url: Some("amqp://u:secret@host".to_owned()), ..BrokerOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
