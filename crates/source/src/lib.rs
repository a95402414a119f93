//! Where rows come from: S3 objects and local files, their dialects, and the reader that cuts them into rows.
//!
//! The way of a source: [`SourceUrl`] names it, [`Sources::identify`] finds which version of it is there,
//! [`Sources::open`] streams the bytes of that version and of no other, [`inspect`] reads its header and settles its
//! [`Dialect`](assay_transaction::Dialect), and [`RowReader`] gives its rows in batches, each with its line, its byte
//! offsets and its own bytes. The rules of `assay-transaction` judge them.
//!
//! Guarantees: memory does not grow with the source, nor with any one row of it; what is read is one version, or the
//! read fails; reading from any row's end gives the very rows that a read from the start would have given after it.

mod batch;
mod error;
mod file;
mod inspect;
mod listing;
mod mapping;
mod options;
mod reader;
mod s3;
mod s3_error;
mod sources;
mod url;
mod window;

pub use batch::{Row, RowBatch, RowFields, Rows};
pub use error::SourceError;
pub use inspect::{Layout, inspect};
pub use listing::Listed;
pub use options::{FormatOptions, S3Options};
pub use reader::{QUOTE_REACH, RowReader};
pub use sources::{ByteStream, Found, Sources};
pub use url::SourceUrl;
