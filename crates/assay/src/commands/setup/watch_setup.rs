//! `assay watch-setup`: a bucket tells of the objects that are created in it, with no other client at hand.

use std::fmt::{self, Display};

use assay_queue::{BrokerOptions, declare_events_exchange};
use assay_source::{Notified, S3Options, SourceUrl, Sources};
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;

use crate::error::CommandError;
use crate::output::{counted, print_text};

/// Have a bucket tell of new objects, so that `loader watch` loads each of them as it comes
///
/// Sets the bucket's notification for objects that are created; rules of others are kept. RustFS and MinIO publish events to
/// an exchange of RabbitMQ, which is declared here where AMQP_URL is set. The server itself has to be started with that AMQP
/// target. On AWS, --arn names an SQS queue. Safe to repeat.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay watch-setup s3://transactions
  assay watch-setup s3://transactions/in/ --arn arn:aws:sqs:eu-west-3:123456789012:drops
  assay watch-setup s3://transactions --remove")]
pub(crate) struct WatchSetupArguments {
    /// Which objects: s3://bucket, or s3://bucket/prefix
    #[arg(value_name = "S3_URL", value_parser = parse_bucket_prefix)]
    place: BucketPrefix,
    /// Whom the bucket tells: the ARN of the server's AMQP target or, on AWS, of an SQS queue [default: the AMQP target
    /// `primary` of RustFS, else of MinIO]
    #[arg(long, value_name = "ARN")]
    arn: Option<String>,
    /// Take the rule away again
    #[arg(long)]
    remove: bool,
    /// Exchange (topic, durable) to which the S3 server publishes its events; QUEUE_PREFIX is put in front of it
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

/// A bucket, and what the keys in it begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BucketPrefix {
    bucket: String,
    prefix: String,
}

fn parse_bucket_prefix(text: &str) -> Result<BucketPrefix, String> {
    let wrong = || format!("`{text}` is no place for objects: write s3://bucket or s3://bucket/prefix");
    let whole = if text.splitn(4, '/').count() == 3 { format!("{text}/") } else { text.to_owned() };
    // What has no key is a place all the same.
    match format!("{whole}.").parse() {
        Ok(SourceUrl::S3 { bucket, key }) => Ok(BucketPrefix { bucket, prefix: key[..key.len() - 1].to_owned() }),
        _ => Err(wrong()),
    }
}

/// Sets the rule, or takes it away, and says so.
pub(crate) async fn watch_setup(arguments: &WatchSetupArguments) -> Result<Exit, CommandError> {
    let BucketPrefix { bucket, prefix } = &arguments.place;
    let (sources, arn) = (Sources::new(&arguments.s3)?, arguments.arn.as_deref());
    let place = format!("s3://{bucket}/{prefix}");
    if arguments.remove {
        let (removed, others) = sources.stop_notifying(bucket, prefix, arn).await?;
        let removed = match removed {
            0 => format!("no rule of `assay watch-setup` is there for {place}"),
            _ => format!("{place} no longer tells of new objects"),
        };
        print_text(&format!(
            "{removed}; {} kept\n",
            counted(others as u64, "rule of others is", "rules of others are")
        ))?;
        return Ok(Exit::Done);
    }
    // The exchange first, as events go nowhere while there is none.
    let exchange = if arguments.broker.is_set() {
        let startup = arguments.startup.startup_timeout;
        Some(declare_events_exchange(&arguments.broker, &arguments.events_exchange, startup).await?)
    } else {
        None
    };
    let notified = sources.notify(bucket, prefix, arn).await?;
    print_text(&WatchSetupReport { place, notified, exchange })?;
    Ok(Exit::Done)
}

/// What was set, and what to do next.
#[derive(Debug)]
struct WatchSetupReport {
    place: String,
    notified: Notified,
    exchange: Option<String>,
}

impl Display for WatchSetupReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, notified: Notified { arn, was_there, others }, exchange } = self;
        let tells = if *was_there { "tells" } else { "now tells" };
        let others = counted(*others as u64, "rule of others is", "rules of others are");
        writeln!(out, "{place} {tells} {arn} of new objects; {others} kept")?;
        if arn.starts_with("arn:aws:") {
            return writeln!(out, "next: loader watch {place}, with SQS_QUEUE_URL");
        }
        match exchange {
            Some(exchange) => {
                writeln!(out, "exchange {exchange} is declared: the server's AMQP target has to publish to it")?;
            }
            None => {
                writeln!(out, "the exchange is not declared, as AMQP_URL is not set; `loader watch` declares it too")?;
            }
        }
        writeln!(out, "next: loader watch {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_with_or_without_a_prefix() {
        let place = |bucket: &str, prefix: &str| Ok(BucketPrefix { bucket: bucket.into(), prefix: prefix.into() });
        for text in ["s3://drops", "s3://drops/"] {
            assert_eq!(parse_bucket_prefix(text), place("drops", ""), "{text}");
        }
        assert_eq!(parse_bucket_prefix("s3://drops/2026/"), place("drops", "2026/"));
        assert_eq!(parse_bucket_prefix("s3://drops/2026"), place("drops", "2026"));
        for wrong in ["", "drops", "s3://", "s3:///a", "/tmp/a", "https://drops/a"] {
            assert!(parse_bucket_prefix(wrong).unwrap_err().contains("write s3://bucket"), "{wrong}");
        }
    }
}
