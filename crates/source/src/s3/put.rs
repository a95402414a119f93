//! Uploads objects: small ones in one request, large ones in parts, several at a time.

use std::pin::Pin;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration};
use bytes::{Bytes, BytesMut};
use futures_util::{TryStreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use crate::s3::client::{S3Client, unquoted_tag};
use crate::{SourceError, SourceUrl, Sources};

/// Larger objects are uploaded in parts.
const ONE_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Size of a part, unless the object would need more than [`MAX_PARTS`].
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Size of a part if the size of the object is unknown: at most 160 GB fit.
const UNKNOWN_PART_BYTES: u64 = 16 * 1024 * 1024;
/// S3's limit of parts.
const MAX_PARTS: u64 = 10_000;
/// Concurrent parts: with the one being read, 32 MiB of memory.
const PARTS_TOGETHER: usize = 3;
/// Longest wait for a response, including the time to send the request.
const PUT_TIMEOUT: Duration = Duration::from_mins(5);

/// An uploaded object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedObject {
    /// Its size in bytes.
    pub size: u64,
    /// Its version.
    pub version: Option<String>,
    /// Whether its bucket was created.
    pub made_bucket: bool,
}

/// The content of an upload.
pub struct UploadContent {
    /// Its bytes.
    pub bytes: Pin<Box<dyn AsyncRead + Send>>,
    /// Its size, if known.
    pub size: Option<u64>,
}

impl Sources {
    /// Uploads an object, and creates its bucket if missing. Calls `sent` with the bytes that have arrived. Fails with
    /// [`SourceError::Stopped`] when `shutdown` is cancelled; then nothing of the object remains.
    pub async fn put(
        &self,
        content: UploadContent,
        to: &SourceUrl,
        sent: &(dyn Fn(u64) + Sync),
        shutdown: &CancellationToken,
    ) -> Result<UploadedObject, SourceError> {
        let SourceUrl::S3 { bucket, key } = to else {
            return Err(SourceError::Url { url: to.to_string(), reason: "objects can only be put into a bucket" });
        };
        let upload = Upload { s3: self.s3().await?, bucket, key, location: to.to_string(), sent, shutdown };
        Box::pin(upload.put(content)).await.map_err(writing)
    }
}

/// Turns an error of reading into one of writing.
fn writing(error: SourceError) -> SourceError {
    match error {
        SourceError::Denied { location, cause } | SourceError::Refused { location, cause } => {
            SourceError::NotWritten { location, cause }
        }
        error => error,
    }
}

struct Upload<'a> {
    s3: &'a S3Client,
    bucket: &'a str,
    key: &'a str,
    location: String,
    sent: &'a (dyn Fn(u64) + Sync),
    shutdown: &'a CancellationToken,
}

impl Upload<'_> {
    async fn put(&self, mut content: UploadContent) -> Result<UploadedObject, SourceError> {
        let timeouts = TimeoutConfig::builder().read_timeout(PUT_TIMEOUT).connect_timeout(PUT_TIMEOUT).build();
        let client = Client::from_conf(self.s3.client.config().to_builder().timeout_config(timeouts).build());
        let first = self.stoppable(read_up_to(&mut content.bytes, ONE_REQUEST_BYTES)).await??;
        if first.len() < ONE_REQUEST_BYTES {
            return self.stoppable(self.put_whole(&client, first)).await?;
        }
        let (upload_id, made_bucket) = self.stoppable(self.begin(&client)).await??;
        let done = self.stoppable(self.put_parts(&client, &upload_id, first, content)).await;
        let (size, version) = match done.and_then(std::convert::identity) {
            Ok(done) => done,
            Err(error) => {
                // Otherwise its parts remain, invisible, and cost money.
                let abort = client.abort_multipart_upload().bucket(self.bucket).key(self.key).upload_id(upload_id);
                let _ = abort.send().await;
                return Err(error);
            }
        };
        Ok(UploadedObject { size, version, made_bucket })
    }

    async fn stoppable<T>(&self, work: impl Future<Output = T>) -> Result<T, SourceError> {
        let done = Box::pin(self.shutdown.run_until_cancelled(work)).await;
        done.ok_or_else(|| SourceError::Stopped { location: self.location.clone() })
    }

    async fn put_whole(&self, client: &Client, bytes: Bytes) -> Result<UploadedObject, SourceError> {
        let put = async || {
            let request = client.put_object().bucket(self.bucket).key(self.key).body(Body::from(bytes.clone()));
            request.send().await.map_err(|error| self.s3.target(self.bucket, &self.location).error(&error))
        };
        let (answer, made_bucket) = self.in_bucket(client, put).await?;
        (self.sent)(bytes.len() as u64);
        Ok(UploadedObject { size: bytes.len() as u64, version: answer.e_tag().map(unquoted_tag), made_bucket })
    }

    async fn begin(&self, client: &Client) -> Result<(String, bool), SourceError> {
        let target = self.s3.target(self.bucket, &self.location);
        let create = async || {
            let request = client.create_multipart_upload().bucket(self.bucket).key(self.key);
            request.send().await.map_err(|error| target.error(&error))
        };
        let (answer, made_bucket) = self.in_bucket(client, create).await?;
        let id = answer.upload_id().ok_or_else(|| target.refused("without the id of the upload"))?;
        Ok((id.to_owned(), made_bucket))
    }

    /// If the bucket is missing, creates it and tries again; returns whether it was created.
    async fn in_bucket<T>(
        &self,
        client: &Client,
        ask: impl AsyncFn() -> Result<T, SourceError>,
    ) -> Result<(T, bool), SourceError> {
        match ask().await {
            Err(SourceError::NoBucket { .. }) => {}
            answer => return answer.map(|answer| (answer, false)),
        }
        let request = client.create_bucket().bucket(self.bucket);
        // Servers other than AWS may reject a location, and the first AWS region has no constraint.
        let region = self.s3.aws_region().filter(|region| *region != "us-east-1");
        let place = region.map(|region| {
            let place = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(place).build()
        });
        match request.set_create_bucket_configuration(place).send().await {
            Ok(_) => {}
            // Another client was faster.
            Err(error) if error.as_service_error().is_some_and(CreateBucketError::is_bucket_already_owned_by_you) => {}
            Err(error) => return Err(self.s3.target(self.bucket, &format!("s3://{}", self.bucket)).error(&error)),
        }
        Ok((ask().await?, true))
    }

    async fn put_parts(
        &self,
        client: &Client,
        upload_id: &str,
        first: Bytes,
        content: UploadContent,
    ) -> Result<(u64, Option<String>), SourceError> {
        // Unknown sizes may be large.
        let part_bytes = content.size.map_or(UNKNOWN_PART_BYTES, |size| PART_BYTES.max(size.div_ceil(MAX_PARTS)));
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        // The bytes already read, then the rest.
        let rest = std::io::Cursor::new(first).chain(content.bytes);
        let parts = stream::try_unfold((rest, 1), |(mut rest, number)| async move {
            let bytes = read_up_to(&mut rest, part_bytes).await?;
            Ok::<_, SourceError>((!bytes.is_empty()).then(|| ((number, bytes), (rest, number + 1))))
        });
        let sending = parts.map_ok(|(number, bytes)| self.put_part(client, upload_id, number, bytes));
        let mut done: Vec<_> = Box::pin(sending.try_buffer_unordered(PARTS_TOGETHER)).try_collect().await?;
        done.sort_by_key(|(part, _)| part.part_number());
        let size = done.iter().map(|(_, size)| size).sum();
        let parts = done.into_iter().map(|(part, _)| part).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = client.complete_multipart_upload().bucket(self.bucket).key(self.key).upload_id(upload_id);
        let answer = request.multipart_upload(parts).send().await;
        let answer = answer.map_err(|error| self.s3.target(self.bucket, &self.location).error(&error))?;
        Ok((size, answer.e_tag().map(unquoted_tag)))
    }

    async fn put_part(
        &self,
        client: &Client,
        upload_id: &str,
        number: i32,
        bytes: Bytes,
    ) -> Result<(CompletedPart, u64), SourceError> {
        let size = bytes.len() as u64;
        let request = client.upload_part().bucket(self.bucket).key(self.key).upload_id(upload_id).part_number(number);
        let answer = request.body(Body::from(bytes)).send().await;
        let answer = answer.map_err(|error| self.s3.target(self.bucket, &self.location).error(&error))?;
        (self.sent)(size);
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag().map(str::to_owned)).build();
        Ok((part, size))
    }
}

/// Reads as many bytes as wanted; fewer at the end.
async fn read_up_to(from: &mut (impl AsyncRead + Unpin), wanted: usize) -> Result<Bytes, SourceError> {
    let mut bytes = BytesMut::new();
    let mut from = from.take(wanted as u64);
    while bytes.len() < wanted && from.read_buf(&mut bytes).await? > 0 {}
    Ok(bytes.freeze())
}
