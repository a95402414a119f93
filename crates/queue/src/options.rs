//! The settings of the broker, and the way from them to a connected one.

use std::sync::Arc;
use std::time::Duration;

use assay_connect::{SecretString, endpoint_options};
use assay_transaction::parse_duration;

use crate::{Broker, BrokerError, metrics, rabbitmq};

endpoint_options!(
    /// Where RabbitMQ is. Its `Debug` shows no password.
    BrokerEndpoint, prefix: "AMQP", flag: "amqp",
    url: "Address of RabbitMQ: `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS",
    tls: ", for `amqps://…`"
);

/// Which RabbitMQ to use, and how. Its `Debug` shows no password.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerOptions {
    /// Where RabbitMQ is.
    #[command(flatten)]
    pub endpoint: BrokerEndpoint,
    /// Prefix of all queue and exchange names, so that installations can share a RabbitMQ.
    #[arg(long, env = "QUEUE_PREFIX", value_name = "TEXT", default_value = "", value_parser = parse_prefix)]
    pub queue_prefix: String,
    /// Messages in a work queue before publishers wait; to change it, delete the queues first.
    #[arg(long, env = "QUEUE_MAX_LENGTH", value_name = "MESSAGES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub queue_max_length: u32,
    /// Most published messages that are unconfirmed at a time.
    #[arg(long, env = "PUBLISH_WINDOW", value_name = "MESSAGES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub publish_window: u16,
    /// Longest wait for a confirm before a message is published again.
    #[arg(long, env = "PUBLISH_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub publish_timeout: Duration,
    /// Longest time a message stays unacknowledged; then it is requeued with a one-minute delay, attempt unchanged.
    #[arg(long, env = "HOLD_TIMEOUT", value_name = "DURATION", default_value = "8m", value_parser = parse_hold)]
    pub hold_timeout: Duration,
}

/// The default of [`BrokerOptions::hold_timeout`].
pub(crate) const HOLD_TIMEOUT: Duration = Duration::from_mins(8);
/// A message can be held for up to three times the hold timeout: behind others, in work, and until its replacement is
/// confirmed. RabbitMQ takes back what is held for 30 minutes.
const LONGEST_HOLD: Duration = Duration::from_mins(9);

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            endpoint: BrokerEndpoint::default(),
            queue_prefix: String::new(),
            queue_max_length: 2000,
            publish_window: 64,
            publish_timeout: Duration::from_secs(30),
            hold_timeout: HOLD_TIMEOUT,
        }
    }
}

impl BrokerOptions {
    /// Whether an address of RabbitMQ is set. An empty one counts as none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.endpoint.address().is_set()
    }

    /// The address, as a value or from its file.
    pub(crate) fn address(&self) -> Result<SecretString, BrokerError> {
        self.endpoint.address().read()?.ok_or_else(|| {
            BrokerError::Usage(
                "AMQP_URL is not set: give the address of RabbitMQ, such as amqp://user:password@host:5672".to_owned(),
            )
        })
    }
}

/// What the names of the settings of TLS begin with.
pub(crate) const TLS_PREFIX: &str = BrokerEndpoint::PREFIX;

/// Connects to RabbitMQ as `assay-<stage>` and declares the topology; if the user may not declare, it must exist
/// ([`declare`]). Waits up to `startup` for an unreachable broker.
pub async fn connect(options: &BrokerOptions, stage: &str, startup: Duration) -> Result<Arc<dyn Broker>, BrokerError> {
    metrics::describe();
    Ok(Arc::new(rabbitmq::RabbitMq::connect(options, stage, startup).await?))
}

/// Declares the topology, for stages whose users may not. Idempotent.
pub async fn declare(options: &BrokerOptions, startup: Duration) -> Result<(), BrokerError> {
    rabbitmq::declare_topology(options, startup).await
}

/// Declares the topology, and removes what only versions up to 0.1 need; returns the queues that it deleted. Idempotent. If there
/// were such queues, `transactions.batch` has to have room for the time `room_for` first.
pub async fn finish_upgrade(
    options: &BrokerOptions,
    startup: Duration,
    room_for: Duration,
) -> Result<Vec<String>, BrokerError> {
    rabbitmq::finish_upgrade(options, startup, room_for).await
}

/// Declares the topology and the durable topic exchange that an S3 server publishes its events to; returns the name of the
/// exchange, `QUEUE_PREFIX` included.
pub async fn declare_events_exchange(
    options: &BrokerOptions,
    exchange: &str,
    startup: Duration,
) -> Result<String, BrokerError> {
    rabbitmq::declare_exchange(options, exchange, startup).await
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero, such as 30s".to_owned()),
        timeout => Ok(timeout),
    }
}

fn parse_hold(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero, such as 5m".to_owned()),
        hold if hold > LONGEST_HOLD => {
            Err("at most 9m: RabbitMQ takes back a message after 30 minutes, and it may be held three times as long as this"
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
    use assay_connect::ExposeSecret as _;
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
    fn impossible_values_are_rejected() {
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

        let given = BrokerOptions { endpoint: BrokerEndpoint::at("amqp://host"), ..unset };
        assert_eq!(given.address().unwrap().expose_secret(), "amqp://host");
    }
}
