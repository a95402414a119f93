//! `assay watch-setup`: enables notifications of a bucket, without another client.

use std::fmt::{self, Display};

use assay_queue::{BrokerOptions, declare_events_exchange};
use assay_source::{BucketNotification, S3Options, SourceUrl, Sources};
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{counted, print};

/// Enable notifications of new objects, so that `loader watch` loads each one at once
///
/// Adds a rule for created objects to the bucket; other rules are kept. RustFS and MinIO publish events to an exchange of
/// RabbitMQ, which this command declares if AMQP_URL is set; the server has to be started with that AMQP target. On AWS, --arn
/// names an SQS queue. Safe to repeat.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay watch-setup s3://transactions
  assay watch-setup s3://transactions/in/ --arn arn:aws:sqs:eu-west-3:123456789012:drops
  assay watch-setup s3://transactions --remove")]
pub(crate) struct WatchSetupArguments {
    /// The objects: s3://bucket, or s3://bucket/prefix
    #[arg(value_name = "S3_URL", value_parser = parse_bucket_prefix)]
    place: BucketPrefix,
    /// Target of the events: ARN of the server's AMQP target or, on AWS, of an SQS queue [default: the AMQP target `primary` of
    /// RustFS, else of MinIO]
    #[arg(long, value_name = "ARN")]
    arn: Option<String>,
    /// Remove the rule
    #[arg(long)]
    remove: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    /// Exchange (topic, durable) that the S3 server publishes events to, prefixed with QUEUE_PREFIX
    #[arg(long, env = "EVENTS_EXCHANGE", default_value = "assay.events", value_name = "NAME")]
    events_exchange: String,
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// A bucket and a prefix of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketPrefix {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

pub(crate) fn parse_bucket_prefix(text: &str) -> Result<BucketPrefix, String> {
    let wrong = || "expected s3://bucket or s3://bucket/prefix".to_owned();
    let whole = if text.splitn(4, '/').count() == 3 { format!("{text}/") } else { text.to_owned() };
    // With a dot as the key, as a URL needs one.
    match format!("{whole}.").parse() {
        Ok(SourceUrl::S3 { bucket, key }) => Ok(BucketPrefix { bucket, prefix: key[..key.len() - 1].to_owned() }),
        _ => Err(wrong()),
    }
}

/// Adds or removes the rule.
pub(crate) async fn watch_setup(arguments: &WatchSetupArguments) -> Result<Exit, CommandError> {
    let BucketPrefix { bucket, prefix } = &arguments.place;
    let (sources, arn) = (Sources::new(&arguments.s3)?, arguments.arn.as_deref());
    let place = format!("s3://{bucket}/{prefix}");
    if arguments.remove {
        let (removed, others) = sources.stop_notifying(bucket, prefix, arn).await?;
        print(&WatchRemovalReport { place, removed, other_rules: others }, arguments.json)?;
        return Ok(Exit::Done);
    }
    // The exchange first, as events without one are lost.
    let exchange = if arguments.broker.is_set() {
        let startup = arguments.startup.startup_timeout;
        Some(declare_events_exchange(&arguments.broker, &arguments.events_exchange, startup).await?)
    } else {
        None
    };
    let notified = sources.notify(bucket, prefix, arn).await?;
    let BucketNotification { arn, was_there, others } = notified;
    print(&WatchSetupReport { place, arn, was_there, other_rules: others, exchange }, arguments.json)?;
    Ok(Exit::Done)
}

/// What was removed.
#[derive(Debug, Serialize)]
struct WatchRemovalReport {
    place: String,
    removed: usize,
    other_rules: usize,
}

impl Display for WatchRemovalReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, removed, other_rules } = self;
        match removed {
            0 => write!(out, "{place} has no rule of `assay watch-setup`")?,
            _ => write!(out, "{place} no longer sends events of new objects")?,
        }
        writeln!(out, "; {} kept", kept(*other_rules))
    }
}

/// What was set, and what to do next.
#[derive(Debug, Serialize)]
struct WatchSetupReport {
    place: String,
    arn: String,
    was_there: bool,
    other_rules: usize,
    /// The declared exchange; none if AMQP_URL is not set.
    exchange: Option<String>,
}

fn kept(other_rules: usize) -> String {
    counted(other_rules as u64, "other rule is", "other rules are")
}

impl Display for WatchSetupReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, arn, was_there, other_rules, exchange } = self;
        let sends = if *was_there { "sends" } else { "now sends" };
        writeln!(out, "{place} {sends} events of new objects to {arn}; {} kept", kept(*other_rules))?;
        if arn.starts_with("arn:aws:") {
            return writeln!(out, "next: loader watch {place}, with SQS_QUEUE_URL");
        }
        match exchange {
            Some(exchange) => {
                writeln!(out, "exchange {exchange} is declared; the AMQP target of the server has to publish to it")?;
            }
            None => {
                writeln!(out, "the exchange is not declared, as AMQP_URL is not set; `loader watch` will declare it")?;
            }
        }
        writeln!(out, "next: loader watch {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_prefix_or_none() {
        let place = |bucket: &str, prefix: &str| Ok(BucketPrefix { bucket: bucket.into(), prefix: prefix.into() });
        for text in ["s3://drops", "s3://drops/"] {
            assert_eq!(parse_bucket_prefix(text), place("drops", ""), "{text}");
        }
        assert_eq!(parse_bucket_prefix("s3://drops/2026/"), place("drops", "2026/"));
        assert_eq!(parse_bucket_prefix("s3://drops/2026"), place("drops", "2026"));
        for wrong in ["", "drops", "s3://", "s3:///a", "/tmp/a", "https://drops/a"] {
            assert!(parse_bucket_prefix(wrong).unwrap_err().contains("expected s3://bucket"), "{wrong}");
        }
    }

    #[test]
    fn its_json_is_pinned() {
        let place = || "s3://drops/2026/".to_owned();
        let set = WatchSetupReport {
            place: place(),
            arn: "arn:rustfs:sqs:us-east-1:primary:amqp".into(),
            was_there: false,
            other_rules: 1,
            exchange: Some("assay.events".into()),
        };
        crate::output::pin_json("watch-setup", &set);
        crate::output::pin_json(
            "watch-setup --remove",
            &WatchRemovalReport { place: place(), removed: 1, other_rules: 1 },
        );
    }
}
