//! A range of one version of an object, resumed at the byte where a download breaks.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use assay_connect::{Backoff, RetryPolicy};
use assay_transaction::SourceIdentity;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use tracing::{debug, warn};

use crate::SourceError;
use crate::error::io_cause;
use crate::s3::client::{S3Client, modified_in};
use crate::s3::error::{RequestTarget, root_cause};

/// Longest wait for the next bytes of a response.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A short SOURCE_TIMEOUT leaves time for this many reads.
const READS_PER_TIMEOUT: u32 = 10;
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(10));

/// One version of one object.
pub(crate) struct ObjectVersion {
    pub(crate) s3: S3Client,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) identity: SourceIdentity,
}

impl ObjectVersion {
    fn target(&self) -> RequestTarget<'_> {
        self.s3.target(&self.bucket, &self.identity.location)
    }

    pub(crate) fn replaced(&self) -> SourceError {
        SourceError::Replaced { location: self.identity.location.clone() }
    }

    /// Requests a range, if the object is unchanged. An object that ends within the range returns less.
    async fn get(&self, range: Range<u64>) -> Result<RangeResponse, SourceError> {
        let mut request = self.s3.without_retry.get_object().bucket(&self.bucket).key(&self.key);
        request = match modified_in(&self.identity.version) {
            Some(modified) => request.if_unmodified_since(modified),
            None => request.if_match(format!("\"{}\"", self.identity.version)),
        };
        match request.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await {
            Ok(answer) => self.check(range, answer),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 416) => {
                self.empty_range_at(range.start).await
            }
            Err(error) => Err(self.target().error(&error)),
        }
    }

    /// Checks the response, as servers may ignore conditions and ranges.
    fn check(&self, range: Range<u64>, answer: GetObjectOutput) -> Result<RangeResponse, SourceError> {
        let is_other = |tag: &str| tag.trim_matches('"') != self.identity.version;
        if modified_in(&self.identity.version).is_none() && answer.e_tag().is_some_and(is_other) {
            return Err(self.replaced());
        }
        let (end, size) = match answer.content_range() {
            Some(text) => content_range(text)
                .filter(|(given, _)| given.start == range.start && given.end <= range.end)
                .map(|(given, size)| (given.end, size))
                .ok_or_else(|| self.target().refused("without the requested range"))?,
            // The whole object, from a server without ranges.
            None if range.start == 0 => {
                let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
                let size = size.ok_or_else(|| self.target().refused("without a Content-Length"))?;
                (size, size)
            }
            None => return Err(self.target().refused("without the requested range")),
        };
        Ok(RangeResponse { end, size, body: answer.body })
    }

    /// The server has nothing from an offset on: the object ends there, or was replaced, as not every server checks
    /// conditions first.
    async fn empty_range_at(&self, offset: u64) -> Result<RangeResponse, SourceError> {
        let found = self.s3.identify(&self.bucket, &self.key).await?;
        if found.identity != self.identity {
            return Err(self.replaced());
        }
        if offset < found.size {
            return Err(self.target().refused("without the requested range"));
        }
        Ok(RangeResponse { end: offset, size: found.size, body: Body::from_static(b"") })
    }
}

/// The response to a range request.
struct RangeResponse {
    /// End of the range, exclusive.
    end: u64,
    /// Size of the object.
    size: u64,
    body: Body,
}

/// `bytes 0-4/10`: the range and the size of the object.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// A range being downloaded.
pub(crate) struct Download {
    object: Arc<ObjectVersion>,
    /// The next byte.
    offset: u64,
    /// End of the range, exclusive.
    end: u64,
    /// Size of the object, once a response has stated it.
    size: Option<u64>,
    body: Option<Body>,
    read_timeout: Duration,
    backoff: Backoff,
}

impl Download {
    /// Sends nothing yet.
    pub(crate) fn new(object: Arc<ObjectVersion>, range: Range<u64>) -> Self {
        let timeout = object.s3.timeout;
        Self {
            object,
            offset: range.start,
            end: range.end,
            size: None,
            body: None,
            read_timeout: READ_TIMEOUT.min(timeout / READS_PER_TIMEOUT),
            backoff: RETRY.within(timeout).backoff(),
        }
    }

    /// Requests the range until a response arrives; returns the size of the object.
    pub(crate) async fn open(&mut self) -> Result<u64, SourceError> {
        loop {
            match self.ask().await {
                Ok(size) => return Ok(size),
                Err(interruption) => self.pause(interruption).await?,
            }
        }
    }

    /// End of the range; after a response, no more than the size of the object.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The next bytes; none at the end of the range or object.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        while self.offset < self.end {
            match self.read().await {
                // The object ends exactly here.
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.backoff.reset();
                    return Ok(Some(bytes));
                }
                Err(interruption) => self.pause(interruption).await?,
            }
        }
        Ok(None)
    }

    /// Reads on; none only if the response says that nothing follows.
    async fn read(&mut self) -> Result<Option<Bytes>, Interruption> {
        if self.body.is_none() {
            self.ask().await?;
        }
        let Some(body) = self.body.as_mut().filter(|_| self.offset < self.end) else { return Ok(None) };
        match tokio::time::timeout(self.read_timeout, body.try_next()).await {
            Ok(Ok(Some(bytes))) if self.offset + bytes.len() as u64 > self.end => {
                Err(self.object.target().refused("with more bytes than requested").into())
            }
            Ok(Ok(Some(bytes))) => Ok(Some(bytes)),
            Ok(Ok(None)) => Err(Interruption::Transient("the connection was closed".to_owned())),
            Ok(Err(error)) => Err(Interruption::Transient(root_cause(&error))),
            Err(_) => Err(Interruption::Transient(io_cause(&io::ErrorKind::TimedOut.into()))),
        }
    }

    /// Requests the rest of the range.
    async fn ask(&mut self) -> Result<u64, Interruption> {
        let answer = self.object.get(self.offset..self.end).await?;
        if self.size.is_some_and(|size| size != answer.size) {
            return Err(self.object.replaced().into());
        }
        self.size = Some(answer.size);
        self.end = answer.end;
        self.body = Some(answer.body);
        Ok(answer.size)
    }

    async fn pause(&mut self, interruption: Interruption) -> Result<(), SourceError> {
        let cause = match interruption {
            Interruption::Transient(cause) => cause,
            Interruption::Final(error) => return Err(error),
        };
        self.body = None;
        let (location, timeout) = (&self.object.identity.location, self.object.s3.timeout);
        let is_first = !self.backoff.is_failing();
        let Some(pause) = self.backoff.next_delay() else {
            return Err(SourceError::Stalled { location: location.clone(), offset: self.offset, timeout, cause });
        };
        let offset = self.offset;
        if is_first {
            warn!("reading {location} was interrupted at byte {offset} ({cause}): retrying for {timeout:?}");
        } else {
            debug!("reading {location} is still interrupted at byte {offset} ({cause})");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Why a download stopped.
enum Interruption {
    /// A retry may succeed.
    Transient(String),
    /// A retry is useless.
    Final(SourceError),
}

impl From<SourceError> for Interruption {
    fn from(error: SourceError) -> Self {
        if error.is_transient() { Self::Transient(error.to_string()) } else { Self::Final(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_range_is_parsed() {
        assert_eq!(content_range("bytes 0-4/10"), Some((0..5, 10)));
        assert_eq!(content_range("bytes 9-9/10"), Some((9..10, 10)));
        for wrong in ["", "bytes */10", "bytes 0-4/*", "bytes 5-4/10", "bytes 0-10/10", "items 0-4/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
