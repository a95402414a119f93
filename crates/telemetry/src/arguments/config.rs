//! The setting that says where other settings are.

use std::path::PathBuf;

use clap::Args;

/// The flag of [`ConfigOption`], which is looked for before the command line is parsed.
pub(super) const CONFIG_FLAG: &str = "--config";
/// Its variable.
pub(super) const CONFIG_VARIABLE: &str = "ASSAY_CONFIG";

/// The file of settings. [`parse`](crate::parse) has read it by the time that this is filled.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigOption {
    /// File of settings (TOML): their names and values. Flags and the environment have priority over it
    #[arg(long, env = CONFIG_VARIABLE, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
