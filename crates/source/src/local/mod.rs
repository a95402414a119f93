//! Sources on this machine: files and pipes.

pub(crate) mod file;
pub(crate) mod pipe;
