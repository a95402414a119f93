//! The S3 client: path-style addresses, and the current version of an object.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use assay_aws::Transport;
use assay_connect::{AddressForm, ExposeSecret as _};
use assay_transaction::SourceIdentity;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::DateTime;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio_util::io::StreamReader;

use crate::options::S3Settings;
use crate::s3::download::{Download, ObjectVersion};
use crate::s3::error::RequestTarget;
use crate::s3::read_ahead::ReadAhead;
use crate::{ByteStream, FoundSource, SourceError, SourceUrl};

/// The region of servers without regions.
const DEFAULT_REGION: &str = "us-east-1";

/// The SDK's own setting for a server address, used if ours is not set.
const OF_AWS: AddressForm = AddressForm {
    name: "AWS_ENDPOINT_URL",
    schemes: &["http", "https"],
    of: "an S3 server",
    example: "http://minio:9000",
};

/// A client of one S3 server.
#[derive(Debug, Clone)]
pub(crate) struct S3Client {
    /// Retries a request a few times.
    pub(crate) client: Client,
    /// Sends a request once, for callers with their own retry.
    pub(crate) without_retry: Client,
    /// How long a read is retried without progress.
    pub(crate) timeout: Duration,
    endpoint: String,
    /// The region, if this is AWS.
    aws_region: Option<String>,
}

impl S3Client {
    /// Makes a client; sends nothing yet.
    pub(crate) async fn connect(settings: &S3Settings) -> Result<Self, SourceError> {
        let config = sdk_config(settings).await;
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            SourceError::Setting(
                "no region for S3: set AWS_REGION, or ENDPOINT_URL for a server of your own".to_owned(),
            )
        })?;
        let endpoint = match (&settings.endpoint, config.endpoint_url()) {
            (Some(endpoint), _) => Some(endpoint.clone()),
            (None, Some(endpoint)) => Some(crate::options::endpoint(&OF_AWS, endpoint)?),
            (None, None) => None,
        };
        let mut client = aws_sdk_s3::config::Builder::from(&config)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // Downloads have their own timeout; a stage that waits for the next one must not break them.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .force_path_style(endpoint.is_some());
        if let Some((key, secret)) = &settings.credentials {
            let (key, secret) = (key.expose_secret(), secret.expose_secret());
            client = client.credentials_provider(Credentials::new(key, secret, None, None, "KEY and SECRET"));
        }
        if let Some(endpoint) = &endpoint {
            client = client.endpoint_url(endpoint);
        }
        let client = client.build();
        Ok(Self {
            without_retry: Client::from_conf(client.to_builder().retry_config(RetryConfig::disabled()).build()),
            client: Client::from_conf(client),
            timeout: settings.timeout,
            aws_region: endpoint.is_none().then(|| region.clone()),
            endpoint: endpoint.unwrap_or_else(|| format!("AWS, region {region}")),
        })
    }

    /// Finds an object. Its version is the ETag, otherwise size and modification time.
    pub(crate) async fn identify(&self, bucket: &str, key: &str) -> Result<FoundSource, SourceError> {
        let location = SourceUrl::S3 { bucket: bucket.to_owned(), key: key.to_owned() }.to_string();
        let target = self.target(bucket, &location);
        let head = match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(head) => head,
            // The response to a HEAD has no body that explains the error.
            Err(error) if error.as_service_error().is_some() => {
                return Err(self.explain_head_error(target, key, &error).await);
            }
            Err(error) => return Err(target.error(&error)),
        };
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| target.refused("without a Content-Length"))?;
        let version = match (head.e_tag(), head.last_modified()) {
            (Some(tag), _) => unquoted_tag(tag),
            (None, Some(modified)) => unnamed_version(size, modified),
            (None, None) => return Err(target.refused("with neither an ETag nor a Last-Modified")),
        };
        Ok(FoundSource { identity: SourceIdentity { location, version }, size })
    }

    /// Requests the first byte: that response explains the error.
    async fn explain_head_error<E>(
        &self,
        target: RequestTarget<'_>,
        key: &str,
        head: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
    ) -> SourceError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        match self.client.get_object().bucket(target.bucket).key(key).range("bytes=0-0").send().await {
            Ok(_) => target.error(head),
            Err(error) => target.error(&error),
        }
    }

    /// Streams one version of an object from an offset.
    pub(crate) async fn open(
        &self,
        bucket: &str,
        key: &str,
        identity: &SourceIdentity,
        from: u64,
    ) -> Result<ByteStream, SourceError> {
        let ahead = ReadAhead::open(self.version(bucket, key, identity), from).await?;
        let pieces = stream::try_unfold(ahead, |mut ahead| async {
            let piece = ahead.next().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(piece.map(|piece| (piece, ahead)))
        });
        Ok(Box::pin(StreamReader::new(Box::pin(pieces))))
    }

    /// Reads a range of one version completely.
    pub(crate) async fn read_at(
        &self,
        bucket: &str,
        key: &str,
        identity: &SourceIdentity,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut download = Download::new(self.version(bucket, key, identity), range);
        let mut read = BytesMut::with_capacity(wanted);
        while let Some(piece) = download.next().await? {
            read.extend_from_slice(&piece);
        }
        if read.len() < wanted {
            return Err(SourceError::ends_before_range(&identity.location));
        }
        Ok(read.freeze())
    }

    fn version(&self, bucket: &str, key: &str, identity: &SourceIdentity) -> Arc<ObjectVersion> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Arc::new(ObjectVersion { s3: self.clone(), bucket, key, identity: identity.clone() })
    }

    /// Where it is, for a person.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region, if this is AWS.
    pub(crate) fn aws_region(&self) -> Option<&str> {
        self.aws_region.as_deref()
    }

    pub(crate) fn target<'a>(&'a self, bucket: &'a str, location: &'a str) -> RequestTarget<'a> {
        RequestTarget { endpoint: &self.endpoint, is_aws: self.aws_region.is_some(), bucket, location }
    }
}

/// The SDK's configuration from environment and AWS profiles.
pub(crate) async fn sdk_config(settings: &S3Settings) -> SdkConfig {
    let authorities = settings.authorities.as_deref();
    let loader = assay_aws::config(if settings.is_plain() { Transport::Plain } else { Transport::Tls { authorities } });
    if settings.endpoint.is_none() {
        return loader.load().await;
    }
    // Without instance metadata: a custom server is rarely used from an AWS instance, and elsewhere the request takes
    // seconds.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(DEFAULT_REGION));
    loader.region(region).load().await
}

/// An ETag without its quotes.
pub(crate) fn unquoted_tag(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// The version of an object without an ETag.
fn unnamed_version(size: u64, modified: &DateTime) -> String {
    format!("size={size} modified={}", modified.secs())
}

/// The modification time in the version of an object without an ETag.
pub(crate) fn modified_in(version: &str) -> Option<DateTime> {
    let (_, modified) = version.strip_prefix("size=")?.split_once(" modified=")?;
    modified.parse().ok().map(DateTime::from_secs)
}
