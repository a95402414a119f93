//! The settings of the console.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};

/// Where the console listens, and who may use it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Console")]
pub struct ConsoleOptions {
    /// Address of the console; any other than loopback requires users, or CONSOLE_ANONYMOUS
    #[arg(long, env = "CONSOLE_ADDR", default_value = "127.0.0.1:8082", value_name = "ADDRESS")]
    pub console_addr: SocketAddr,
    /// File with a user on each line: name, role (viewer, operator or auditor) and the SHA-256 of the token
    #[arg(long, env = "CONSOLE_USERS_FILE", value_name = "PATH")]
    pub console_users_file: Option<PathBuf>,
    /// Let everybody look who can reach the address, without a token; rows are masked, and nothing can be ordered
    #[arg(long, env = "CONSOLE_ANONYMOUS", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub console_anonymous: bool,
    /// Host names by which people without a token may reach the console, beside those of loopback; separated by commas
    #[arg(long, env = "CONSOLE_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub console_hosts: Vec<String>,
    /// Let operators replay, repair, cancel and audit runs
    #[arg(long, env = "CONSOLE_ACTIONS", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub console_actions: bool,
}
