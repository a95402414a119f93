//! From bytes to batches of rows: decompression, transcoding, and the decoders of CSV, JSON Lines and Parquet.

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
