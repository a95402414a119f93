//! The entry to all sources: find the version that is there, and stream its bytes or its rows.

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
use crate::{FormatOptions, Inspection, ListedObject, RowReader, S3Options, SourceError, SourceUrl};

/// The bytes of a source. Its errors are [`SourceError`]s inside [`std::io::Error`]s; `From` unwraps them.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// A source as found now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSource {
    /// The object or file, and its version.
    pub identity: SourceIdentity,
    /// Its size in bytes.
    pub size: u64,
}

/// The error of a build without Parquet.
#[cfg(not(feature = "parquet"))]
const NO_PARQUET: SourceError = SourceError::FeatureMissing { what: "Parquet", feature: "parquet" };

/// Opens sources; cheap to clone. It connects to S3 only when an object is requested, so local files need none of the
/// S3 settings.
#[derive(Clone)]
pub struct Sources {
    settings: S3Settings,
    s3: Arc<OnceCell<S3Client>>,
    pipes: Arc<PipeSpool>,
}

/// Shows only whether S3 is in use: the settings hold a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("s3", &self.s3.initialized()).finish_non_exhaustive()
    }
}

// Futures of S3 are boxed: the compiler gives up on that many nested layers.
impl Sources {
    /// Checks the settings; connects to nothing yet.
    pub fn new(options: &S3Options) -> Result<Self, SourceError> {
        Ok(Self { settings: options.settle()?, s3: Arc::default(), pipes: Arc::default() })
    }

    /// Finds the current version of a source. A pipe is read to its end and kept until the last clone is dropped.
    pub async fn identify(&self, url: &SourceUrl) -> Result<FoundSource, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.s3().await?.identify(bucket, key)).await,
            SourceUrl::File(path) if !file::is_pipe(path).await => file::identify(path).await,
            SourceUrl::File(_) | SourceUrl::Descriptor(_) => self.pipes.identify(url).await,
        }
    }

    /// A hash that is equal for copies: of all bytes, or the ETag that S3 keeps. None if the object's ETag is not a
    /// hash. Reads a whole file, which takes a while if it is large.
    pub async fn fingerprint(&self, url: &SourceUrl, found: &FoundSource) -> Result<Option<String>, SourceError> {
        fingerprint(url, found).await
    }

    /// Reads the head of that version and detects its layout.
    pub async fn inspect(
        &self,
        url: &SourceUrl,
        found: &FoundSource,
        options: &FormatOptions,
    ) -> Result<Inspection, SourceError> {
        let options = &options.located(&found.identity.location)?;
        let bytes_read = Arc::default();
        let stream = CountingStream::new(self.open(url, &found.identity, 0).await?, &bytes_read);
        let (compression, mut stream) = compression::detect(Box::pin(stream)).await?;
        let packing = self.packing(url, found, compression).await?;
        if packing.start() > 0 {
            stream =
                Box::pin(CountingStream::new(self.open(url, &found.identity, packing.start()).await?, &bytes_read));
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
            let bytes_read = u128::from(bytes_read.load(Ordering::Relaxed));
            let share = u128::from(inspected.sample_bytes) * bytes_read / u128::from(head.len().max(1));
            inspected.sample_bytes = u64::try_from(share).unwrap_or(u64::MAX);
        }
        Ok(inspected)
    }

    /// Reads the rows of that version with a run's frozen settings, from a position between two rows.
    pub async fn rows(
        &self,
        url: &SourceUrl,
        found: &FoundSource,
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

    /// How to unpack that version.
    async fn packing(
        &self,
        url: &SourceUrl,
        found: &FoundSource,
        compression: Compression,
    ) -> Result<Packing, SourceError> {
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
        found: &FoundSource,
        options: &FormatOptions,
    ) -> Result<Inspection, SourceError> {
        let reader = ParquetReader::open(self, url, found, options.rules(), Position::START).await?;
        crate::detect::inspect::inspect_parquet(reader, options).await
    }

    #[cfg(not(feature = "parquet"))]
    async fn inspect_parquet(
        &self,
        _: &SourceUrl,
        _: &FoundSource,
        _: &FormatOptions,
    ) -> Result<Inspection, SourceError> {
        Err(NO_PARQUET)
    }

    #[cfg(feature = "parquet")]
    async fn parquet(
        &self,
        url: &SourceUrl,
        found: &FoundSource,
        rules: ReadingRules,
        from: Position,
    ) -> Result<RowReader, SourceError> {
        Ok(ParquetReader::open(self, url, found, rules, from).await?.into())
    }

    #[cfg(not(feature = "parquet"))]
    async fn parquet(
        &self,
        _: &SourceUrl,
        _: &FoundSource,
        _: ReadingRules,
        _: Position,
    ) -> Result<RowReader, SourceError> {
        Err(NO_PARQUET)
    }

    /// Streams the bytes of that version from an offset. An unreachable S3 is retried for `SOURCE_TIMEOUT`, at the
    /// start and later. If the source is replaced meanwhile, the call or the stream fails with
    /// [`SourceError::Replaced`]; versions are never mixed.
    pub async fn open(&self, url: &SourceUrl, identity: &SourceIdentity, from: u64) -> Result<ByteStream, SourceError> {
        match url {
            SourceUrl::S3 { bucket, key } => Box::pin(self.s3().await?.open(bucket, key, identity, from)).await,
            _ if identity.piped_sha256().is_some() => self.pipes.open(url, identity, from).await,
            SourceUrl::File(_) | SourceUrl::Descriptor(_) => file::open(identity, from).await,
        }
    }

    /// Reads a range of that version completely, or fails. Fails like [`Sources::open`] if the source was replaced.
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

    /// Lists the objects under a prefix, ordered by key.
    pub fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<ListedObject, SourceError>> {
        let s3 = async move { Ok(self.s3().await?.list(bucket, prefix)) };
        s3.try_flatten_stream().boxed()
    }

    pub(crate) async fn s3(&self) -> Result<&S3Client, SourceError> {
        self.s3.get_or_try_init(|| Box::pin(S3Client::connect(&self.settings))).await
    }
}
