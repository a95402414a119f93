//! The settings of logs.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The default level.
const LEVEL: &str = "info";
/// The default size of a log file.
const MAX_BYTES: u64 = 100 * 1024 * 1024;
/// The default number of renamed log files.
const KEPT: u32 = 5;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// `2026-01-11 10:00:00Z - INFO - Starting batch pipeline`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and in which format.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// Format of the log lines on stderr: text or json
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Lowest level to log: error, warn, info, debug or trace; also by module, such as `warn,assay_queue=debug`
    #[arg(long, env = "LOG_LEVEL", default_value = LEVEL, value_name = "LEVEL", value_parser = parse_level)]
    pub log_level: String,
    /// File to append log lines to; it is reopened if it is moved [default: stderr alone]
    #[arg(long, env = "LOG_FILE", value_name = "PATH")]
    pub log_file: Option<PathBuf>,
    /// Size in bytes at which LOG_FILE is renamed to LOG_FILE.1, and that to .2; 0 leaves it to another program
    #[arg(long, env = "LOG_FILE_MAX_BYTES", default_value_t = MAX_BYTES, value_name = "BYTES")]
    pub log_file_max_bytes: u64,
    /// Renamed log files to keep
    #[arg(long, env = "LOG_FILE_KEEP", default_value_t = KEPT, value_name = "FILES")]
    pub log_file_keep: u32,
    /// Whether log lines go to stderr, too, if LOG_FILE is set: true or false
    #[arg(long, env = "LOG_STDERR", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub log_stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            log_format: LogFormat::default(),
            log_level: LEVEL.to_owned(),
            log_file: None,
            log_file_max_bytes: MAX_BYTES,
            log_file_keep: KEPT,
            log_stderr: true,
        }
    }
}

fn parse_level(text: &str) -> Result<String, String> {
    // The filter would take an unknown level for a module.
    let is_level = |part: &str| part.is_empty() || part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let is_directive = |part: &str| is_level(part) && EnvFilter::builder().parse(part).is_ok();
    if text.split(',').map(str::trim).all(is_directive) {
        Ok(text.to_owned())
    } else {
        Err("expected error, warn, info, debug or trace, and MODULE=LEVEL after a comma".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_is_rejected() {
        for level in ["info", "WARN", "off", "warn,assay_queue=debug", "info, hyper=trace"] {
            assert!(parse_level(level).is_ok(), "{level}");
        }
        for level in ["foo", "warning", "info,assay_queue", "assay_queue=loud", "info warn"] {
            assert!(parse_level(level).unwrap_err().starts_with("expected error"), "{level}");
        }
    }
}
