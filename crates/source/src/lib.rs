//! Where rows come from: S3 objects and local files, their dialects, and the reader that cuts them into rows.
//!
//! The way of a source: [`SourceUrl`] names it, or a [`SourcePattern`] names it with others, [`Sources::identify`] finds
//! which version of it is there,
//! [`Sources::inspect`] unpacks and reads its head and settles its [`Layout`], which a run freezes, and [`Sources::rows`]
//! streams the bytes of that version, and of no other, through the unpacking and the decoder of its format: a [`RowReader`]
//! gives rows in batches, each with its line, its end and its own bytes. The rules of `assay-transaction` judge them.
//!
//! [`Sources::list`] finds what lies in a bucket; [`parse_events`] reads what the bucket says of it by itself.
//!
//! What comes through a pipe is kept until the process ends, as a file is: [`SourceUrl::Descriptor`]. Archives and files of other
//! kinds are refused by their names; a zip of one file is unpacked. [`Sources::fingerprint`] tells copies.
//!
//! The other way: [`Sources::put`] puts objects, and [`Sources::notify`] has a bucket tell of those that are put.
//!
//! Guarantees: memory does not grow with the source, nor with any one row of it; what is read is one version, or the
//! read fails; reading from any row's end gives the very rows that a read from the start would have given after it; a read
//! that fails has given every row before the place it fails at.

mod decode;
mod detect;
mod error;
mod events;
mod fingerprint;
mod local;
mod options;
mod patience;
mod pattern;
mod s3;
mod sources;
mod url;

pub use decode::batch::{BatchRows, Row, RowBatch, RowFields};
pub use decode::csv::{CsvLayout, CsvReader, QUOTE_REACH};
pub use decode::row_reader::RowReader;
pub use detect::UndecidedFormat;
pub use detect::format_options::{Currencies, FormatOptions, NullValues, ShortRows};
pub use detect::head::HEAD_BYTES;
pub use detect::inspect::{Inspected, Layout, inspect};
pub use error::SourceError;
pub use events::notification::Notified;
#[cfg(feature = "sqs")]
pub use events::sqs::{SqsError, SqsMessage, SqsQueue};
pub use events::{EventError, ObjectEvent, parse_events};
pub use options::S3Options;
pub use pattern::marker::is_marker;
pub use pattern::{Named, SourcePattern};
pub use s3::list::Listed;
pub use s3::put::{Content, Put};
pub use sources::{ByteStream, Found, Sources};
pub use url::SourceUrl;
