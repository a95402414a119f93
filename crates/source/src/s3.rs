//! Objects in S3 and in servers that speak like it: path-style addresses, ranged reads of one version.

use std::io;
use std::time::Duration;

use assay_transaction::SourceIdentity;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream as Body, DateTime};
use aws_smithy_http_client::tls;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures_util::stream;
use tokio_util::io::StreamReader;
use tracing::warn;

use crate::error::io_cause;
use crate::options::S3Settings;
use crate::s3_error::{Asked, root_cause};
use crate::{ByteStream, Found, Listed, SourceError, SourceUrl};

/// The region of servers that know none.
const DEFAULT_REGION: &str = "us-east-1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start of an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the next bytes of one may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a download is taken up again without one byte of progress.
const MAX_TRIES: usize = 6;

/// A client of one S3.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    client: Client,
    endpoint: String,
    is_aws: bool,
}

impl Objects {
    /// Makes a client. It asks nothing of S3 yet.
    pub(crate) async fn connect(settings: &S3Settings) -> Result<Self, SourceError> {
        let config = sdk_config(settings).await;
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            SourceError::Setting(
                "no region for S3: set AWS_REGION, or ENDPOINT_URL for a server of your own".to_owned(),
            )
        })?;
        let endpoint = settings.endpoint.as_deref().or(config.endpoint_url());
        let mut client = aws_sdk_s3::config::Builder::from(&config)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // Downloads have their own timeout; a stage that waits for the next one must not break them.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .force_path_style(endpoint.is_some());
        if let Some((key, secret)) = &settings.credentials {
            client = client.credentials_provider(Credentials::new(key, secret, None, None, "KEY and SECRET"));
        }
        if let Some(endpoint) = endpoint {
            client = client.endpoint_url(endpoint);
        }
        Ok(Self {
            client: Client::from_conf(client.build()),
            is_aws: endpoint.is_none(),
            endpoint: endpoint.map_or_else(|| format!("AWS, region {region}"), str::to_owned),
        })
    }

    /// Finds an object: its ETag, or where it has none its size and modification time.
    pub(crate) async fn identify(&self, bucket: &str, key: &str) -> Result<Found, SourceError> {
        let location = SourceUrl::S3 { bucket: bucket.to_owned(), key: key.to_owned() }.to_string();
        let asked = self.asked(bucket, &location);
        let head = match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(head) => head,
            // The answer to a HEAD has no body to say why.
            Err(error) if error.as_service_error().is_some() => return Err(self.why(asked, key, &error).await),
            Err(error) => return Err(asked.error(&error)),
        };
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| asked.refused("without a Content-Length"))?;
        let version = match (head.e_tag(), head.last_modified()) {
            (Some(tag), _) => tag.trim_matches('"').to_owned(),
            (None, Some(modified)) => unnamed_version(size, modified),
            (None, None) => return Err(asked.refused("with neither an ETag nor a Last-Modified")),
        };
        Ok(Found { identity: SourceIdentity { location, version }, size })
    }

    /// Asks for the first byte, as that answer says why it is refused.
    async fn why<E>(
        &self,
        asked: Asked<'_>,
        key: &str,
        head: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
    ) -> SourceError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        match self.client.get_object().bucket(asked.bucket).key(key).range("bytes=0-0").send().await {
            Ok(_) => asked.error(head),
            Err(error) => asked.error(&error),
        }
    }

    /// Streams an object of one version from an offset on.
    pub(crate) async fn open(
        &self,
        bucket: &str,
        key: &str,
        identity: &SourceIdentity,
        from: u64,
    ) -> Result<ByteStream, SourceError> {
        let mut download = Download {
            objects: self.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            identity: identity.clone(),
            offset: from,
            end: None,
            body: None,
            backoff: backoff(),
        };
        download.ask().await?;
        let chunks = stream::try_unfold(download, |mut download| async {
            let chunk = download.next().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, download)))
        });
        Ok(Box::pin(StreamReader::new(Box::pin(chunks))))
    }

    /// One page of a listing, and the token of the next one, if there is one.
    pub(crate) async fn list_page(
        &self,
        bucket: &str,
        prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<Listed>, Option<String>), SourceError> {
        let location = format!("s3://{bucket}/{prefix}");
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix).set_continuation_token(token);
        let page = request.send().await.map_err(|error| self.asked(bucket, &location).error(&error))?;
        let listed = page.contents().iter().filter_map(|object| {
            let url = SourceUrl::S3 { bucket: bucket.to_owned(), key: object.key()?.to_owned() };
            let version = object.e_tag().map(|tag| tag.trim_matches('"').to_owned());
            let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            Some(Listed { url, version, size })
        });
        let listed = listed.collect();
        let next = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true));
        Ok((listed, next.map(str::to_owned)))
    }

    fn asked<'a>(&'a self, bucket: &'a str, location: &'a str) -> Asked<'a> {
        Asked { endpoint: &self.endpoint, is_aws: self.is_aws, bucket, location }
    }
}

/// What the environment and the AWS profiles say, on the one HTTP and TLS stack of the workspace.
pub(crate) async fn sdk_config(settings: &S3Settings) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ANSWER_TIMEOUT).build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard());
    if settings.endpoint.is_none() {
        return loader.load().await;
    }
    // Without the instance's own metadata: a server of one's own is rarely asked from an AWS instance, and where there
    // is none, asking takes seconds.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(DEFAULT_REGION));
    loader.region(region).load().await
}

/// The version of an object without an ETag.
fn unnamed_version(size: u64, modified: &DateTime) -> String {
    format!("size={size} modified={}", modified.secs())
}

/// The modification time in a version, where it is of an object without an ETag.
fn modified_in(version: &str) -> Option<DateTime> {
    let (_, modified) = version.strip_prefix("size=")?.split_once(" modified=")?;
    modified.parse().ok().map(DateTime::from_secs)
}

fn backoff() -> ExponentialBackoff {
    let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(200));
    delays.with_max_delay(Duration::from_secs(10)).with_max_times(MAX_TRIES - 1).with_jitter().build()
}

/// One object on its way, taken up again from the byte it stopped at whenever it breaks.
struct Download {
    objects: Objects,
    bucket: String,
    key: String,
    identity: SourceIdentity,
    /// The next byte.
    offset: u64,
    /// How many bytes the object has, once an answer has said so.
    end: Option<u64>,
    body: Option<Body>,
    /// The pauses that are left before it is given up.
    backoff: ExponentialBackoff,
}

impl Download {
    /// The next bytes, none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let cause = match self.read().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.backoff = backoff();
                    return Ok(Some(bytes));
                }
                Ok(None) if self.end.is_none_or(|end| self.offset >= end) => return Ok(None),
                Ok(None) => "the connection was closed".to_owned(),
                Err(Interruption::Transient(cause)) => cause,
                Err(Interruption::Final(error)) => return Err(error),
            };
            self.body = None;
            let location = &self.identity.location;
            let Some(pause) = self.backoff.next() else {
                return Err(SourceError::Broken { location: location.clone(), offset: self.offset, cause });
            };
            warn!("reading {location} broke off at byte {} ({cause}), going on in {pause:.1?}", self.offset);
            tokio::time::sleep(pause).await;
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Interruption> {
        if self.end.is_some_and(|end| self.offset >= end) {
            return Ok(None);
        }
        if self.body.is_none() {
            self.ask().await?;
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        match tokio::time::timeout(READ_TIMEOUT, body.try_next()).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Interruption::Transient(root_cause(&error))),
            Err(_) => Err(Interruption::Transient(io_cause(&io::ErrorKind::TimedOut.into()))),
        }
    }

    /// Asks for the rest of the object, if it is still the same.
    async fn ask(&mut self) -> Result<(), SourceError> {
        let asked = self.objects.asked(&self.bucket, &self.identity.location);
        let mut request = self.objects.client.get_object().bucket(&self.bucket).key(&self.key);
        request = match modified_in(&self.identity.version) {
            Some(modified) => request.if_unmodified_since(modified),
            None => request.if_match(format!("\"{}\"", self.identity.version)),
        };
        if self.offset > 0 {
            request = request.range(format!("bytes={}-", self.offset));
        }
        match request.send().await {
            Ok(answer) => {
                let end = self.check(asked, &answer)?;
                self.end = Some(end);
                self.body = Some(answer.body);
                Ok(())
            }
            // There is nothing behind the last byte.
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 416) => {
                self.end = Some(self.offset);
                Ok(())
            }
            Err(error) => Err(asked.error(&error)),
        }
    }

    /// Whether an answer has what was asked for, whatever the server makes of conditions and ranges; tells the object's
    /// size.
    fn check(&self, asked: Asked<'_>, answer: &GetObjectOutput) -> Result<u64, SourceError> {
        let is_other = |tag: &str| tag.trim_matches('"') != self.identity.version;
        if modified_in(&self.identity.version).is_none() && answer.e_tag().is_some_and(is_other) {
            return Err(SourceError::Replaced { location: self.identity.location.clone() });
        }
        if self.offset > 0 {
            let from = answer.content_range().and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
            if from.and_then(|(from, _)| from.parse().ok()) != Some(self.offset) {
                return Err(asked.refused("without the range that was asked for"));
            }
        }
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.map(|length| self.offset + length).ok_or_else(|| asked.refused("without a Content-Length"))
    }
}

/// Why a download stopped.
enum Interruption {
    /// It may well go on a little later.
    Transient(String),
    /// It will not.
    Final(SourceError),
}

impl From<SourceError> for Interruption {
    fn from(error: SourceError) -> Self {
        if error.is_transient() { Self::Transient(error.to_string()) } else { Self::Final(error) }
    }
}
