//! From the bytes of a source to batches of rows: unpacking, transcoding and the decoders of its formats.

pub(crate) mod batch;
pub(crate) mod buffer;
pub(crate) mod compression;
pub(crate) mod csv;
pub(crate) mod json;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod row_reader;
pub(crate) mod transcode;
pub(crate) mod zip;
