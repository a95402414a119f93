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

mod ahead;
mod batch;
mod buffer;
mod compression;
mod csv;
mod download;
mod error;
mod events;
mod file;
mod fingerprint;
mod foreign;
mod format_options;
mod head;
mod inspect;
mod json;
mod json_header;
mod listing;
mod mapping;
mod marker;
mod notification;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod patience;
mod pattern;
mod pipe;
mod put;
mod reader;
mod recognise;
mod s3;
mod s3_error;
mod sources;
#[cfg(feature = "sqs")]
mod sqs;
mod transcode;
mod url;
mod zip;

pub use batch::{Row, RowBatch, RowFields, Rows};
pub use csv::{CsvLayout, CsvReader, QUOTE_REACH};
pub use error::SourceError;
pub use events::{EventError, ObjectEvent, parse_events};
pub use format_options::{Currencies, FormatOptions, NullValues, ShortRows};
pub use head::HEAD_BYTES;
pub use inspect::{Inspected, Layout, inspect};
pub use listing::Listed;
pub use marker::is_marker;
pub use notification::Notified;
pub use options::S3Options;
pub use pattern::{Named, SourcePattern};
pub use put::{Content, Put};
pub use reader::RowReader;
pub use recognise::Undecided;
pub use sources::{ByteStream, Found, Sources};
#[cfg(feature = "sqs")]
pub use sqs::{SqsError, SqsMessage, SqsQueue};
pub use url::SourceUrl;
