//! Objects in S3 and compatible servers: client, download, listing, upload, errors, and what `assay doctor` finds.

mod client;
pub(crate) mod diagnose;
mod download;
mod error;
pub(crate) mod list;
pub(crate) mod put;
mod read_ahead;

pub(crate) use client::{S3Client, sdk_config};
#[cfg(feature = "sqs")]
pub(crate) use error::root_cause;
