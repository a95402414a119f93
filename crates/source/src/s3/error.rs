//! What an S3 response means for the reader of an object. Decided only here.

use std::error::Error;

use assay_connect::TlsFailure;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::SourceError;
use crate::error::io_cause;
use crate::options::TLS_PREFIX;

/// The target of a request.
#[derive(Clone, Copy)]
pub(crate) struct RequestTarget<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) is_aws: bool,
    pub(crate) bucket: &'a str,
    pub(crate) location: &'a str,
}

impl RequestTarget<'_> {
    pub(crate) fn unreachable(self, cause: String) -> SourceError {
        SourceError::Unreachable { endpoint: self.endpoint.to_owned(), is_aws: self.is_aws, cause }
    }

    pub(crate) fn refused(self, cause: impl Into<String>) -> SourceError {
        SourceError::Refused { location: self.location.to_owned(), cause: cause.into() }
    }

    /// The error of a failed request.
    pub(crate) fn error<E>(self, error: &SdkError<E, HttpResponse>) -> SourceError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                self.answer(answer.raw().status().as_u16(), answer.err().code().unwrap_or_default())
            }
            SdkError::ResponseError(_) if TlsFailure::from_error(error).is_none() => {
                // The SDK's own message may quote the response.
                self.unreachable("its response is not from S3".to_owned())
            }
            SdkError::TimeoutError(_) => self.unreachable("timed out".to_owned()),
            SdkError::DispatchFailure(_) if is_about_credentials(error) => {
                SourceError::NoCredentials { cause: root_cause(error) }
            }
            _ => match TlsFailure::from_error(error) {
                Some(trouble) => self.without_tls(trouble),
                None => self.unreachable(root_cause(error)),
            },
        }
    }

    fn without_tls(self, trouble: TlsFailure) -> SourceError {
        let remedy = match trouble {
            TlsFailure::CertificateWanted | TlsFailure::CertificateRefused | TlsFailure::Refused => {
                "the AWS SDK cannot present one: require only KEY and SECRET, or use a proxy that presents it"
                    .to_owned()
            }
            trouble => trouble.remedy(TLS_PREFIX),
        };
        SourceError::Tls { endpoint: self.endpoint.to_owned(), cause: trouble.cause(), remedy }
    }

    fn answer(self, status: u16, code: &str) -> SourceError {
        let location = self.location.to_owned();
        // S3 codes are words; another server may return anything.
        let is_word = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let cause = if is_word { format!("{status} {code}") } else { status.to_string() };
        match (status, code) {
            (_, "NoSuchBucket") => SourceError::NoBucket { bucket: self.bucket.to_owned() },
            (_, "PreconditionFailed") | (412, _) => SourceError::Replaced { location },
            (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")
            | (301 | 307, _) => SourceError::Region { location, cause },
            (404, _) => SourceError::NoObject { location },
            (_, "RequestTimeTooSkewed") => SourceError::Skewed { location, cause },
            (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken") => SourceError::Denied { location, cause },
            (408 | 429 | 500.., _) => self.unreachable(cause),
            _ => self.refused(cause),
        }
    }
}

/// Whether a request was not sent because there were no credentials. A broken connection looks similar.
fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The first line of the innermost cause: outer errors only say that a request failed, and the AWS chain lists all its
/// attempts.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let cause = innermost.downcast_ref::<std::io::Error>().map_or_else(|| innermost.to_string(), io_cause);
    let line = cause.lines().next().unwrap_or_default();
    line.trim_end_matches(" Attempted:").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::Exit;

    #[test]
    fn an_answer_says_what_to_fix() {
        let target =
            RequestTarget { endpoint: "AWS, region us-east-1", is_aws: true, bucket: "b", location: "s3://b/k" };
        let cases = [
            (404, "NoSuchBucket", "no bucket `b`: check SOURCE_URL and ENDPOINT_URL", Exit::SourceUnreadable),
            (404, "", "no object s3://b/k: check the key in SOURCE_URL", Exit::SourceUnreadable),
            (
                403,
                "AccessDenied",
                "access to s3://b/k is denied (403 AccessDenied): check KEY and SECRET, and what they may read",
                Exit::SourceUnreadable,
            ),
            (
                403,
                "RequestTimeTooSkewed",
                "access to s3://b/k is denied (403 RequestTimeTooSkewed): set the clock of this machine, which differs from that of S3 \
                 by more than 15 minutes",
                Exit::SourceUnreadable,
            ),
            (
                400,
                "ExpiredToken",
                "access to s3://b/k is denied (400 ExpiredToken): check KEY and SECRET, and what they may read",
                Exit::SourceUnreadable,
            ),
            (
                301,
                "PermanentRedirect",
                "the bucket of s3://b/k is in another region (301 PermanentRedirect): check AWS_REGION",
                Exit::Usage,
            ),
            (
                412,
                "",
                "s3://b/k was replaced while it was read: load it again for its new version",
                Exit::SourceUnreadable,
            ),
            (
                503,
                "SlowDown",
                "cannot reach S3 at AWS, region us-east-1 (503 SlowDown): check ENDPOINT_URL or AWS_REGION",
                Exit::DependencyUnavailable,
            ),
            (400, "Odd", "cannot read s3://b/k: the S3 server answered 400 Odd", Exit::SourceUnreadable),
        ];
        for (status, code, message, exit) in cases {
            let error = target.answer(status, code);
            assert_eq!((error.to_string().as_str(), error.exit()), (message, exit));
        }
    }

    #[test]
    fn a_cause_is_one_line_of_the_innermost_error() {
        let chain = "no credentials found in chain. Attempted:\n  Environment: not set\n  Profile: not set";
        assert_eq!(root_cause(&std::io::Error::other(chain)), "no credentials found in chain");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(
            root_cause(&std::io::Error::other(SourceError::from(refused))),
            "cannot read the source (connection refused)"
        );
    }
}
