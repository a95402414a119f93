//! A run as the ledger stores it: name, source, state, row counts, and the exit code of the program.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Checkpoint, RunSettings, SealedTotals, StopOrder, Timestamp};

/// The name of a run: 1 to 64 letters, digits, `_` and `-`. Cheap to clone, as every message carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

/// Why a text is not the name of a run, or not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not allowed: {1}")]
pub struct ParseRunError(String, &'static str);

impl RunId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = ParseRunError;

    fn from_str(text: &str) -> Result<Self, ParseRunError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseRunError(text.to_owned(), "a run id has 1 to 64 letters, digits, `_` or `-`"))
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Does not quote the text, which may be long and confidential.
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|ParseRunError(_, rule)| serde::de::Error::custom(rule))
    }
}

/// One version of one object: what a run reads, and its natural key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// `s3://bucket/key`, the absolute path of a local file or named pipe, or `stdin`.
    pub location: String,
    /// The ETag of an object, the size and modification time of a file, or the SHA-256 of piped content.
    pub version: String,
}

impl SourceIdentity {
    /// The prefix of the version of piped content: its hash, as a pipe has no other identity.
    const PIPED: &str = "sha256=";

    /// Piped content, by its SHA-256 in hexadecimal digits.
    pub fn piped(location: String, sha256: &str) -> Self {
        Self { location, version: format!("{}{sha256}", Self::PIPED) }
    }

    /// The SHA-256 of piped content; none if the source can be read again.
    pub fn piped_sha256(&self) -> Option<&str> {
        if self.location.contains("://") { None } else { self.version.strip_prefix(Self::PIPED) }
    }

    /// Whether it is what a producer sends in a day, rather than a file.
    pub fn is_live(&self) -> bool {
        self.location.starts_with("live:") || self.location.starts_with("amqp:")
    }
}

impl fmt::Display for SourceIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (version {})", self.location, self.version)
    }
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Its source is being read, or its loader died and the next one resumes.
    Loading,
    /// Read to the end; some chunks are still in flight.
    Sealed,
    /// Every chunk is recorded.
    Complete,
    /// Its source could not be read to the end; what was read is recorded.
    Failed,
    /// Cancelled by an operator; what was read is recorded.
    Cancelled,
}

impl RunState {
    /// The state as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Sealed => "sealed",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state as a predicate: "is complete", "has failed".
    pub fn as_phrase(self) -> &'static str {
        match self {
            Self::Loading => "is loading",
            Self::Sealed => "is sealed",
            Self::Complete => "is complete",
            Self::Failed => "has failed",
            Self::Cancelled => "is cancelled",
        }
    }

    /// Whether the run is over: the law holds from here on.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for RunState {
    type Err = ParseRunError;

    fn from_str(text: &str) -> Result<Self, ParseRunError> {
        [Self::Loading, Self::Sealed, Self::Complete, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| ParseRunError(text.to_owned(), "not a run state"))
    }
}

/// A run as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its name.
    pub run_id: RunId,
    /// Its source.
    pub source: SourceIdentity,
    /// Its state.
    pub state: RunState,
    /// Its frozen settings.
    pub settings: RunSettings,
    /// Where its loader resumes.
    pub checkpoint: Checkpoint,
    /// The totals of its source, once read to its end.
    pub sealed: Option<SealedTotals>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// The order to end it early, if given.
    pub stop: Option<StopOrder>,
    /// The size of its source in bytes, if known.
    pub source_bytes: Option<u64>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// Its removal, if it was removed or is being removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<RunRemoval>,
}

/// The removal of a run, which keeps only the numbers of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRemoval {
    /// Who started it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it started.
    pub began_at: Timestamp,
    /// When it ended; none while it is in progress or was interrupted.
    pub ended_at: Option<Timestamp>,
}

/// The outcomes of a run's rows, counted from the data rows and never from separate sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Scored and stored.
    pub predicted: u64,
    /// Rejected by a rule.
    pub invalid: u64,
    /// Valid, but not scored or not stored.
    pub failed: u64,
    /// Already stored with the same content.
    pub duplicate: u64,
}

impl Tally {
    /// All rows with an outcome.
    pub fn total(self) -> u64 {
        self.predicted + self.invalid + self.failed + self.duplicate
    }

    /// The law: every row read has exactly one outcome.
    pub fn accounts_for(self, rows_read: u64) -> bool {
        self.total() == rows_read
    }
}

/// The exit codes of every program: a contract with cron, Airflow and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything requested is done, or was done before.
    Done = 0,
    /// The work ended, but rows failed, or the law does not hold.
    FailedRows = 1,
    /// The command line or the configuration is invalid; retrying changes nothing.
    Usage = 2,
    /// A dependency (broker, database, ML API) is unreachable; retry later.
    DependencyUnavailable = 3,
    /// The source cannot be read: missing, forbidden, or of the wrong kind.
    SourceUnreadable = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_safe_in_every_log_path_and_header() {
        for good in ["a", "batch_20260111_100000_ab12", &"x".repeat(64)] {
            assert_eq!(good.parse::<RunId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_state_reads_back() {
        for state in ["loading", "sealed", "complete", "failed", "cancelled"] {
            assert_eq!(state.parse::<RunState>().unwrap().as_str(), state);
        }
    }
}
