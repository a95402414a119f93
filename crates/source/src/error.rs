//! Why a source cannot be read. Each error is one line that names what to fix, and knows its exit code.

use std::time::Duration;

use assay_credentials::CredentialsError;
use assay_transaction::{Exit, HeaderError, PathError};

use crate::UndecidedFormat;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// What is no URL of a source.
    #[error("`{url}` is no source ({reason}): SOURCE_URL is s3://bucket/key or the path of a file")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What is no pattern, and no name of a source that is there.
    #[error("`{pattern}` is no pattern of sources ({cause}): check the argument or SOURCE_URL")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A pattern, a prefix or a directory without a source.
    #[error(
        "no source is found by {pattern}{}: check the argument or SOURCE_URL",
        if *markers > 0 { format!(" ({markers} passed over, as their names begin with `_` or `.`; one that is named itself is read)") }
        else { String::new() }
    )]
    NothingFound {
        /// As it was given.
        pattern: String,
        /// How many names were found that are of markers.
        markers: u64,
    },
    /// A secret or a certificate that cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A setting that is wrong, or missing beside another one.
    #[error("{0}")]
    Setting(String),
    /// Nothing to sign requests with.
    #[error("no credentials for S3 ({cause}): set KEY and SECRET, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    NoCredentials {
        /// What the last provider of credentials said.
        cause: String,
    },
    /// A local file that is not there, not readable or no file.
    #[error("cannot read {path} ({cause}): check the argument or SOURCE_URL")]
    File {
        /// As it was given.
        path: String,
        /// What the operating system says.
        cause: String,
    },
    /// An object that is not there.
    #[error("no object {location}: check the key in SOURCE_URL")]
    NoObject {
        /// Its URL.
        location: String,
    },
    /// A bucket that is not there.
    #[error("no bucket `{bucket}`: check SOURCE_URL and ENDPOINT_URL")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// Wrong credentials, or credentials without the right to read.
    #[error("access to {location} is denied ({cause}): check KEY and SECRET, and what they may read")]
    Denied {
        /// The URL.
        location: String,
        /// The server's own code.
        cause: String,
    },
    /// The bucket belongs to another region than the one that was asked.
    #[error("the bucket of {location} is in another region ({cause}): check AWS_REGION")]
    Region {
        /// The URL.
        location: String,
        /// The server's own code.
        cause: String,
    },
    /// A refusal of another kind.
    #[error("cannot read {location}: the S3 server answered {cause}")]
    Refused {
        /// The URL.
        location: String,
        /// Status and code.
        cause: String,
    },
    /// An object, or a bucket, that may not be written.
    #[error("cannot write {location} ({cause}): check KEY and SECRET, and what they may write")]
    NotWritten {
        /// The URL.
        location: String,
        /// Status and code.
        cause: String,
    },
    /// Nobody whom a bucket could tell of its objects.
    #[error(
        "bucket `{bucket}` cannot send events to {arns} ({cause}): set up its server's AMQP target, or name another with --arn"
    )]
    NoEventTarget {
        /// The bucket.
        bucket: String,
        /// What was tried.
        arns: String,
        /// What the server says.
        cause: String,
    },
    /// An upload that was stopped.
    #[error("stopped before {location} was put: nothing of it is there")]
    Stopped {
        /// The URL.
        location: String,
    },
    /// No answer, or one that says to come back later.
    #[error("cannot reach S3 at {endpoint} ({cause}): check ENDPOINT_URL{}", if *is_aws { " or AWS_REGION" } else { "" })]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Whether that is AWS itself, as no `ENDPOINT_URL` is set.
        is_aws: bool,
        /// Why.
        cause: String,
    },
    /// There is no TLS with S3.
    #[error("cannot connect to S3 at {endpoint} by TLS ({cause}): {remedy}")]
    Tls {
        /// Where.
        endpoint: String,
        /// What is wrong.
        cause: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A download that did not go on.
    #[error(
        "reading {location} did not get past byte {offset} within SOURCE_TIMEOUT ({timeout:?}; {cause}): try again once S3 is well"
    )]
    Stalled {
        /// The URL.
        location: String,
        /// The byte that never came.
        offset: u64,
        /// How long it was tried.
        timeout: Duration,
        /// Why, the last time.
        cause: String,
    },
    /// Another version lies there now than the one that is being read.
    #[error("{location} was replaced while it was read: load it again for its new version")]
    Replaced {
        /// The URL or path.
        location: String,
    },
    /// Packed data that end too early, or cannot be unpacked.
    #[error("its {what} data are damaged: {cause}")]
    Damaged {
        /// In what they are written.
        what: &'static str,
        /// What is wrong with them.
        cause: String,
    },
    /// A header between the rows that is another one than the first: what follows has other columns.
    #[error("the line is another header than the first one ({0}): make a source of what follows it")]
    OtherHeader(String),
    /// What its head leaves open.
    #[error(transparent)]
    Undecided(Box<UndecidedFormat>),
    /// A JSON document that is not one object on each line.
    #[error("the source is JSON, but {0}: write one object on each line (JSON Lines), such as with `jq -c '.[]'`")]
    NotJsonLines(&'static str),
    /// A Parquet file inside of a compressed one: it can only be read from its end.
    #[error("the source is a Parquet file inside of {0}: unpack it, as Parquet files pack their own pages")]
    CompressedParquet(&'static str),
    /// A file of another kind, told by its content.
    #[error("the source is {what}: {remedy}")]
    OtherFormat {
        /// What it is, with its article.
        what: String,
        /// What to do with it.
        remedy: &'static str,
    },
    /// What comes through a pipe, and cannot be kept.
    #[error(
        "cannot keep what {location} gives in a file in {folder} ({cause}): make room there, or set TMPDIR to a folder that has it"
    )]
    NotSpooled {
        /// Of the pipe.
        location: String,
        /// Where it was to be kept.
        folder: String,
        /// What the operating system says.
        cause: String,
    },
    /// What came through a pipe is to be read once more.
    #[error(
        "what came through {location} cannot be read again, as a pipe gives it once: a load that was stopped goes on where the same is piped into it again"
    )]
    PipeConsumed {
        /// Of the pipe.
        location: String,
    },
    /// What this build leaves out.
    #[error("the source is {what}, which this build cannot read: build it with `--features {feature}`")]
    FeatureMissing {
        /// The format.
        what: &'static str,
        /// What to build it with.
        feature: &'static str,
    },
    /// Not one byte, or blank lines alone.
    #[error("the source is empty: it has no header")]
    Empty,
    /// A first row that does not end.
    #[error("the header does not end within {limit} bytes: is this a CSV source?")]
    HeaderTooLong {
        /// How many bytes were looked at.
        limit: usize,
    },
    /// Lines without one required column, whatever the delimiter.
    #[error(
        "cannot tell the dialect: none of `,` `;` tab `|` finds a required column on the first 50 lines, whose first looks like {first_line}; set \
         DELIMITER to another one, or MAPPING where the columns have other names"
    )]
    UnknownDialect {
        /// The shape of its start.
        first_line: String,
    },
    /// A header that is none of transactions.
    #[error("the header is not usable: {0}")]
    Header(Box<HeaderError>),
    /// No line that is a header of transactions.
    #[error(
        "the header is not usable: {error} (line {line}, which comes closest of the {looked_at} that were looked at)"
    )]
    NoHeader {
        /// What is wrong with the line that comes closest.
        error: Box<HeaderError>,
        /// Which it is.
        line: u64,
        /// How many were looked at.
        looked_at: usize,
    },
    /// A path that has not what the mapping takes from it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Bytes that could be opened but not read.
    #[error("cannot read the source ({cause})")]
    Read {
        /// What the operating system says.
        cause: String,
    },
}

impl SourceError {
    /// How a program ends that cannot go on without the source.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Url { .. }
            | Self::Pattern { .. }
            | Self::Setting(_)
            | Self::Credentials(_)
            | Self::Tls { .. }
            | Self::NoCredentials { .. }
            | Self::Region { .. } => Exit::Usage,
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Stopped { .. } => Exit::DependencyAway,
            _ => Exit::SourceUnreadable,
        }
    }

    /// Whether this version of the source can never be read to its end: it is gone, or damaged. Everything else may be repaired.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::NoObject { .. } | Self::Damaged { .. })
    }

    /// A read of a range that the source does not have whole.
    pub(crate) fn ends_before_range(location: &str) -> Self {
        Self::Read { cause: format!("{location} ends before the range that was asked for") }
    }

    /// Whether the same request may well succeed a little later.
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

/// A stream's own error, found again in what the layers above made of it.
impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|error| Self::Read { cause: io_cause(&error) })
    }
}

/// Why a thread that read gave nothing back. What it panicked with is logged where it may be.
pub(crate) const DIED: &str = "the thread that read it died";

/// What an I/O error says, in the words of its kind where those are the clearer ones.
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
