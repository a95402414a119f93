//! Where rows come from: S3 objects and local files, their dialects, and the readers that cut them into rows.
//!
//! - [`SourceUrl`] names one source, [`SourcePattern`] one or several.
//! - [`Sources::identify`] finds the version that is there now.
//! - [`Sources::inspect`] detects its [`SourceLayout`] from its head; a run freezes it.
//! - [`Sources::rows`] streams that version, and no other, through decompression and decoder: a [`RowReader`] returns
//!   batches of rows, each row with its line, its end and its own bytes. The rules of `assay-transaction` judge them.
//! - [`Sources::list`] lists a bucket; [`parse_events`] reads the notifications that a bucket sends.
//! - [`Sources::put`] uploads objects; [`Sources::notify`] makes a bucket send notifications.
//! - [`Sources::fingerprint`] identifies copies.
//!
//! Input from a pipe is kept until the process ends ([`SourceUrl::Descriptor`]). Archives and unsupported formats are
//! rejected by name; a zip of one file is unpacked.
//!
//! Guarantees: memory grows neither with the source nor with a row; one version is read, or the read fails; a read from
//! any row's end returns the same rows as a read from the start; a failed read has returned every row before the
//! failure.
//!
//! Modules: `decode` (bytes to rows), `detect` (format, header, encoding, amounts, timestamps), `s3`, `local`, `events`,
//! `pattern`.

mod decode;
mod detect;
mod error;
mod events;
mod fingerprint;
mod local;
mod options;
mod pattern;
mod s3;
mod sources;
mod url;

pub use decode::batch::{BatchRows, RowBatch, RowFields, SourceRow};
pub use decode::csv::{CsvLayout, CsvReader, QUOTE_REACH};
pub use decode::row_reader::RowReader;
pub use detect::UndecidedFormat;
pub use detect::format_options::{Currencies, FormatOptions, NullValues, ShortRows};
pub use detect::head::HEAD_BYTES;
pub use detect::inspect::{Inspection, SourceLayout, inspect};
pub use error::SourceError;
pub use events::notification::BucketNotification;
#[cfg(feature = "sqs")]
pub use events::sqs::{SqsError, SqsMessage, SqsQueue};
pub use events::{EventError, ObjectEvent, parse_events};
pub use options::S3Options;
pub use pattern::marker::is_marker;
pub use pattern::{NamedSource, SourcePattern};
pub use s3::diagnose::{DEPENDENCY, diagnose};
pub use s3::list::ListedObject;
pub use s3::put::{UploadContent, UploadedObject};
pub use sources::{ByteStream, FoundSource, Sources};
pub use url::SourceUrl;
