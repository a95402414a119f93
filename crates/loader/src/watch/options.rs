//! Settings of a watch.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use assay_connect::{SecretSource, SecretString};
use assay_source::is_marker;
use assay_transaction::parse_duration;
use clap::{Args, ValueEnum};

use crate::LoadError;

/// The watched bucket, or a prefix of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchTarget {
    /// The bucket.
    pub bucket: String,
    /// Prefix of the keys; empty for all.
    pub prefix: String,
}

impl FromStr for WatchTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.strip_prefix("s3://").ok_or("must be s3://bucket or s3://bucket/prefix")?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() || bucket.chars().any(char::is_whitespace) {
            return Err("it names no bucket: use s3://bucket or s3://bucket/prefix".to_owned());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::fmt::Display for WatchTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// An on/off setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

/// Sources of events, filters, and concurrency of a watch.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Watching")]
pub struct WatchOptions {
    /// Objects loaded concurrently
    #[arg(long, env = "MAX_LOADS", default_value = "2", value_name = "LOADS")]
    pub max_loads: NonZeroUsize,
    /// Interval between two listings, which find objects without an event and loads without a loader
    #[arg(long, env = "WATCH_INTERVAL", default_value = "60s", value_parser = parse_interval, value_name = "DURATION")]
    pub watch_interval: Duration,
    /// Load only keys with these suffixes, such as .csv,.csv.gz [default: all]
    #[arg(long, env = "WATCH_SUFFIX", value_delimiter = ',', value_name = "SUFFIXES")]
    pub watch_suffix: Vec<String>,
    /// Skip objects smaller than this many bytes
    #[arg(long, env = "MIN_SIZE", default_value = "1", value_name = "BYTES")]
    pub min_size: u64,
    /// Skip objects larger than this many bytes [default: no limit]
    #[arg(long, env = "MAX_SIZE", value_name = "BYTES")]
    pub max_size: Option<u64>,
    /// Whether to take bucket events from RabbitMQ: on or off
    #[arg(long, env = "AMQP_EVENTS", default_value = "on", value_enum, value_name = "SWITCH")]
    pub amqp_events: Switch,
    /// Exchange (topic, durable) of the bucket events; prefixed with QUEUE_PREFIX
    #[arg(long, env = "EVENTS_EXCHANGE", default_value = "assay.events", value_parser = parse_exchange, value_name = "NAME")]
    pub events_exchange: String,
    /// URL of an SQS queue with bucket events (needs the feature sqs)
    #[arg(long, env = "SQS_QUEUE_URL", value_name = "URL")]
    pub sqs_queue_url: Option<String>,
    /// Address of the webhook for bucket events (POST /events/s3), such as 0.0.0.0:9900
    #[arg(long, env = "WEBHOOK_ADDR", value_name = "ADDRESS")]
    pub webhook_addr: Option<SocketAddr>,
    /// Secret of the webhook's senders: Authorization: Bearer …
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub webhook_secret: Option<SecretString>,
    /// File with the secret of the webhook's senders
    #[arg(long, env = "WEBHOOK_SECRET_FILE", value_name = "PATH")]
    pub webhook_secret_file: Option<PathBuf>,
}

pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    pub(crate) secret: SecretString,
}

impl WatchOptions {
    /// The settings of the webhook, if it is enabled. It needs a secret.
    pub(crate) fn webhook(&self) -> Result<Option<Webhook>, LoadError> {
        let Some(address) = self.webhook_addr else { return Ok(None) };
        let secret = SecretSource {
            name: "WEBHOOK_SECRET",
            value: self.webhook_secret.as_ref(),
            file: self.webhook_secret_file.as_deref(),
        };
        match secret.read()? {
            None => Err(LoadError::Setting(
                "WEBHOOK_ADDR is set, but WEBHOOK_SECRET is not: set it, as anyone could trigger loads otherwise"
                    .to_owned(),
            )),
            Some(secret) => Ok(Some(Webhook { address, secret })),
        }
    }

    /// Whether an object is to be loaded, by its key and size. Keys that end with `/` are folders; names that begin with `_` or `.`
    /// are markers.
    pub(crate) fn wants(&self, watched: &WatchTarget, key: &str, size: Option<u64>) -> bool {
        let is_target = key.starts_with(&watched.prefix) && !is_marker(&watched.prefix, key);
        let suffixes = &self.watch_suffix;
        let has_suffix = suffixes.is_empty() || suffixes.iter().any(|suffix| key.ends_with(suffix.trim()));
        let fits = size.is_none_or(|size| size >= self.min_size && self.max_size.is_none_or(|most| size <= most));
        is_target && has_suffix && fits && !key.ends_with('/')
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        interval if interval < SHORTEST_INTERVAL => Err("must be at least 1s, as each listing costs money".to_owned()),
        interval => Ok(interval),
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

fn parse_exchange(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 128 letters, digits, `.`, `_` or `-`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::ExposeSecret as _;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        watch: WatchOptions,
    }

    fn parse(arguments: &[&str]) -> Result<WatchOptions, String> {
        let program = Program::try_parse_from(["program"].iter().chain(arguments));
        program.map(|program| program.watch).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_or_a_prefix_can_be_watched() {
        for (text, bucket, prefix) in
            [("s3://drops", "drops", ""), ("s3://drops/", "drops", ""), ("s3://drops/in/a b+", "drops", "in/a b+")]
        {
            let watched = WatchTarget { bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!(text.parse(), Ok(watched));
        }
        for text in ["", "drops", "s3://", "s3:///in", "s3://a b/in", "https://drops/in", "/tmp/drops"] {
            assert!(text.parse::<WatchTarget>().unwrap_err().contains("s3://bucket"), "{text}");
        }
    }

    #[test]
    fn keys_and_sizes_are_filtered() {
        let watched = WatchTarget { bucket: "drops".to_owned(), prefix: String::new() };
        let cases: [(&[&str], &str, Option<u64>, bool); 16] = [
            (&[], "in/_SUCCESS", None, false),
            (&[], "_temporary/0/part-0.csv", Some(1), false),
            (&[], "in/.part-0.csv.crc", Some(12), false),
            (&[], "in/part_0.csv", Some(1), true),
            (&[], "in/a.csv", Some(1), true),
            (&[], "in/a.csv", None, true),
            (&[], "in/a.csv", Some(0), false),
            (&[], "in/", Some(9), false),
            (&["--min-size", "0"], "a", Some(0), true),
            (&["--min-size", "10"], "a", Some(9), false),
            (&["--max-size", "10"], "a", Some(10), true),
            (&["--max-size", "10"], "a", Some(11), false),
            (&["--watch-suffix", ".csv,.csv.gz"], "a.csv.gz", Some(1), true),
            (&["--watch-suffix", ".csv, .gz"], "a.gz", Some(1), true),
            (&["--watch-suffix", ".csv", "--watch-suffix", ".gz"], "a.gz", Some(1), true),
            (&["--watch-suffix", ".csv,.csv.gz"], "a.csv.tmp", Some(1), false),
        ];
        for (arguments, key, size, expected) in cases {
            let options = parse(arguments).unwrap();
            assert_eq!(options.wants(&watched, key, size), expected, "{arguments:?} {key} {size:?}");
        }
    }

    #[test]
    fn a_watched_prefix_may_begin_like_a_marker() {
        let options = parse(&[]).unwrap();
        let cases = [
            ("s3://drops/_raw/", "_raw/a.csv", true),
            ("s3://drops/_raw", "_raw/a.csv", true),
            ("s3://drops/_raw/", "_raw/_SUCCESS", false),
            ("s3://drops/in/_", "in/_a.csv", true),
            ("s3://drops/in/", "elsewhere/a.csv", false),
        ];
        for (watched, key, expected) in cases {
            assert_eq!(options.wants(&watched.parse().unwrap(), key, None), expected, "{watched} {key}");
        }
    }

    #[test]
    fn a_webhook_needs_a_secret() {
        let address = ["--webhook-addr", "127.0.0.1:0"];
        assert!(parse(&[]).unwrap().webhook().unwrap().is_none());
        let error = parse(&address).unwrap().webhook().err().unwrap().to_string();
        assert!(error.contains("WEBHOOK_SECRET is not"), "{error}");
        let given = parse(&[&address[..], &["--webhook-secret", " s \n"]].concat()).unwrap();
        assert_eq!(given.webhook().unwrap().unwrap().secret.expose_secret(), "s");
        assert!(!format!("{given:?}").contains("s \n"));
        let missing = parse(&[&address[..], &["--webhook-secret-file", "/nowhere"]].concat()).unwrap();
        assert!(missing.webhook().err().unwrap().to_string().ends_with("check WEBHOOK_SECRET_FILE"));
        for (arguments, expected) in [
            (["--watch-interval", "0s"], "at least 1s"),
            (["--events-exchange", "a b"], "1 to 128 letters"),
            (["--webhook-addr", "9900"], "invalid socket address"),
            (["--max-loads", "0"], "--max-loads"),
        ] {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
