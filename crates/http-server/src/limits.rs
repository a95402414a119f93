//! The limits of a server.

use std::time::Duration;

/// What a server allows its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Most connections at a time; at most half of the files that the process may open.
    pub max_connections: usize,
    /// Longest head of a request, in bytes; at least 8 KiB.
    pub max_head_bytes: usize,
    /// Longest time to receive a head, from its first byte or from the connection on.
    pub head_timeout: Duration,
    /// How long an idle connection is kept: longer than most clients and proxies do, so that it is not closed while a request
    /// is on its way.
    pub idle_timeout: Duration,
    /// How long a client may take to read waiting output.
    pub write_timeout: Duration,
}

impl ServerLimits {
    /// Connections allowed however few files the process may open.
    const FEWEST: usize = 4;

    /// The limits for a process that may open so many files.
    pub(crate) fn with_open_files(self, files: Option<usize>) -> Self {
        let max_connections = files.map_or(self.max_connections, |files| self.max_connections.min(files / 2));
        Self { max_connections: max_connections.max(Self::FEWEST), ..self }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// How many files this process may open, if known.
pub(crate) fn open_files() -> Option<usize> {
    parse_open_files(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_bound_the_connections() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            64                   524288               files     \n";
        assert_eq!(parse_open_files(limits), Some(64));
        for unknown in ["", "Max open files            unlimited            unlimited            files\n"] {
            assert_eq!(parse_open_files(unknown), None);
        }
        for (files, expected) in [(None, 512), (Some(64), 32), (Some(1_048_576), 512), (Some(3), ServerLimits::FEWEST)]
        {
            assert_eq!(ServerLimits::default().with_open_files(files).max_connections, expected, "{files:?}");
        }
    }
}
