//! What `assay doctor` finds of S3: one listing of at most one object, which credentials, bucket and clock have to be right for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use assay_connect::diagnosis::judge_clock;
use assay_connect::{Diagnosis, Finding};
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use crate::s3::S3Client;
use crate::{S3Options, SourceError, Sources};

/// The name of S3 as a dependency, in `assay doctor`.
pub const DEPENDENCY: &str = "s3";
/// The checks, in their order.
const CHECKS: &[&str] = &["connection", "clock", "credentials", "bucket", "listing"];

/// From this difference between the clocks on, S3 refuses every request.
const MAX_SKEW: Duration = Duration::from_mins(15);

/// Checks the S3 of the settings by a listing of this bucket, under this prefix. Each step takes at most `limit`.
pub async fn diagnose(options: &S3Options, bucket: &str, prefix: &str, limit: Duration) -> Vec<Finding> {
    let mut diagnosis = Diagnosis::new(CHECKS, limit);
    let asking = Box::pin(async {
        let sources = Sources::new(options)?;
        let s3 = sources.s3().await?;
        Ok::<_, SourceError>((s3.clone(), s3.look(bucket, prefix).await))
    });
    if let Some((s3, Look { listed, clock })) = diagnosis.step("connection", asking).await {
        match clock {
            // Its refusal says what to do.
            _ if matches!(listed, Err(SourceError::Skewed { .. })) => {}
            Some((theirs, ours)) => diagnosis.add(judge_clock("clock", "S3", theirs, ours, Some(MAX_SKEW))),
            None if listed.is_ok() => diagnosis.add(Finding::not_checked("clock", "the answer has no date")),
            None => {}
        }
        judge(&mut diagnosis, &s3, &format!("s3://{bucket}/{prefix}"), listed);
    }
    diagnosis.finish()
}

/// What a listing showed: whether there is an object, and the clock of S3 with ours at that moment.
struct Look {
    listed: Result<bool, SourceError>,
    clock: Option<(SystemTime, SystemTime)>,
}

impl S3Client {
    async fn look(&self, bucket: &str, prefix: &str) -> Look {
        let location = format!("s3://{bucket}/{prefix}");
        let date = ResponseDate::default();
        let request = self.without_retry.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
        let listed = request.customize().interceptor(date.clone()).send().await;
        let listed = listed.map_err(|error| self.target(bucket, &location).error(&error));
        let seen = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Look { listed: listed.map(|page| !page.contents().is_empty()), clock: seen }
    }
}

/// The check that an error is about. Those before it passed.
fn failed_check(error: &SourceError) -> &'static str {
    match error {
        SourceError::Skewed { .. } => "clock",
        // Codes of AWS that others share.
        SourceError::Denied { cause, .. } if !cause.ends_with("AccessDenied") => "credentials",
        SourceError::NoCredentials { .. } => "credentials",
        SourceError::Region { .. } | SourceError::NoBucket { .. } => "bucket",
        SourceError::Denied { .. } | SourceError::Refused { .. } | SourceError::NoObject { .. } => "listing",
        _ => "connection",
    }
}

fn judge(diagnosis: &mut Diagnosis, s3: &S3Client, location: &str, listed: Result<bool, SourceError>) {
    let failed = listed.as_ref().err().map(failed_check);
    let place = |check: &str| CHECKS.iter().position(|known| *known == check);
    let has_passed = |check: &str| failed.is_none_or(|failed| place(check) < place(failed));
    if has_passed("connection") && !matches!(listed, Err(SourceError::NoCredentials { .. })) {
        diagnosis.add(Finding::ok("connection", format!("S3 at {} answers", s3.endpoint())));
    }
    if has_passed("credentials") {
        diagnosis.add(Finding::ok("credentials", "they are accepted"));
    }
    // A refusal does not show whether there is a bucket.
    if listed.is_ok() {
        diagnosis.add(Finding::ok("bucket", "it is there"));
    }
    match listed {
        Ok(has_objects) => {
            let found = if has_objects { "has objects" } else { "may be listed, and holds no object" };
            diagnosis.add(Finding::ok("listing", format!("{location} {found}")));
        }
        Err(error) => diagnosis.add(Finding::refused(failed_check(&error), &error)),
    }
}

/// Keeps the `Date` of a response, even of a refusal, and when it came.
#[derive(Debug, Clone, Default)]
struct ResponseDate(Arc<Mutex<Option<(SystemTime, SystemTime)>>>);

impl Intercept for ResponseDate {
    fn name(&self) -> &'static str {
        "ResponseDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(theirs) = date.and_then(|date| SystemTime::try_from(date).ok()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((theirs, SystemTime::now()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_belongs_to_the_check_that_it_is_about() {
        let (location, text) = (|| "s3://b/k".to_owned(), |text: &str| text.to_owned());
        let cases = [
            (SourceError::Skewed { location: location(), cause: text("403 RequestTimeTooSkewed") }, "clock"),
            (SourceError::Denied { location: location(), cause: text("403 InvalidAccessKeyId") }, "credentials"),
            (SourceError::Denied { location: location(), cause: text("403 SignatureDoesNotMatch") }, "credentials"),
            (SourceError::Denied { location: location(), cause: text("403 AccessDenied") }, "listing"),
            (SourceError::NoCredentials { cause: text("none") }, "credentials"),
            (SourceError::NoBucket { bucket: text("b") }, "bucket"),
            (SourceError::Region { location: location(), cause: text("301") }, "bucket"),
            (SourceError::Unreachable { endpoint: text("h"), is_aws: false, cause: text("refused") }, "connection"),
        ];
        for (error, check) in cases {
            assert_eq!(failed_check(&error), check, "{error}");
        }
    }
}
