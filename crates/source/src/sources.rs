//! All sources behind one door: which version is there, and a stream of the bytes of that version.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use assay_transaction::{Compression, Format, Position, ReadingRules, RunSettings, SourceIdentity};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryFutureExt as _};
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;

use crate::decode::compression::{CountingStream, Packing};
#[cfg(feature = "parquet")]
use crate::decode::parquet::ParquetReader;
use crate::decode::row_reader::start_offset;
use crate::decode::{compression, zip};
use crate::detect::head::Head;
use crate::detect::inspect::inspect_head;
use crate::fingerprint::fingerprint;
use crate::local::file;
use crate::local::pipe::PipeSpool;
use crate::options::S3Settings;
use crate::s3::S3Client;
use crate::{FormatOptions, Inspected, Listed, RowReader, S3Options, SourceError, SourceUrl};

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

/// What a build without it says of Parquet.
#[cfg(not(feature = "parquet"))]
const NO_PARQUET: SourceError = SourceError::FeatureMissing { what: "Parquet", feature: "parquet" };

/// Opens sources; cheap to clone. S3 is connected to when the first object is asked for, so that local files need none of its
/// settings.
#[derive(Clone)]
pub struct Sources {
    settings: S3Settings,
    s3: Arc<OnceCell<S3Client>>,
    pipes: Arc<PipeSpool>,
}

/// Only whether S3 is in use: its settings hold a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("s3", &self.s3.initialized()).finish_non_exhaustive()
    }
}

// The futures of S3 are boxed, as the compiler gives up on what is made of so many layers.
impl Sources {
    /// Checks the settings; asks nothing of anybody yet.
    pub fn new(options: &S3Options) -> Result<Self, SourceError> {
        Ok(Self { settings: options.settle()?, s3: Arc::default(), pipes: Arc::default() })
    }

    /// Which version of a source is there. What comes through a pipe is read to its end, and kept until the last clone is gone.
    pub async fn identify(&self, url: &SourceUrl) -> Result<Found, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.s3().await?.identify(bucket, key)).await,
            SourceUrl::File(path) if !file::is_pipe(path).await => file::identify(path).await,
            SourceUrl::File(_) | SourceUrl::Descriptor(_) => self.pipes.identify(url).await,
        }
    }

    /// What tells that another source holds the very same bytes: a hash of all of them, or what S3 says instead. None where an
    /// object has no ETag that does. A large file takes its time, as all of it is read.
    pub async fn fingerprint(&self, url: &SourceUrl, found: &Found) -> Result<Option<String>, SourceError> {
        fingerprint(url, found).await
    }

    /// Reads the head of that version, and settles how the source is to be read.
    pub async fn inspect(
        &self,
        url: &SourceUrl,
        found: &Found,
        options: &FormatOptions,
    ) -> Result<Inspected, SourceError> {
        let options = &options.located(&found.identity.location)?;
        let taken = Arc::default();
        let stream = CountingStream::new(self.open(url, &found.identity, 0).await?, &taken);
        let (compression, mut stream) = compression::detect(Box::pin(stream)).await?;
        let packing = self.packing(url, found, compression).await?;
        if packing.start() > 0 {
            stream = Box::pin(CountingStream::new(self.open(url, &found.identity, packing.start()).await?, &taken));
        }
        let mut stream = compression::unpack(stream, packing);
        let head = Head::read(&mut stream, options).await?;
        if let Some(format) = head.other_format(options.format.is_some()) {
            return Err(format.error(compression));
        }
        let is_parquet = options.format.map_or_else(|| head.is_parquet(), |format| format == Format::Parquet);
        if is_parquet && compression.is_none() {
            return self.inspect_parquet(url, found, options).await;
        }
        if is_parquet {
            return Err(SourceError::CompressedParquet(compression.name()));
        }
        let mut inspected = Box::pin(inspect_head(&head, options)).await?;
        inspected.layout.compression = compression;
        if !compression.is_none() || inspected.layout.dialect.encoding.is_transcoded() {
            let taken = u128::from(taken.load(Ordering::Relaxed));
            let share = u128::from(inspected.sample_bytes) * taken / u128::from(head.len().max(1));
            inspected.sample_bytes = u64::try_from(share).unwrap_or(u64::MAX);
        }
        Ok(inspected)
    }

    /// Reads the rows of that version as a run has frozen it, from a place between two rows on.
    pub async fn rows(
        &self,
        url: &SourceUrl,
        found: &Found,
        settings: &RunSettings,
        from: Position,
    ) -> Result<RowReader, SourceError> {
        if settings.format == Format::Parquet {
            return self.parquet(url, found, settings.reading, from).await;
        }
        let packing = self.packing(url, found, settings.compression).await?;
        let offset = start_offset(settings, from).max(packing.start());
        Ok(RowReader::text(self.open(url, &found.identity, offset).await?, packing, settings, from))
    }

    /// What it takes to unpack that version.
    async fn packing(&self, url: &SourceUrl, found: &Found, compression: Compression) -> Result<Packing, SourceError> {
        Ok(match compression {
            Compression::None => Packing::None,
            Compression::Gzip => Packing::Gzip,
            Compression::Zstd => Packing::Zstd,
            Compression::Zip => Packing::Zip(zip::find_member(self, url, found).await?),
        })
    }

    #[cfg(feature = "parquet")]
    async fn inspect_parquet(
        &self,
        url: &SourceUrl,
        found: &Found,
        options: &FormatOptions,
    ) -> Result<Inspected, SourceError> {
        let reader = ParquetReader::open(self, url, found, options.rules(), Position::START).await?;
        crate::detect::inspect::inspect_parquet(reader, options).await
    }

    #[cfg(not(feature = "parquet"))]
    async fn inspect_parquet(&self, _: &SourceUrl, _: &Found, _: &FormatOptions) -> Result<Inspected, SourceError> {
        Err(NO_PARQUET)
    }

    #[cfg(feature = "parquet")]
    async fn parquet(
        &self,
        url: &SourceUrl,
        found: &Found,
        rules: ReadingRules,
        from: Position,
    ) -> Result<RowReader, SourceError> {
        Ok(ParquetReader::open(self, url, found, rules, from).await?.into())
    }

    #[cfg(not(feature = "parquet"))]
    async fn parquet(&self, _: &SourceUrl, _: &Found, _: ReadingRules, _: Position) -> Result<RowReader, SourceError> {
        Err(NO_PARQUET)
    }

    /// Streams the bytes of that version from an offset on. S3 is waited for as long as `SOURCE_TIMEOUT` where it is away, at
    /// the start and later. A source that is replaced in the meantime ends in
    /// [`SourceError::Replaced`], here or in the stream, and never in a mixture of both.
    pub async fn open(&self, url: &SourceUrl, identity: &SourceIdentity, from: u64) -> Result<ByteStream, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.s3().await?.open(bucket, key, identity, from)).await,
            _ if identity.piped_sha256().is_some() => self.pipes.open(url, identity, from).await,
            SourceUrl::File(_) | SourceUrl::Descriptor(_) => file::open(identity, from).await,
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
            SourceUrl::S3 { bucket, key } => Box::pin(self.s3().await?.read_at(bucket, key, identity, range)).await,
            _ if identity.piped_sha256().is_some() => self.pipes.read_at(url, identity, range).await,
            SourceUrl::File(_) | SourceUrl::Descriptor(_) => file::read_at(identity, range).await,
        }
    }

    /// Every object of a bucket under a prefix, in the order of their keys.
    pub fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, SourceError>> {
        let s3 = async move { Ok(self.s3().await?.list(bucket, prefix)) };
        s3.try_flatten_stream().boxed()
    }

    pub(crate) async fn s3(&self) -> Result<&S3Client, SourceError> {
        self.s3.get_or_try_init(|| Box::pin(S3Client::connect(&self.settings))).await
    }
}
