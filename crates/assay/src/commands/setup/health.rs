//! `assay health`: checks the health of a program, for containers without another HTTP client.

use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use assay_telemetry::{LogOptions, MetricsOptions};
use assay_transaction::Exit;
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::error::CommandError;
use crate::output::{one_line, print};

/// The default path.
const READY_PATH: &str = "/health/ready";
/// Longest wait for a response.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a response that are read.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;
/// Longest line of a response that is shown.
const SHOWN_LINE: usize = 1_000;

/// Check the health of a program, as a container does
///
/// Prints the response. Exits 0 if the program is healthy; 3 if it is not, or does not respond within 3 seconds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  METRICS_ADDR=0.0.0.0:9464 assay health      the program of the same container
  assay health http://ml-api:8000/health")]
pub(crate) struct HealthArguments {
    /// URL to check, over plain HTTP [default: /health/ready at METRICS_ADDR of this machine]
    #[arg(value_name = "URL")]
    url: Option<Url>,
    /// Exit 0 if METRICS_ADDR is not set, for an image whose programs may run without it
    #[arg(long, conflicts_with = "url")]
    if_shown: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    /// Where the program serves its health.
    #[command(flatten)]
    metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Checks, and prints the response.
pub(crate) async fn health(arguments: &HealthArguments) -> Result<Exit, CommandError> {
    let (address, path) = match (&arguments.url, arguments.metrics.metrics_addr) {
        (Some(url), _) => address_and_path(url)?,
        (None, Some(address)) => (local_address(address).to_string(), READY_PATH.to_owned()),
        (None, None) if arguments.if_shown => return Ok(Exit::Done),
        (None, None) => {
            return Err(CommandError::NoHealthTarget(
                "give a URL, or set METRICS_ADDR as the program has it".to_owned(),
            ));
        }
    };
    let answered = timeout(TIMEOUT, get(&address, &path)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let checked = HealthReport::new(&address, path, answered);
    print(&checked, arguments.json)?;
    Ok(if checked.is_healthy { Exit::Done } else { Exit::DependencyUnavailable })
}

/// The health of a program.
#[derive(Debug, Serialize)]
struct HealthReport {
    address: String,
    path: String,
    is_healthy: bool,
    /// Of the response; none without one.
    status: Option<u16>,
    /// The lines of the response, or why there is none.
    said: Vec<String>,
}

impl HealthReport {
    fn new(address: &str, path: String, answered: io::Result<String>) -> Self {
        let (status, said) = match answered {
            Err(error) => (None, format!("no answer from {address}: {error}")),
            Ok(answer) => {
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
                let status = head.split(' ').nth(1).unwrap_or("no status");
                let said = if body.trim().is_empty() { status } else { body.trim_end() };
                (status.parse().ok(), said.to_owned())
            }
        };
        Self {
            address: address.to_owned(),
            path,
            is_healthy: status.is_some_and(|status| (200..300).contains(&status)),
            status,
            said: said.lines().map(|line| one_line(line, SHOWN_LINE)).collect(),
        }
    }
}

impl Display for HealthReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// The address and path of a URL.
fn address_and_path(url: &Url) -> Result<(String, String), CommandError> {
    match (url.scheme(), url.host_str(), url.port_or_known_default()) {
        ("http", Some(host), Some(port)) => Ok((format!("{host}:{port}"), url.path().to_owned())),
        // Not the URL itself, which may hold a password.
        _ => Err(CommandError::NoHealthTarget("only http:// URLs can be checked".to_owned())),
    }
}

/// The address to reach a program of this machine that listens on `address`.
fn local_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A request in HTTP/1.0, which closes the connection after the response.
async fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_listens_on_all_addresses_is_checked_on_loopback() {
        for (listens, asked) in
            [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:9464", "[::1]:9464"), ("10.1.2.3:9464", "10.1.2.3:9464")]
        {
            assert_eq!(local_address(listens.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn a_url_is_parsed() {
        let address_and_path = |url: &str| address_and_path(&url.parse().unwrap());
        assert_eq!(
            address_and_path("http://ml-api:8000/health").unwrap(),
            ("ml-api:8000".to_owned(), "/health".to_owned())
        );
        assert_eq!(address_and_path("http://[::1]/").unwrap(), ("[::1]:80".to_owned(), "/".to_owned()));
        assert!(address_and_path("https://ml-api/health").unwrap_err().to_string().contains("only http://"));
    }

    #[test]
    fn its_json_is_pinned() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\n\r\nrabbitmq: connection lost\n".to_owned();
        let report = HealthReport::new("127.0.0.1:9464", READY_PATH.to_owned(), Ok(answer));
        crate::output::pin_json("health", &report);
        assert_eq!(report.to_string(), "rabbitmq: connection lost\n");
        let ok = HealthReport::new("x", "/".to_owned(), Ok("HTTP/1.0 204 No Content\r\n\r\n".to_owned()));
        assert!(ok.is_healthy && ok.to_string() == "204\n");
        let none = HealthReport::new("x", "/".to_owned(), Err(io::ErrorKind::TimedOut.into()));
        assert!(!none.is_healthy && none.to_string().starts_with("no answer from x: "));
    }
}
