//! What an answer of S3 means to somebody who wants to read an object. Decided here, and nowhere else.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::SourceError;
use crate::error::io_cause;

/// Whom a request went to, and what for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) is_aws: bool,
    pub(crate) bucket: &'a str,
    pub(crate) location: &'a str,
}

impl Asked<'_> {
    pub(crate) fn unreachable(self, cause: String) -> SourceError {
        SourceError::Unreachable { endpoint: self.endpoint.to_owned(), is_aws: self.is_aws, cause }
    }

    pub(crate) fn refused(self, cause: impl Into<String>) -> SourceError {
        SourceError::Refused { location: self.location.to_owned(), cause: cause.into() }
    }

    /// The error of a request that failed.
    pub(crate) fn error<E>(self, error: &SdkError<E, HttpResponse>) -> SourceError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                self.answer(answer.raw().status().as_u16(), answer.err().code().unwrap_or_default())
            }
            SdkError::ResponseError(_) => self.unreachable(format!("its answer is not S3's: {}", root_cause(error))),
            SdkError::TimeoutError(_) => self.unreachable("timed out".to_owned()),
            SdkError::DispatchFailure(failure) if !failure.is_io() && !failure.is_timeout() => {
                SourceError::NoCredentials { cause: root_cause(error) }
            }
            _ => self.unreachable(root_cause(error)),
        }
    }

    fn answer(self, status: u16, code: &str) -> SourceError {
        let location = self.location.to_owned();
        let cause = if code.is_empty() { status.to_string() } else { format!("{status} {code}") };
        match (status, code) {
            (_, "NoSuchBucket") => SourceError::NoBucket { bucket: self.bucket.to_owned() },
            (_, "PreconditionFailed") | (412, _) => SourceError::Replaced { location },
            (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")
            | (301 | 307, _) => SourceError::Region { location, cause },
            (404, _) => SourceError::NoObject { location },
            (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken") => SourceError::Denied { location, cause },
            (408 | 429 | 500.., _) => self.unreachable(cause),
            _ => self.refused(cause),
        }
    }
}

/// The innermost of an error's causes: the outer ones only say that a request failed.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.downcast_ref::<std::io::Error>().map_or_else(|| innermost.to_string(), io_cause)
}
