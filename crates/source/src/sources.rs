//! All sources behind one door: which version is there, and a stream of the bytes of that version.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;

use assay_transaction::SourceIdentity;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryFutureExt as _};
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;

use crate::options::S3Settings;
use crate::s3::Objects;
use crate::{Listed, S3Options, SourceError, SourceUrl, file};

/// The bytes of a source. Its errors are [`SourceError`]s inside of [`std::io::Error`]s, which `From` finds again.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// A source as it is found now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which version of which object or file.
    pub identity: SourceIdentity,
    /// How many bytes it has.
    pub size: u64,
}

/// Opens sources. S3 is connected to when the first object is asked for, so that local files need none of its settings.
pub struct Sources {
    settings: S3Settings,
    objects: OnceCell<Objects>,
}

/// Only whether S3 is in use: its settings hold a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("s3", &self.objects.initialized()).finish_non_exhaustive()
    }
}

// The futures of S3 are boxed, as the compiler gives up on what is made of so many layers.
impl Sources {
    /// Checks the settings; asks nothing of anybody yet.
    pub fn new(options: &S3Options) -> Result<Self, SourceError> {
        Ok(Self { settings: options.settle()?, objects: OnceCell::new() })
    }

    /// Which version of a source is there.
    pub async fn identify(&self, url: &SourceUrl) -> Result<Found, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.objects().await?.identify(bucket, key)).await,
            SourceUrl::File(path) => file::identify(path).await,
        }
    }

    /// Streams the bytes of that version from an offset on. S3 is waited for as long as `SOURCE_TIMEOUT` where it is away, at
    /// the start and later. A source that is replaced in the meantime ends in
    /// [`SourceError::Replaced`], here or in the stream, and never in a mixture of both.
    pub async fn open(&self, url: &SourceUrl, identity: &SourceIdentity, from: u64) -> Result<ByteStream, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.objects().await?.open(bucket, key, identity, from)).await,
            SourceUrl::File(_) => file::open(identity, from).await,
        }
    }

    /// Reads exactly a range of that version, none of it where the source ends before. Fails as [`Sources::open`] does where
    /// the source was replaced.
    pub async fn read_at(
        &self,
        url: &SourceUrl,
        identity: &SourceIdentity,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => {
                Box::pin(self.objects().await?.read_at(bucket, key, identity, range)).await
            }
            SourceUrl::File(_) => file::read_at(identity, range).await,
        }
    }

    /// Every object of a bucket under a prefix, in the order of their keys.
    pub fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, SourceError>> {
        let objects = async move { Ok(self.objects().await?.list(bucket, prefix)) };
        objects.try_flatten_stream().boxed()
    }

    pub(crate) async fn objects(&self) -> Result<&Objects, SourceError> {
        self.objects.get_or_try_init(|| Box::pin(Objects::connect(&self.settings))).await
    }
}
