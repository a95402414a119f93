//! What every call to AWS needs: one HTTP and TLS stack for the SDK, its time-outs, and the ordinary chain of region and
//! credentials (environment, profile, web identity, container, instance).
//!
//! `source` reads S3 and SQS with it; `scoring` signs requests to SageMaker with it (feature `sigv4`). Nothing is sent until
//! a configuration is loaded.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_smithy_http_client::{self as http_client, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the start of a response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How the SDK connects.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// Without TLS. Loading the authorities of TLS takes as long as reading a small source.
    Plain,
    /// By TLS.
    Tls {
        /// Certificates of authorities that are trusted beside the system's, PEM; checked before.
        authorities: Option<&'a str>,
    },
}

/// The SDK's configuration from environment and AWS profiles, on the workspace's one HTTP and TLS stack.
pub fn config(transport: Transport<'_>) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ANSWER_TIMEOUT).build();
    let http = match transport {
        Transport::Plain => http_client::Builder::new().build_http(),
        Transport::Tls { authorities } => {
            let mut http =
                http_client::Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
            if let Some(authorities) = authorities {
                let trusted = tls::TrustStore::default().with_pem_certificate(authorities.as_bytes());
                // Only our own certificates could make it fail, and they are checked.
                if let Ok(context) = tls::TlsContext::builder().with_trust_store(trusted).build() {
                    http = http.tls_context(context);
                }
            }
            http.build_https()
        }
    };
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard())
}
