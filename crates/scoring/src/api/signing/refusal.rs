//! What SageMaker says of a request that it does not take, beside the answers of the model. Only its code is shown, never its
//! message, which names accounts and may repeat the request.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap};
use serde::Deserialize;

use crate::failure::Symptom;
use crate::reason::Reason;

/// The name of the error.
const ERROR_TYPE: &str = "x-amzn-errortype";
/// Longest code that is shown.
const MAX_CODE: usize = 64;
/// AWS takes a signature within five minutes; from here on, the clock is the likeliest cause.
const SKEW: Duration = Duration::from_mins(4);

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) symptom: Symptom,
    /// Whether other credentials are needed, so that those held are not used again.
    pub(super) wants_credentials: bool,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Pace,
    Clock,
    Region,
    Signature,
    Expiry,
    Key,
    Permission,
    Endpoint,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

/// What a response to a signed request means, if it is about the signature, the credentials or what they may do. `region`
/// is that of the signature.
pub(super) fn refusal(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    region: Option<&str>,
    now: SystemTime,
) -> Option<Refusal> {
    let Body { code, message } = serde_json::from_slice(body).unwrap_or_default();
    let code = headers.get(ERROR_TYPE).and_then(|name| name.to_str().ok()).unwrap_or(&code);
    let code = plain(code);
    let skew = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let skew = skew.map(|theirs| Skew::between(now, theirs)).filter(|skew| skew.by >= SKEW);
    let about = about(status, code, &message, skew.is_some())?;
    let shown = if code.is_empty() { format!("HTTP status {status}") } else { format!("HTTP status {status} {code}") };
    let region = region.unwrap_or("unknown");
    let (what, remedy): (String, Reason) = match about {
        About::Pace => return Some(Refusal { symptom: Symptom::status(429), wants_credentials: false }),
        About::Clock => (
            match skew {
                Some(skew) => format!("{shown}: the clock of this machine is {skew}"),
                None => format!("{shown}: the signature is not of this time"),
            },
            "set the clock of this machine, such as by NTP".into(),
        ),
        About::Region => (
            format!("{shown}: the signature is for the region {region}"),
            "set AWS_REGION to the region of the endpoint".into(),
        ),
        About::Signature => (
            format!("{shown}: the signature does not match"),
            format!(
                "check the secret of the AWS credentials, AWS_REGION (the signature is for {region}), the clock, and that \
                 no proxy changes requests"
            )
            .into(),
        ),
        About::Expiry => (
            format!("{shown}: the session token has expired"),
            "renew the AWS credentials: a token in the environment is not renewed by itself, one of a role is".into(),
        ),
        About::Key => (
            format!("{shown}: the access key or the session token is not known"),
            "check the AWS credentials, and that AWS_SESSION_TOKEN belongs to AWS_ACCESS_KEY_ID".into(),
        ),
        About::Permission => (
            shown,
            format!("allow sagemaker:InvokeEndpoint on the endpoint of ML_API_MODEL_NAME in {region} to the role or user of the AWS credentials")
                .into(),
        ),
        About::Endpoint => (
            format!("{shown}: no endpoint of that name is in {region}"),
            "check ML_API_MODEL_NAME, the region, and the account of the AWS credentials".into(),
        ),
    };
    let symptom = Symptom::Unauthorized { verdict: "rejects every request", what: what.into(), remedy };
    Some(Refusal { symptom, wants_credentials: matches!(about, About::Expiry | About::Key | About::Signature) })
}

fn about(status: u16, code: &str, message: &str, is_skewed: bool) -> Option<About> {
    let is_late = message.starts_with("Signature expired") || message.starts_with("Signature not yet current");
    match code.trim_end_matches("Exception") {
        "Throttling" | "ThrottledRequest" | "TooManyRequests" | "RequestLimitExceeded" => Some(About::Pace),
        "RequestExpired" | "RequestTimeTooSkewed" => Some(About::Clock),
        "InvalidSignature" | "SignatureDoesNotMatch" | "IncompleteSignature"
            if message.contains("be scoped to a valid region") =>
        {
            Some(About::Region)
        }
        "InvalidSignature" | "SignatureDoesNotMatch" if is_skewed || is_late => Some(About::Clock),
        "InvalidSignature" | "SignatureDoesNotMatch" | "IncompleteSignature" | "MissingAuthenticationToken" => {
            Some(About::Signature)
        }
        "ExpiredToken" => Some(About::Expiry),
        "UnrecognizedClient" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "InvalidToken" => Some(About::Key),
        "ValidationError" | "Validation" if message.starts_with("Endpoint ") && message.contains("not found") => {
            Some(About::Endpoint)
        }
        _ => matches!(status, 401 | 403).then_some(About::Permission),
    }
}

/// The code alone, of `Code:http://…` or `namespace#Code`; nothing if it is no word.
fn plain(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default().trim();
    let is_word = code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word { code } else { "" }
}

/// How far the clock of this machine is off.
#[derive(Debug, Clone, Copy)]
struct Skew {
    by: Duration,
    is_behind: bool,
}

impl Skew {
    fn between(ours: SystemTime, theirs: SystemTime) -> Self {
        match theirs.duration_since(ours) {
            Ok(by) => Self { by, is_behind: true },
            Err(ahead) => Self { by: ahead.duration(), is_behind: false },
        }
    }
}

impl std::fmt::Display for Skew {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.is_behind { "behind" } else { "ahead of" };
        write!(formatter, "{} s {direction} the API's", self.by.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::failure::SymptomClass;

    const DATE_OF_API: &str = "Wed, 21 Oct 2026 07:28:00 GMT";

    fn found(status: u16, code: &str, message: &str, seconds_off: i64) -> Option<Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static(DATE_OF_API));
        if !code.is_empty() {
            headers.insert(ERROR_TYPE, HeaderValue::from_str(code).unwrap());
        }
        let body = serde_json::json!({ "message": message }).to_string();
        let date = httpdate::parse_http_date(DATE_OF_API).unwrap();
        let off = Duration::from_secs(seconds_off.unsigned_abs());
        let now = if seconds_off < 0 { date - off } else { date + off };
        refusal(status, &headers, body.as_bytes(), Some("eu-west-1"), now)
    }

    #[test]
    fn a_refusal_names_what_and_the_fix() {
        let mismatch = "The request signature we calculated does not match … secret";
        let cases = [
            (403, "InvalidSignatureException", mismatch, 0, "does not match", "secret of the AWS credentials", true),
            (403, "InvalidSignatureException:http://x/", mismatch, -600, "is 600 s behind the API's", "clock", false),
            (403, "InvalidSignatureException", mismatch, 301, "is 301 s ahead of the API's", "clock", false),
            (403, "InvalidSignatureException", "Signature expired: 2026…", 0, "not of this time", "clock", false),
            (
                403,
                "InvalidSignatureException",
                "Credential should be scoped to a valid region, not 'eu-west-1'. ",
                0,
                "for the region eu-west-1",
                "set AWS_REGION",
                false,
            ),
            (403, "ExpiredTokenException", "The security token … secret", 0, "ExpiredTokenException", "renew", true),
            (400, "com.amazon#ExpiredToken", "secret", 0, "400 ExpiredToken: ", "renew", true),
            (403, "UnrecognizedClientException", "secret", 0, "is not known", "AWS_SESSION_TOKEN", true),
            (403, "AccessDeniedException", "User: secret", 0, "AccessDenied", "sagemaker:InvokeEndpoint", false),
            (403, "", "secret", 0, "HTTP status 403", "sagemaker:InvokeEndpoint", false),
            (403, "not a word: secret", "secret", 0, "HTTP status 403", "sagemaker:InvokeEndpoint", false),
            (
                400,
                "ValidationError",
                "Endpoint secret of account 1 not found.",
                0,
                "eu-west-1",
                "ML_API_MODEL_NAME",
                false,
            ),
        ];
        for (status, code, message, off, what, fix, wants_credentials) in cases {
            let refusal = found(status, code, message, off).unwrap();
            let shown = format!("{} / {}", refusal.symptom, refusal.symptom.remedy("/x"));
            assert!(shown.contains(what) && shown.contains(fix), "{code}: {shown}");
            assert!(!shown.replace("secret of the AWS", "").contains("secret"), "{shown}");
            assert_eq!(refusal.symptom.class(), SymptomClass::Misconfigured, "{code}");
            assert_eq!(refusal.wants_credentials, wants_credentials, "{code}");
        }
    }

    #[test]
    fn what_is_not_about_the_signature_is_left_to_others() {
        for (status, code) in [(424, "ModelError"), (400, "ValidationError"), (500, "InternalFailure"), (503, "")] {
            assert_eq!(found(status, code, "rows are too long", 0), None, "{code}");
        }
        // AWS says with 400 that it is asked too often; that is no fault of rows.
        let throttled = found(400, "ThrottlingException", "Rate exceeded", 0).unwrap().symptom;
        assert_eq!(throttled, Symptom::status(429));
    }
}
