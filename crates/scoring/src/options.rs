//! The settings of the ML API's client.

use std::time::Duration;

use assay_connect::{RetryPolicy, SecretString, endpoint_options};
use assay_transaction::{Ratio, parse_duration};

use crate::ScoringError;

endpoint_options!(
    /// Where the ML API is. Its `Debug` shows no credentials.
    ApiEndpoint, prefix: "ML_API", flag: "ml-api",
    url: "Address of the ML API, such as `http://ml-api:8000`; transactions go to `POST …/predict`",
    tls: ", for `https://…`"
);

/// Which ML API to call, and how. Its `Debug` shows no credentials.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "ML API")]
pub struct ApiOptions {
    /// Where the ML API is.
    #[command(flatten)]
    pub endpoint: ApiEndpoint,
    /// Most concurrent requests of one process to the ML API.
    #[arg(long, env = "API_MAX_WORKERS", value_name = "REQUESTS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub api_max_workers: u16,
    /// Concurrent requests to the ML API: adaptive (as many as it serves, up to API_MAX_WORKERS) or fixed (always as many).
    #[arg(long, env = "API_CONCURRENCY", value_name = "MODE", value_enum, default_value_t)]
    pub api_concurrency: ConcurrencyMode,
    /// Largest body of a request to the ML API; a larger transaction is sent alone.
    #[arg(long, env = "API_MAX_BYTES", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub api_max_bytes: Option<u32>,
    /// Share of API_MAX_WORKERS reserved for live transactions; at least one of two or more.
    #[arg(long, env = "REALTIME_RESERVE", value_name = "SHARE", default_value_t = Ratio::QUARTER)]
    pub realtime_reserve: Ratio,
    /// Retries of a failed request before it is bisected.
    #[arg(long, env = "MAX_RETRIES", value_name = "TIMES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub max_retries: u32,
    /// Longest time for one request to the ML API.
    #[arg(long, env = "API_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub api_timeout: Duration,
}

/// How many requests to the ML API are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ConcurrencyMode {
    /// As many as the API serves at a time.
    #[default]
    Adaptive,
    /// Always as many as allowed.
    Fixed,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            endpoint: ApiEndpoint::default(),
            api_max_workers: 5,
            api_concurrency: ConcurrencyMode::Adaptive,
            api_max_bytes: None,
            realtime_reserve: Ratio::QUARTER,
            max_retries: 3,
            api_timeout: Duration::from_secs(30),
        }
    }
}

impl ApiOptions {
    /// Whether an address was given. An empty one counts as none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.endpoint.address().is_set()
    }

    /// The address, from the setting or its file.
    pub(crate) fn address(&self) -> Result<SecretString, ScoringError> {
        self.endpoint.address().read()?.ok_or(ScoringError::NotSet)
    }
}

/// Prefix of the TLS settings.
pub(crate) const TLS_PREFIX: &str = ApiEndpoint::PREFIX;

/// The waits of a scorer; tests use shorter ones.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Pauses between repetitions of a failed request.
    pub(crate) retry: RetryPolicy,
    /// Pauses between probes of an unreachable API.
    pub(crate) outage: RetryPolicy,
    /// Pauses between probes of an API that rejects every request, until it is repaired.
    pub(crate) repair: RetryPolicy,
    /// How long other requests in flight may still prove that the model works, before a canary does.
    pub(crate) canary_delay: Duration,
    /// Longest time for `GET /health`.
    pub(crate) health_timeout: Duration,
    /// Longest `Retry-After` that is obeyed.
    pub(crate) longest_retry_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let (millis, seconds) = (Duration::from_millis, Duration::from_secs);
        Self {
            retry: RetryPolicy::new(millis(200), seconds(5)),
            outage: RetryPolicy::new(millis(500), seconds(30)),
            repair: RetryPolicy::new(seconds(2), seconds(30)),
            canary_delay: millis(100),
            health_timeout: seconds(5),
            longest_retry_after: Duration::from_hours(1),
        }
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a time-out of 0 lets no request through; use one such as 30s".to_owned()),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        api: ApiOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ApiOptions, clap::Error> {
        Program::try_parse_from([&["program"], arguments].concat()).map(|program| program.api)
    }

    #[test]
    fn senseless_values_are_rejected() {
        let cases = [
            (["--api-max-workers", "0"], "0 is not in 1..=1000"),
            (["--api-concurrency", "auto"], "adaptive, fixed"),
            (["--api-max-bytes", "0"], "0 is not in 1.."),
            (["--api-max-bytes", "1.5MB"], "invalid digit"),
            (["--max-retries", "-1"], "-1"),
            (["--api-timeout", "30"], "such as 30s"),
            (["--api-timeout", "0s"], "such as 30s"),
        ];
        for (arguments, expected) in cases {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn an_empty_address_counts_as_none() {
        let is_set = |url: &str| ApiOptions { endpoint: ApiEndpoint::at(url), ..ApiOptions::default() }.is_set();
        assert!(!ApiOptions::default().is_set() && !is_set(" ") && is_set("http://host"));
    }
}
