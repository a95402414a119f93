//! The settings of the ML API's client.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use assay_connect::{RetryPolicy, SecretString, endpoint_options};
use assay_transaction::{Ratio, parse_duration};
use reqwest::header::HeaderName;

use crate::{ApiCredentials, ApiPath, HealthPath, Matching, ScoreScale, ScoringError};

endpoint_options!(
    /// Where the ML API is. Its `Debug` shows no credentials.
    ApiEndpoint, prefix: "ML_API", flag: "ml-api",
    url: "Address of the ML API, such as `http://ml-api:8000`; transactions go to `POST …/predict`",
    tls: ", for `https://…`"
);

/// The names of the protocols, as `ML_API_PROTOCOL` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProtocolName {
    /// Assay's own: transactions as they are.
    #[default]
    Native,
    /// MLflow's scoring server, and Databricks.
    Mlflow,
    /// The Open Inference Protocol, version 2: KServe, Triton, MLServer.
    Oip,
    /// `instances` and `predictions`: TensorFlow Serving, KServe v1, Vertex AI.
    Instances,
    /// A line for each row: SageMaker's endpoints and containers.
    Sagemaker,
    /// A body and an answer that the features file describes.
    Template,
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        formatter.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

/// Which ML API to call, and how. Its `Debug` shows no credentials.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "ML API")]
pub struct ApiOptions {
    /// Where the ML API is.
    #[command(flatten)]
    pub endpoint: ApiEndpoint,
    /// What identifies Assay to it.
    #[command(flatten)]
    pub credentials: ApiCredentials,
    /// Where transactions go, below ML_API_URL; `/` for that address itself [default: predict]
    // A wrong one may hold a key in a query: it is not shown.
    #[arg(long, env = "ML_API_PATH", value_name = "PATH", hide_env_values = true)]
    pub ml_api_path: Option<ApiPath>,
    /// The health check, below ML_API_URL; `none` if there is none: any answer to a request then shows life [default: health]
    #[arg(long, env = "ML_API_HEALTH_PATH", value_name = "PATH", hide_env_values = true)]
    pub ml_api_health_path: Option<HealthPath>,
    /// The protocol that the ML API speaks.
    #[arg(long, env = "ML_API_PROTOCOL", value_name = "NAME", default_value_t, value_enum, hide_possible_values = true, help = PROTOCOL_HELP)]
    pub ml_api_protocol: ProtocolName,
    /// Features file (TOML): the inputs of the model, and what of its answer is the prediction; for every protocol but `native`.
    #[arg(long, env = "ML_API_FEATURES", value_name = "PATH")]
    pub ml_api_features: Option<PathBuf>,
    /// Name of the model, where the protocol has it in the path.
    #[arg(long, env = "ML_API_MODEL_NAME", value_name = "NAME")]
    pub ml_api_model_name: Option<String>,
    /// Version of the model, where the protocol has it in the path; by default the server chooses.
    #[arg(long, env = "ML_API_MODEL_VERSION", value_name = "VERSION")]
    pub ml_api_model_version: Option<String>,
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
    /// Most transactions a second of the whole fleet to the ML API, shared out between its predictors [default: what the API allows].
    #[arg(long, env = "API_RATE_LIMIT", value_name = "ROWS")]
    pub api_rate_limit: Option<NonZeroU32>,
    /// How predictions belong to transactions: by their ids, or by their position if the response has no ids.
    #[arg(long, env = "ML_API_MATCH", value_name = "BY", value_enum, default_value_t)]
    pub ml_api_match: Matching,
    /// What the ML API's scores are; they are stored as numbers from 0 to 1, or as they are if they are raw.
    #[arg(long, env = "SCORE_SCALE", value_name = "SCALE", value_enum, default_value_t)]
    pub score_scale: ScoreScale,
    /// The version of the model that must score; predictions of another are not taken, and rows wait [default: any].
    #[arg(long, env = "MODEL_VERSION", value_name = "VERSION")]
    pub model_version: Option<String>,
    /// A header of the ML API's responses that names the model's version; it counts where a prediction has none.
    #[arg(long, env = "MODEL_VERSION_HEADER", value_name = "NAME", value_parser = parse_header_name)]
    pub model_version_header: Option<HeaderName>,
    /// Score, as it is stored, from which the reasons in an answer are stored with it [default: none are].
    #[arg(long, env = "REASONS_FROM", value_name = "SCORE", allow_negative_numbers = true, value_parser = parse_score)]
    pub reasons_from: Option<f64>,
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
            credentials: ApiCredentials::default(),
            ml_api_path: None,
            ml_api_health_path: None,
            ml_api_protocol: ProtocolName::default(),
            ml_api_features: None,
            ml_api_model_name: None,
            ml_api_model_version: None,
            api_max_workers: 5,
            api_concurrency: ConcurrencyMode::Adaptive,
            api_max_bytes: None,
            realtime_reserve: Ratio::QUARTER,
            max_retries: 3,
            api_timeout: Duration::from_secs(30),
            ml_api_match: Matching::default(),
            score_scale: ScoreScale::default(),
            model_version: None,
            model_version_header: None,
            reasons_from: None,
            api_rate_limit: None,
        }
    }
}

impl ApiOptions {
    /// Whether an API was declared: by its address, or by a protocol that only another than the reference API speaks. An empty address
    /// counts as none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.endpoint.address().is_set() || self.ml_api_protocol != ProtocolName::Native
    }

    /// The name of the model, if there is one.
    pub(crate) fn model(&self) -> Result<Option<&str>, ScoringError> {
        path_segment("ML_API_MODEL_NAME", self.ml_api_model_name.as_deref())
    }

    /// The version of the model, if there is one.
    pub(crate) fn model_version(&self) -> Result<Option<&str>, ScoringError> {
        path_segment("ML_API_MODEL_VERSION", self.ml_api_model_version.as_deref())
    }

    /// The address, from the setting or its file.
    pub(crate) fn address(&self) -> Result<SecretString, ScoringError> {
        self.endpoint.address().read()?.ok_or(ScoringError::NotSet)
    }
}

/// The help of `ML_API_PROTOCOL`.
const PROTOCOL_HELP: &str =
    "Protocol of the ML API: `native`, `mlflow`, `oip`, `instances`, `sagemaker` or `template`; see docs/ml-api.md";

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

/// A name that is a segment of a path. An empty one counts as none, as compose files pass on unset variables.
fn path_segment<'a>(setting: &str, name: Option<&'a str>) -> Result<Option<&'a str>, ScoringError> {
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else { return Ok(None) };
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~'));
    if is_plain && !matches!(name, "." | "..") {
        return Ok(Some(name));
    }
    Err(ScoringError::Setting(format!("{setting} is a part of a path: use letters, digits, and `.`, `_`, `-`, `~`")))
}

fn parse_score(text: &str) -> Result<f64, String> {
    let score: Option<f64> = text.trim().parse().ok();
    score.filter(|score| score.is_finite()).ok_or_else(|| "no score, such as 0.8".to_owned())
}

fn parse_header_name(text: &str) -> Result<HeaderName, String> {
    text.trim().parse().map_err(|_| "no name of a header, such as x-model-version".to_owned())
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
            (["--ml-api-path", "a/../b"], "no path such as v1/score"),
            (["--ml-api-health-path", "http://host"], "no address"),
            (["--ml-api-match", "order"], "id, position"),
            (["--score-scale", "points"], "probability, percent, logit, raw"),
            (["--api-rate-limit", "0"], "zero"),
            (["--api-rate-limit", "-5"], "-5"),
            (["--model-version-header", "x model"], "such as x-model-version"),
            (["--reasons-from", "nan"], "no score, such as 0.8"),
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

    #[test]
    fn protocols_are_named_in_lower_case() {
        let cases = [
            (&[][..], ProtocolName::Native),
            (&["--ml-api-protocol", "mlflow"], ProtocolName::Mlflow),
            (&["--ml-api-protocol", "oip"], ProtocolName::Oip),
            (&["--ml-api-protocol", "instances"], ProtocolName::Instances),
            (&["--ml-api-protocol", "sagemaker"], ProtocolName::Sagemaker),
            (&["--ml-api-protocol", "template"], ProtocolName::Template),
        ];
        for (arguments, protocol) in cases {
            let options = parse(arguments).unwrap();
            assert_eq!(options.ml_api_protocol, protocol);
            assert!(arguments.last().is_none_or(|name| **name == protocol.to_string()));
            // Without an address, such an API is asked for; the reference API would not understand.
            assert_eq!(options.is_set(), protocol != ProtocolName::Native);
        }
        let error = parse(&["--ml-api-protocol", "grpc"]).unwrap_err().to_string();
        assert!(error.contains("native, mlflow, oip"), "{error}");
    }
}
