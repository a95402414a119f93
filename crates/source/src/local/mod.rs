//! Sources on this machine: files, and what comes through a pipe.

pub(crate) mod file;
pub(crate) mod pipe;
