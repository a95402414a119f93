//! What identifies Assay to the ML API: a bearer token, headers of any name, or a signature (`api::signing`). None is ever shown.

use std::path::PathBuf;

use assay_connect::{ExposeSecret as _, SecretSource, SecretString};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::ScoringError;

/// Headers that Assay or its HTTP client sets.
const OWN_HEADERS: [&str; 9] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "upgrade",
];

/// Headers that a signature adds, or that a signature would have to cover.
const SIGNED_PREFIX: &str = "x-amz-";

/// What authorizes requests to the ML API, besides a token and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ApiAuth {
    /// Nothing more.
    #[default]
    None,
    /// A signature with AWS credentials, for SageMaker.
    #[value(name = "sigv4")]
    Sigv4,
}

/// The credentials of the ML API, besides user and password in its address. Its `Debug` shows none.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ApiCredentials {
    /// What else authorizes requests to the ML API: none, or sigv4 (SageMaker: a signature with the credentials of the AWS chain;
    /// needs the feature sigv4).
    #[arg(long, env = "ML_API_AUTH", value_name = "KIND", value_enum, default_value_t, hide_possible_values = true)]
    pub ml_api_auth: ApiAuth,
    /// Bearer token for the ML API.
    #[arg(long, env = "ML_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub ml_api_token: Option<SecretString>,
    /// File to read ML_API_TOKEN from, such as a mounted secret.
    #[arg(long, env = "ML_API_TOKEN_FILE", value_name = "PATH")]
    pub ml_api_token_file: Option<PathBuf>,
    /// Headers of each request to the ML API, such as `x-api-key: …`; several are separated by `;`.
    #[arg(long, env = "ML_API_HEADERS", hide_env_values = true, value_name = "HEADERS")]
    pub ml_api_headers: Option<SecretString>,
    /// File to read ML_API_HEADERS from, one `name: value` a line.
    #[arg(long, env = "ML_API_HEADERS_FILE", value_name = "PATH")]
    pub ml_api_headers_file: Option<PathBuf>,
}

impl ApiCredentials {
    /// The headers that each request has, marked as sensitive. `has_user`: the address has a user, who is authorized by it.
    pub(crate) fn headers(&self, has_user: bool) -> Result<HeaderMap, ScoringError> {
        let token = SecretSource {
            name: "ML_API_TOKEN",
            value: self.ml_api_token.as_ref(),
            file: self.ml_api_token_file.as_deref(),
        };
        let lines = SecretSource {
            name: "ML_API_HEADERS",
            value: self.ml_api_headers.as_ref(),
            file: self.ml_api_headers_file.as_deref(),
        };
        let mut headers = HeaderMap::new();
        let is_signed = self.ml_api_auth == ApiAuth::Sigv4;
        let mut authorized_by: Vec<&str> = Vec::new();
        authorized_by.extend(is_signed.then_some("ML_API_AUTH=sigv4"));
        authorized_by.extend(has_user.then_some("a user in ML_API_URL"));
        if let Some(token) = token.read()? {
            headers.insert(AUTHORIZATION, bearer(token.expose_secret())?);
            authorized_by.push("ML_API_TOKEN");
        }
        // A value in a file may contain a semicolon, as cookies do.
        let separators: &[char] = if self.ml_api_headers.is_some() { &[';', '\n'] } else { &['\n'] };
        if let Some(lines) = lines.read()? {
            for (at, line) in lines.expose_secret().split(separators).map(str::trim).enumerate() {
                if line.is_empty() {
                    continue;
                }
                let (name, value) = parse_header(line).map_err(|problem| wrong_header(at + 1, &problem))?;
                if name == AUTHORIZATION {
                    authorized_by.push("`authorization` in ML_API_HEADERS");
                }
                if is_signed && name.as_str().starts_with(SIGNED_PREFIX) {
                    return Err(wrong_header(at + 1, &format!("is `{name}`, which ML_API_AUTH=sigv4 sets itself")));
                }
                headers.append(name, value);
            }
        }
        if authorized_by.len() > 1 {
            return Err(ScoringError::Setting(format!(
                "the ML API takes one authorization, but {} are set: keep one",
                authorized_by.join(" and ")
            )));
        }
        Ok(headers)
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ScoringError> {
    let is_token = token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| sensitive(&format!("Bearer {token}"))).flatten();
    value.ok_or_else(|| {
        ScoringError::Setting("ML_API_TOKEN is no token: it must be one word of ASCII, without `Bearer`".to_owned())
    })
}

/// Parses `name: value`. The error shows nothing of the value, nor of what may be one.
fn parse_header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("is not `name: value`")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "has no name of a header before its colon")?;
    let value = value.trim();
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(format!("is `{name}`, which Assay sets itself"));
    }
    if value.is_empty() {
        return Err(format!("`{name}` has no value"));
    }
    let value =
        sensitive(value).ok_or_else(|| format!("`{name}` has a value with characters that headers cannot have"))?;
    Ok((name, value))
}

fn wrong_header(number: usize, problem: &str) -> ScoringError {
    let remedy = "write such as `x-api-key: …`, separated by `;`, or one a line in ML_API_HEADERS_FILE";
    ScoringError::Setting(format!("ML_API_HEADERS: header {number} {problem}; {remedy}"))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(credentials: &ApiCredentials, has_user: bool) -> Result<Vec<String>, String> {
        let headers = credentials.headers(has_user).map_err(|error| {
            assert_eq!(error.exit(), assay_transaction::Exit::Usage);
            error.to_string()
        })?;
        assert!(headers.values().all(HeaderValue::is_sensitive) && !format!("{headers:?}").contains("k-123"));
        Ok(headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
    }

    fn with(token: Option<&str>, headers: Option<&str>) -> ApiCredentials {
        let secret = |text: Option<&str>| text.map(SecretString::from);
        ApiCredentials { ml_api_token: secret(token), ml_api_headers: secret(headers), ..ApiCredentials::default() }
    }

    #[test]
    fn headers_are_read() {
        let cases: [(_, _, &[&str]); 6] = [
            (None, None, &[]),
            (Some(" "), Some(" "), &[]),
            (Some("k-123\n"), None, &["authorization: Bearer k-123"]),
            (None, Some("x-api-key: k-123"), &["x-api-key: k-123"]),
            (None, Some("X-Api-Key:k-123 ;; Ocp-Trace: on;"), &["x-api-key: k-123", "ocp-trace: on"]),
            (Some("k-123"), Some("x-a: b:c\nx-d: e"), &["authorization: Bearer k-123", "x-a: b:c", "x-d: e"]),
        ];
        for (token, headers, expected) in cases {
            assert_eq!(shown(&with(token, headers), false).unwrap(), expected, "{token:?}, {headers:?}");
        }
    }

    #[test]
    fn wrong_headers_are_named_without_their_values() {
        let cases = [
            (None, Some("k-123"), false, "header 1 is not `name: value`"),
            (None, Some("x-a: b; k-123"), false, "header 2 is not `name: value`"),
            (None, Some("k 123: x"), false, "header 1 has no name"),
            (None, Some(": k-123"), false, "header 1 has no name"),
            (None, Some("x-api-key:"), false, "`x-api-key` has no value"),
            (None, Some("x-api-key: k-123\u{1}"), false, "`x-api-key` has a value with characters"),
            (None, Some("Content-Type: k-123"), false, "`content-type`, which Assay sets itself"),
            (Some("Bearer k-123"), None, false, "without `Bearer`"),
            (Some("k-123"), None, true, "a user in ML_API_URL and ML_API_TOKEN are set"),
            (Some("k-123"), Some("Authorization: k-123"), false, "ML_API_TOKEN and `authorization` in ML_API_HEADERS"),
        ];
        for (token, headers, has_user, expected) in cases {
            let error = shown(&with(token, headers), has_user).unwrap_err();
            assert!(error.contains(expected) && !error.contains("k-123") && !error.contains("k 123"), "{error}");
        }
    }

    #[test]
    fn a_signature_is_an_authorization_of_its_own() {
        let signed = |credentials| ApiCredentials { ml_api_auth: ApiAuth::Sigv4, ..credentials };
        let refused = [
            (with(Some("k-123"), None), "ML_API_AUTH=sigv4 and ML_API_TOKEN are set"),
            (with(None, Some("authorization: k-123")), "ML_API_AUTH=sigv4 and `authorization` in ML_API_HEADERS"),
            (
                with(None, Some("a: b; X-Amz-Date: k-123")),
                "header 2 is `x-amz-date`, which ML_API_AUTH=sigv4 sets itself",
            ),
        ];
        for (credentials, expected) in refused {
            let error = shown(&signed(credentials), false).unwrap_err();
            assert!(error.contains(expected) && !error.contains("k-123"), "{error}");
        }
        assert!(
            shown(&signed(with(None, None)), true).unwrap_err().contains("ML_API_AUTH=sigv4 and a user in ML_API_URL")
        );
        assert_eq!(shown(&signed(with(None, Some("x-trace: on"))), false).unwrap(), ["x-trace: on"]);
    }

    #[test]
    fn files_are_read_line_by_line() {
        let path = std::env::temp_dir().join(format!("assay-headers-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "cookie: a=k-123; b=2\r\n\nx-api-key: k-123\n").unwrap();
        let credentials = ApiCredentials { ml_api_headers_file: Some(path.clone()), ..ApiCredentials::default() };
        assert_eq!(shown(&credentials, true).unwrap(), ["cookie: a=k-123; b=2", "x-api-key: k-123"]);
        let both = ApiCredentials { ml_api_headers: Some("x: y".into()), ..credentials };
        assert!(shown(&both, false).unwrap_err().contains("ML_API_HEADERS and ML_API_HEADERS_FILE are both set"));
        let token = ApiCredentials { ml_api_token_file: Some(path.clone()), ..ApiCredentials::default() };
        assert!(shown(&token, false).unwrap_err().contains("ML_API_TOKEN is no token"));
        std::fs::remove_file(path).unwrap();
        assert!(shown(&token, false).unwrap_err().contains("check ML_API_TOKEN_FILE"));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", with(Some("k-123"), Some("x-api-key: k-123"))).contains("k-123"));
    }
}
