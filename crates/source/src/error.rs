//! Why a source cannot be read. Each error is one line that says what to fix, and has an exit code.

use std::time::Duration;

use assay_connect::SettingError;
use assay_transaction::{Exit, HeaderError, PathError};

use crate::UndecidedFormat;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The text is not the address of a source.
    #[error("`{url}` is not a source ({reason}): SOURCE_URL is s3://bucket/key or the path of a file")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Neither a pattern nor the name of an existing source.
    #[error("invalid pattern `{pattern}` ({cause}): check the argument or SOURCE_URL")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        cause: String,
    },
    /// A pattern, prefix or directory without sources.
    #[error(
        "no source matches {pattern}{}: check the argument or SOURCE_URL",
        if *markers > 0 { format!(" ({markers} skipped, as their names begin with `_` or `.`; name one to read it)") }
        else { String::new() }
    )]
    NothingFound {
        /// As given.
        pattern: String,
        /// Number of markers found.
        markers: u64,
    },
    /// A secret or certificate cannot be read.
    #[error(transparent)]
    Credentials(#[from] SettingError),
    /// A setting is invalid, or another one is missing.
    #[error("{0}")]
    Setting(String),
    /// There are no credentials.
    #[error("no credentials for S3 ({cause}): set KEY and SECRET, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    NoCredentials {
        /// The error of the last credentials provider.
        cause: String,
    },
    /// A local file is missing or unreadable.
    #[error("cannot read {path} ({cause}): check the argument or SOURCE_URL")]
    File {
        /// As given.
        path: String,
        /// The error of the operating system.
        cause: String,
    },
    /// The object does not exist.
    #[error("no object {location}: check the key in SOURCE_URL")]
    NoObject {
        /// Its URL.
        location: String,
    },
    /// The bucket does not exist.
    #[error("no bucket `{bucket}`: check SOURCE_URL and ENDPOINT_URL")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// The credentials are wrong or do not permit reading.
    #[error("access to {location} is denied ({cause}): check KEY and SECRET, and what they may read")]
    Denied {
        /// The URL.
        location: String,
        /// The server's error code.
        cause: String,
    },
    /// The clock of this machine is wrong, or that of the server.
    #[error(
        "access to {location} is denied ({cause}): set the clock of this machine, which differs from that of S3 by more than 15 minutes"
    )]
    Skewed {
        /// The URL.
        location: String,
        /// The server's error code.
        cause: String,
    },
    /// The bucket is in another region.
    #[error("the bucket of {location} is in another region ({cause}): check AWS_REGION")]
    Region {
        /// The URL.
        location: String,
        /// The server's error code.
        cause: String,
    },
    /// Another error response.
    #[error("cannot read {location}: the S3 server answered {cause}")]
    Refused {
        /// The URL.
        location: String,
        /// Status and code.
        cause: String,
    },
    /// The object or bucket cannot be written.
    #[error("cannot write {location} ({cause}): check KEY and SECRET, and what they may write")]
    NotWritten {
        /// The URL.
        location: String,
        /// Status and code.
        cause: String,
    },
    /// The bucket cannot notify any of the targets.
    #[error(
        "bucket `{bucket}` cannot send events to {arns} ({cause}): set up its server's AMQP target, or name another with --arn"
    )]
    NoEventTarget {
        /// The bucket.
        bucket: String,
        /// The targets tried.
        arns: String,
        /// The server's error.
        cause: String,
    },
    /// The upload was stopped.
    #[error("stopped before {location} was uploaded: nothing of it remains")]
    Stopped {
        /// The URL.
        location: String,
    },
    /// No response, or a temporary error.
    #[error("cannot reach S3 at {endpoint} ({cause}): check ENDPOINT_URL{}", if *is_aws { " or AWS_REGION" } else { "" })]
    Unreachable {
        /// The server.
        endpoint: String,
        /// Whether it is AWS: no `ENDPOINT_URL` is set.
        is_aws: bool,
        /// The cause.
        cause: String,
    },
    /// TLS with S3 failed.
    #[error("cannot connect to S3 at {endpoint} by TLS ({cause}): {remedy}")]
    Tls {
        /// The server.
        endpoint: String,
        /// What is wrong.
        cause: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A download made no progress.
    #[error(
        "reading {location} did not get past byte {offset} within SOURCE_TIMEOUT ({timeout:?}; {cause}): try again when S3 is healthy"
    )]
    Stalled {
        /// The URL.
        location: String,
        /// The byte that never arrived.
        offset: u64,
        /// How long it was retried.
        timeout: Duration,
        /// The last cause.
        cause: String,
    },
    /// Another version has replaced the one being read.
    #[error("{location} was replaced while it was read: load it again for its new version")]
    Replaced {
        /// The URL or path.
        location: String,
    },
    /// Compressed data end too early or cannot be decompressed.
    #[error("its {what} data are damaged: {cause}")]
    Damaged {
        /// Their format.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// A header between rows differs from the first: other columns follow.
    #[error(
        "the line is a header that differs from the first one ({0}): put the rows from here on into a source of their own"
    )]
    OtherHeader(String),
    /// The head is ambiguous.
    #[error(transparent)]
    Undecided(Box<UndecidedFormat>),
    /// A JSON document without one object per line.
    #[error("the source is JSON, but {0}: write one object on each line (JSON Lines), such as with `jq -c '.[]'`")]
    NotJsonLines(&'static str),
    /// A compressed Parquet file: it can only be read from its end.
    #[error("the source is a Parquet file inside of {0}: unpack it, as Parquet compresses its own pages")]
    CompressedParquet(&'static str),
    /// A file in an unsupported format, detected by its content.
    #[error("the source is {what}: {remedy}")]
    OtherFormat {
        /// The format, with its article.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The content of a pipe cannot be written to a file.
    #[error(
        "cannot write the content of {location} to a file in {folder} ({cause}): free space there, or set TMPDIR to another folder"
    )]
    NotSpooled {
        /// Of the pipe.
        location: String,
        /// The folder of the file.
        folder: String,
        /// The error of the operating system.
        cause: String,
    },
    /// The content of a pipe is needed again.
    #[error("{location} cannot be read again, as it is a pipe: to resume a load, pipe the same content again")]
    PipeConsumed {
        /// Of the pipe.
        location: String,
    },
    /// This build lacks a feature.
    #[error("the source is {what}, which this build cannot read: build it with `--features {feature}`")]
    FeatureMissing {
        /// The format.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// No bytes, or only blank lines.
    #[error("the source is empty: it has no header")]
    Empty,
    /// The first row does not end.
    #[error("the header does not end within {limit} bytes: is this a CSV source?")]
    HeaderTooLong {
        /// Number of bytes read.
        limit: usize,
    },
    /// No line has a required column under any delimiter.
    #[error(
        "no header found: the first 50 lines have no required column (id, description, amount, timestamp, operation_type, side) with `,` `;` tab or `|` as delimiter, and the first line looks like {first_line}; set DELIMITER to another one, or MAPPING to rename columns (see docs/mapping.md)"
    )]
    UnknownDialect {
        /// The shape of its start.
        first_line: String,
    },
    /// The header is not one of transactions.
    #[error("the header is not usable: {0}")]
    Header(Box<HeaderError>),
    /// No line is a header of transactions.
    #[error("the header is not usable: {error} (line {line}, the closest of {looked_at} lines)")]
    NoHeader {
        /// What is wrong with the closest line.
        error: Box<HeaderError>,
        /// Its number.
        line: u64,
        /// Number of lines read.
        looked_at: usize,
    },
    /// The path lacks what the mapping takes from it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An opened source cannot be read.
    #[error("cannot read the source ({cause})")]
    Read {
        /// The error of the operating system.
        cause: String,
    },
}

impl SourceError {
    /// The exit code of a program that stops because of this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Url { .. }
            | Self::Pattern { .. }
            | Self::Setting(_)
            | Self::Credentials(_)
            | Self::Tls { .. }
            | Self::NoCredentials { .. }
            | Self::Region { .. } => Exit::Usage,
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Stopped { .. } => Exit::DependencyUnavailable,
            _ => Exit::SourceUnreadable,
        }
    }

    /// Whether this version can never be read completely, as it is gone or damaged. Other errors can be repaired.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::NoObject { .. } | Self::Damaged { .. })
    }

    /// The source ends before a range does.
    pub(crate) fn ends_before_range(location: &str) -> Self {
        Self::Read { cause: format!("{location} ends before the requested range") }
    }

    /// Whether a retry may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<UndecidedFormat> for SourceError {
    fn from(undecided: UndecidedFormat) -> Self {
        Self::Undecided(undecided.into())
    }
}

impl From<HeaderError> for SourceError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error.into())
    }
}

/// Unwraps an error of a stream.
impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|error| Self::Read { cause: io_cause(&error) })
    }
}

/// A reading thread panicked; its panic is logged elsewhere.
pub(crate) const DIED: &str = "the reading thread panicked";

/// The text of an I/O error, or of its kind if that is clearer.
pub(crate) fn io_cause(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, PermissionDenied, TimedOut,
    };
    match error.kind() {
        NotFound => "it does not exist".to_owned(),
        kind @ (ConnectionAborted | ConnectionRefused | ConnectionReset | PermissionDenied | TimedOut) => {
            kind.to_string()
        }
        _ => error.to_string(),
    }
}
