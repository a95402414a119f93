//! The settings of the ML API's client.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use assay_connect::{Secret, TlsFiles};
use assay_transaction::{Share, parse_duration};

use crate::ScoringError;

/// How to reach the ML API. `Debug` shows no credentials.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "ML API")]
pub struct ApiOptions {
    /// Address of the ML API, such as `http://ml-api:8000`; transactions go to `POST …/predict`.
    #[arg(long, env = "ML_API_URL", hide_env_values = true, value_name = "URL")]
    pub ml_api_url: Option<String>,
    /// File that holds the address of the ML API, such as a mounted secret; instead of `ML_API_URL`.
    #[arg(long, env = "ML_API_URL_FILE", value_name = "PATH")]
    pub ml_api_url_file: Option<PathBuf>,
    /// File with the certificates (PEM) of authorities to trust beside the system's, for `https://…`.
    #[arg(long, env = "ML_API_CA_FILE", value_name = "PATH")]
    pub ml_api_ca_file: Option<PathBuf>,
    /// File with the certificate (PEM) to show to an ML API that asks for one, and those between it and its authority.
    #[arg(long, env = "ML_API_CERT_FILE", value_name = "PATH")]
    pub ml_api_cert_file: Option<PathBuf>,
    /// File with the key (PEM, without a passphrase) of that certificate.
    #[arg(long, env = "ML_API_KEY_FILE", value_name = "PATH")]
    pub ml_api_key_file: Option<PathBuf>,
    /// Most requests of one process in flight at a time.
    #[arg(long, env = "API_MAX_WORKERS", value_name = "REQUESTS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub api_max_workers: u16,
    /// Share of these requests reserved for live transactions; at least one of two or more.
    #[arg(long, env = "REALTIME_RESERVE", value_name = "SHARE", default_value_t = Share::QUARTER)]
    pub realtime_reserve: Share,
    /// Retries of a failed request before it is bisected.
    #[arg(long, env = "MAX_RETRIES", value_name = "TIMES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub max_retries: u32,
    /// Longest time for one request to the ML API.
    #[arg(long, env = "API_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub api_timeout: Duration,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            ml_api_url: None,
            ml_api_url_file: None,
            ml_api_ca_file: None,
            ml_api_cert_file: None,
            ml_api_key_file: None,
            api_max_workers: 5,
            realtime_reserve: Share::QUARTER,
            max_retries: 3,
            api_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for ApiOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ml_api_url,
            ml_api_url_file,
            ml_api_ca_file,
            ml_api_cert_file,
            ml_api_key_file,
            api_max_workers,
            realtime_reserve,
            max_retries,
            api_timeout,
        } = self;
        formatter
            .debug_struct("ApiOptions")
            .field("ml_api_url", &ml_api_url.as_ref().map(|_| "…"))
            .field("ml_api_url_file", ml_api_url_file)
            .field("ml_api_ca_file", ml_api_ca_file)
            .field("ml_api_cert_file", ml_api_cert_file)
            .field("ml_api_key_file", ml_api_key_file)
            .field("api_max_workers", api_max_workers)
            .field("realtime_reserve", realtime_reserve)
            .field("max_retries", max_retries)
            .field("api_timeout", api_timeout)
            .finish()
    }
}

impl ApiOptions {
    /// Whether an address was given. An empty one counts as none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.url().is_set()
    }

    fn url(&self) -> Secret<'_> {
        Secret { name: "ML_API_URL", value: self.ml_api_url.as_deref(), file: self.ml_api_url_file.as_deref() }
    }

    /// The address, from the setting or its file.
    pub(crate) fn address(&self) -> Result<String, ScoringError> {
        self.url().read()?.ok_or(ScoringError::NotSet)
    }

    /// The files of certificates and keys.
    pub(crate) fn tls(&self) -> TlsFiles<'_> {
        TlsFiles {
            prefix: TLS_PREFIX,
            ca: self.ml_api_ca_file.as_deref(),
            cert: self.ml_api_cert_file.as_deref(),
            key: self.ml_api_key_file.as_deref(),
        }
    }
}

/// Prefix of the TLS settings.
pub(crate) const TLS_PREFIX: &str = "ML_API";

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
        let options = |url: &str| ApiOptions { ml_api_url: Some(url.to_owned()), ..ApiOptions::default() };
        assert!(!ApiOptions::default().is_set());
        assert!(!options(" ").is_set());
        assert!(options("http://host").is_set());
    }

    #[test]
    fn debug_shows_no_password() {
        let options = ApiOptions { ml_api_url: Some("http://u:secret@host".to_owned()), ..ApiOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
