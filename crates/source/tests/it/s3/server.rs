//! An S3 server in this process: buckets are folders, requests are signed. It can cut and stall downloads.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use assay_source::{S3Options, Sources};
use assay_testkit::S3Server;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, EncodingType,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output,
    PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

pub(crate) struct InProcessS3 {
    server: S3Server,
    behaviour: Arc<S3Behaviour>,
}

/// Misbehaviour, and counts of requests.
#[derive(Default)]
struct S3Behaviour {
    /// Downloads to cut in the middle.
    cuts: AtomicUsize,
    /// Downloads to stall in the middle, with the connection open.
    stalls: AtomicUsize,
    /// Whether downloads and parts of uploads are rejected, as by a busy server.
    is_busy: AtomicBool,
    /// Whether objects have no ETags.
    without_tags: bool,
    /// Whether listings are cut without a token.
    cuts_listings: AtomicBool,
    /// Whether ranges and conditions are ignored.
    is_simple: bool,
    gets: AtomicUsize,
    aborts: AtomicUsize,
}

impl InProcessS3 {
    pub(crate) async fn start() -> Self {
        Self::with(S3Behaviour::default()).await
    }

    /// A server without ETags.
    pub(crate) async fn without_tags() -> Self {
        Self::with(S3Behaviour { without_tags: true, ..S3Behaviour::default() }).await
    }

    /// A server without ranges and conditions.
    pub(crate) async fn simple() -> Self {
        Self::with(S3Behaviour { is_simple: true, ..S3Behaviour::default() }).await
    }

    async fn with(behaviour: S3Behaviour) -> Self {
        let behaviour = Arc::new(behaviour);
        let of_server = Arc::clone(&behaviour);
        let server = S3Server::serving(|files, buckets| ServedObjects { files, buckets, behaviour: of_server }).await;
        Self { server, behaviour }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Puts an object and its bucket; returns its URL.
    pub(crate) fn put(&self, bucket: &str, key: &str, content: impl AsRef<[u8]>) -> String {
        let url = self.server.put(bucket, key, content);
        // HTTP dates have whole seconds, as on real servers.
        let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        std::fs::File::options()
            .append(true)
            .open(self.server.file(bucket, key))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        url
    }

    /// Renames an object, replacing another.
    pub(crate) fn rename(&self, bucket: &str, from: &str, to: &str) {
        std::fs::rename(self.server.file(bucket, from), self.server.file(bucket, to)).unwrap();
    }

    /// Cuts the next downloads in the middle.
    pub(crate) fn cut(&self, downloads: usize) {
        self.behaviour.cuts.store(downloads, Ordering::SeqCst);
    }

    /// Stalls the next downloads in the middle, with the connection open.
    pub(crate) fn stall(&self, downloads: usize) {
        self.behaviour.stalls.store(downloads, Ordering::SeqCst);
    }

    /// Rejects downloads, or serves them again.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.behaviour.is_busy.store(is_busy, Ordering::SeqCst);
    }

    /// Cuts all listings.
    pub(crate) fn cut_listings(&self) {
        self.behaviour.cuts_listings.store(true, Ordering::SeqCst);
    }

    /// Number of downloads.
    pub(crate) fn gets(&self) -> usize {
        self.behaviour.gets.load(Ordering::SeqCst)
    }

    /// Number of aborted uploads.
    pub(crate) fn aborts(&self) -> usize {
        self.behaviour.aborts.load(Ordering::SeqCst)
    }

    /// Sources on this server, with this secret.
    pub(crate) fn sources(&self, secret: &str) -> Sources {
        sources(&self.endpoint(), S3Server::KEY, secret)
    }

    /// Sources on this server, with this timeout.
    pub(crate) fn sources_within(&self, source_timeout: Duration) -> Sources {
        Sources::new(&S3Options { source_timeout, ..options(&self.endpoint(), S3Server::KEY, S3Server::SECRET) })
            .unwrap()
    }
}

pub(crate) fn sources(endpoint: &str, key: &str, secret: &str) -> Sources {
    Sources::new(&options(endpoint, key, secret)).unwrap()
}

fn options(endpoint: &str, key: &str, secret: &str) -> S3Options {
    S3Options {
        key: Some(key.into()),
        secret: Some(secret.into()),
        endpoint_url: Some(endpoint.into()),
        ..S3Options::default()
    }
}

/// Objects of a folder, with what `s3s-fs` lacks: conditions on GET, missing buckets, and encoded keys in listings.
struct ServedObjects {
    files: FileSystem,
    buckets: PathBuf,
    behaviour: Arc<S3Behaviour>,
}

impl ServedObjects {
    fn expect_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.buckets.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

#[async_trait::async_trait]
impl S3 for ServedObjects {
    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let mut response = self.files.head_object(request).await?;
        if self.behaviour.without_tags {
            response.output.e_tag = None;
        }
        Ok(response)
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.files.create_bucket(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.expect_bucket(&request.input.bucket)?;
        self.files.put_object(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.expect_bucket(&request.input.bucket)?;
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        if self.behaviour.is_busy.load(Ordering::SeqCst) {
            return Err(s3_error!(AccessDenied));
        }
        self.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.files.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.behaviour.aborts.fetch_add(1, Ordering::SeqCst);
        self.files.abort_multipart_upload(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let is_encoded = request.input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        let mut response = self.files.list_objects_v2(request).await?;
        if is_encoded {
            response.output.encoding_type = Some(EncodingType::from_static(EncodingType::URL));
            for object in response.output.contents.iter_mut().flatten() {
                let key = object.key.take().unwrap_or_default();
                object.key = Some(url::form_urlencoded::byte_serialize(key.as_bytes()).collect());
            }
        }
        if self.behaviour.cuts_listings.load(Ordering::SeqCst) {
            response.output.is_truncated = Some(true);
            response.output.next_continuation_token = None;
        }
        Ok(response)
    }

    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.behaviour.gets.fetch_add(1, Ordering::SeqCst);
        if self.behaviour.is_busy.load(Ordering::SeqCst) {
            return Err(s3_error!(SlowDown));
        }
        if self.behaviour.is_simple {
            request.input.range = None;
            request.input.if_match = None;
        }
        let wanted = request.input.if_match.as_ref().and_then(|condition| condition.as_etag()).cloned();
        let unmodified_since = request.input.if_unmodified_since.clone();
        self.expect_bucket(&request.input.bucket)?;
        let mut response = self.files.get_object(request).await?;
        let output = &mut response.output;
        let is_other =
            wanted.is_some_and(|wanted| output.e_tag.as_ref().is_some_and(|found| !wanted.strong_cmp(found)));
        let is_newer =
            unmodified_since.is_some_and(|since| output.last_modified.as_ref().is_some_and(|at| *at > since));
        if is_other || is_newer {
            return Err(s3_error!(PreconditionFailed));
        }
        if self.behaviour.without_tags {
            output.e_tag = None;
        }
        let half = usize::try_from(output.content_length.unwrap_or_default()).unwrap() / 2;
        let is_counted = |counter: &AtomicUsize| {
            counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        if is_counted(&self.behaviour.cuts) {
            output.body = output.body.take().map(|body| cut_at(body, half));
        } else if is_counted(&self.behaviour.stalls) {
            output.body = output.body.take().map(|body| stalled_at(body, half));
        }
        Ok(response)
    }
}

/// A body that breaks after some bytes, so that the server closes the connection.
fn cut_at(body: StreamingBlob, left: usize) -> StreamingBlob {
    let broken = stream::once(std::future::ready(Err(std::io::Error::other("cut"))));
    StreamingBlob::wrap(first_bytes(body, left).chain(broken))
}

/// A body that stalls after some bytes.
fn stalled_at(body: StreamingBlob, left: usize) -> StreamingBlob {
    StreamingBlob::wrap(first_bytes(body, left).chain(stream::pending()))
}

fn first_bytes(
    body: StreamingBlob,
    mut left: usize,
) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync {
    body.map_err(std::io::Error::other).scan((), move |(), piece: Result<Bytes, std::io::Error>| {
        let piece = piece.map(|bytes| bytes.slice(..bytes.len().min(left)));
        left -= piece.as_ref().map_or(0, Bytes::len);
        std::future::ready(Some(piece).filter(|piece| piece.as_ref().map_or(true, |bytes| !bytes.is_empty())))
    })
}
