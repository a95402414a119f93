//! Commands that bring rows in.

pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod put;
pub(crate) mod run;
