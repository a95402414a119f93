//! Runs: one pass over one source, its frozen settings, its position and its state.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    AmountSum, AmountText, Budgets, Compression, CsvText, Cutting, Decided, DecidedBy, DecimalMark, Decision,
    Delimiter, Dialect, Encoding, Expected, Format, Mapping, Namespace, Producer, ReadingRules, StopOrder, TimeZone,
    Timestamp, TimestampFormat, Trailer,
};

/// The name of a run: 1 to 64 letters, digits, `_` and `-`. Cheap to clone: every message carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

/// Why a text names no run, or no state of one.
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
        // Not the text itself: whatever a message holds in this place, it may be long, and nobody's to show.
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|ParseRunError(_, rule)| serde::de::Error::custom(rule))
    }
}

/// One version of one object: what a run reads, and its natural key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// `s3://bucket/key`, the absolute path of a local file or a named pipe, or `stdin`.
    pub location: String,
    /// The ETag of an object, the size and the modification time of a file, or the SHA-256 of what came through a pipe.
    pub version: String,
}

impl SourceIdentity {
    /// What the version of what came through a pipe begins with: a hash of it, as a pipe has nothing else to be known by.
    const PIPED: &str = "sha256=";

    /// What came through a pipe, by its SHA-256 in hexadecimal digits.
    pub fn piped(location: String, sha256: &str) -> Self {
        Self { location, version: format!("{}{sha256}", Self::PIPED) }
    }

    /// The SHA-256 of what came through a pipe; none where the source can be asked for its bytes again.
    pub fn piped_sha256(&self) -> Option<&str> {
        if self.location.contains("://") { None } else { self.version.strip_prefix(Self::PIPED) }
    }

    /// Whether it is no file, but what a producer sends in a day.
    pub fn is_live(&self) -> bool {
        self.location.starts_with("live:") || self.location.starts_with("amqp:")
    }
}

impl fmt::Display for SourceIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (version {})", self.location, self.version)
    }
}

/// What is frozen when a run starts, so that its chunks are the same whoever reads the source again, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Most rows of a chunk: `API_BATCH_SIZE`.
    pub chunk_rows: NonZeroU32,
    /// Bytes at which a chunk is full.
    pub chunk_bytes: NonZeroU32,
    /// By which rule the bytes of rows count. Runs of earlier versions do not say: theirs is the first.
    #[serde(default, skip_serializing_if = "Cutting::is_default")]
    pub cutting: Cutting,
    /// How the source writes its rows.
    pub dialect: Dialect,
    /// In what the source holds its rows.
    #[serde(default, skip_serializing_if = "Format::is_csv")]
    pub format: Format,
    /// What the source is packed with.
    #[serde(default, skip_serializing_if = "Compression::is_none")]
    pub compression: Compression,
    /// How the source writes its timestamps.
    #[serde(default, skip_serializing_if = "TimestampFormat::is_iso")]
    pub timestamps: TimestampFormat,
    /// The names of the source's columns.
    pub header: Vec<String>,
    /// Where the first row is: right behind the header. Runs of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Position>,
    /// Of timestamps that name none.
    pub time_zone: TimeZone,
    /// What ids are unique in.
    pub namespace: Namespace,
    /// Whether the broker of the loader that began the run keeps what was published when that process ends.
    #[serde(default = "durable")]
    pub durable_broker: bool,
    /// How much may go wrong before the run is aborted.
    #[serde(default)]
    pub budgets: Budgets,
    /// How the source's columns become ours, where they have other names or forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Arc<Mapping>>,
    /// What the source should hold.
    #[serde(default, skip_serializing_if = "Expected::is_nothing")]
    pub expected: Expected,
    /// The source's last row, which says what it should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<Trailer>,
    /// By which version of the rules the source is read. Runs of earlier versions do not say: theirs is the first.
    #[serde(default)]
    pub reading: ReadingRules,
    /// What a CSV source writes in a way of its own.
    #[serde(default, skip_serializing_if = "CsvText::is_default")]
    pub csv: CsvText,
    /// How amounts are written, beside their decimal mark.
    #[serde(default, skip_serializing_if = "AmountText::is_default")]
    pub amounts: AmountText,
    /// What was settled of the source at the start of the run, and by what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

impl RunSettings {
    /// Where a decision came from; by default, where there is none.
    pub fn decided_by(&self, what: Decided) -> DecidedBy {
        self.decisions.iter().find(|decision| decision.what == what).map_or(DecidedBy::Default, |decision| decision.by)
    }

    /// Whether the source's bytes are made UTF-8 before anything else looks at them: where a character may take several of them, and
    /// in JSON, whose grammar knows no other encoding.
    pub fn is_transcoded(&self) -> bool {
        let Dialect { encoding, .. } = self.dialect;
        let is_json = self.reading >= ReadingRules::Second && self.format == Format::JsonLines;
        encoding.is_transcoded() || is_json && encoding != Encoding::UTF_8
    }

    /// The encoding of the bytes that rows have, whatever the source's is.
    pub fn encoding_of_rows(&self) -> Encoding {
        let has_text = self.reading >= ReadingRules::Second && self.format == Format::Parquet;
        if has_text || self.is_transcoded() { Encoding::UTF_8 } else { self.dialect.encoding }
    }
}

/// As it was before this was written down.
fn durable() -> bool {
    true
}

impl RunSettings {
    /// Bytes at which a chunk is full: 512 KiB, which no chunk of usual rows comes near. A process has many of them in work.
    pub const CHUNK_BYTES: NonZeroU32 = NonZeroU32::new(512 * 1024).unwrap();

    /// The settings of a live run: its rows are JSON, in UTC, and their ids are unique among those of the producer. What its
    /// producer and the predictors were set to otherwise, they know themselves.
    pub fn live(producer: &Producer) -> Self {
        let namespace = Namespace::new(&format!("live:{producer}"));
        Self { format: Format::JsonLines, ..Self::standard(namespace) }
    }

    /// What live transactions of a producer are read by: `TIME_ZONE` and, where it is set, `ID_NAMESPACE`.
    pub fn live_read_in(producer: &Producer, time_zone: TimeZone, id_namespace: Option<&str>) -> Self {
        let live = Self { time_zone, ..Self::live(producer) };
        match id_namespace.filter(|name| !name.is_empty()) {
            Some(name) => Self { namespace: Namespace::new(name), ..live },
            None => live,
        }
    }

    /// Settings for examples and tests.
    pub fn example() -> Self {
        Self::standard(Namespace::new("example"))
    }

    /// What a source is read by of which nothing else is said: as CSV with comma and decimal point, UTF-8, in UTC, in chunks of 100
    /// rows, with the columns that are required.
    pub fn standard(namespace: Namespace) -> Self {
        Self {
            chunk_rows: const { NonZeroU32::new(100).unwrap() },
            chunk_bytes: Self::CHUNK_BYTES,
            cutting: Cutting::Encoded,
            dialect: Dialect {
                delimiter: Delimiter::Comma,
                decimal_mark: DecimalMark::Point,
                encoding: Encoding::UTF_8,
            },
            format: Format::Csv,
            compression: Compression::None,
            timestamps: TimestampFormat::Iso,
            header: crate::REQUIRED_COLUMNS.map(str::to_owned).to_vec(),
            start: None,
            time_zone: TimeZone::UTC,
            namespace,
            durable_broker: true,
            budgets: Budgets::default(),
            mapping: None,
            expected: Expected::default(),
            trailer: None,
            reading: ReadingRules::Second,
            csv: CsvText::default(),
            amounts: AmountText::default(),
            decisions: Vec::new(),
        }
    }
}

/// A place in a source, between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next row, from 1.
    pub row: u64,
    /// The physical line that row starts at, or a blank line before it, from 1.
    pub line: u64,
    /// The byte of the unpacked source that row starts at, from 0.
    pub offset: u64,
}

impl Position {
    /// The first byte.
    pub const START: Self = Self { row: 1, line: 1, offset: 0 };
}

/// What was counted of a source on the way to a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Rows that broke a rule.
    pub invalid: u64,
    /// The sum of all amounts that could be read, those of rejected rows among them.
    pub amount: AmountSum,
    /// Rows among the invalid ones that only another reading than the recognised one fits: the other decimal mark, or another order of
    /// day, month and year.
    #[serde(default)]
    pub other_reading: u64,
}

/// Where a run goes on: the next chunk, where it starts, and what was counted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next chunk, from 0.
    pub chunk: u64,
    /// Where it starts.
    pub at: Position,
    /// What was counted before it.
    pub counted: Counted,
}

impl Checkpoint {
    /// Before everything.
    pub const START: Self = Self::first(Position::START);

    /// Before the first row, which is there.
    pub const fn first(at: Position) -> Self {
        Self { chunk: 0, at, counted: Counted { invalid: 0, amount: AmountSum::ZERO, other_reading: 0 } }
    }

    /// How many rows lie before it.
    pub fn rows_before(self) -> u64 {
        self.at.row - 1
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Its source is being read, or its loader died and the next one goes on.
    Loading,
    /// Read to the end; some chunks are still on their way.
    Sealed,
    /// Every chunk is recorded.
    Complete,
    /// Its source could not be read to the end; what was read is recorded.
    Failed,
    /// Cancelled by an operator; what was read is recorded.
    Cancelled,
}

impl RunState {
    /// The state as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Sealed => "sealed",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The same as the end of a sentence about the run: "is complete", "has failed".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Loading => "is loading",
            Self::Sealed => "is sealed",
            Self::Complete => "is complete",
            Self::Failed => "has failed",
            Self::Cancelled => "is cancelled",
        }
    }

    /// Whether nothing more will come of the run: the law holds from here on.
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
            .ok_or_else(|| ParseRunError(text.to_owned(), "it is no state of a run"))
    }
}

/// What the reader counted when it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Data rows, whatever became of them.
    pub rows_read: u64,
    /// Chunks: the identities are 0 to this, exclusive.
    pub chunks_total: u64,
    /// The sum of all amounts that could be read. Not known where somebody else sealed the run than its reader.
    pub amount: Option<AmountSum>,
}

impl Sealed {
    /// What is read up to a checkpoint.
    pub fn at(checkpoint: Checkpoint) -> Self {
        let amount = Some(checkpoint.counted.amount);
        Self { rows_read: checkpoint.rows_before(), chunks_total: checkpoint.chunk, amount }
    }

    /// Whether both end at the same row and chunk.
    pub fn ends_as(self, other: Self) -> bool {
        (self.rows_read, self.chunks_total) == (other.rows_read, other.chunks_total)
    }
}

/// A run as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its name.
    pub run_id: RunId,
    /// What it reads.
    pub source: SourceIdentity,
    /// How far it is.
    pub state: RunState,
    /// What was frozen at its start.
    pub settings: RunSettings,
    /// Where its loader goes on.
    pub checkpoint: Checkpoint,
    /// What its reader counted, once it came to its end.
    pub sealed: Option<Sealed>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// The order to end it early, where one was given.
    pub stop: Option<StopOrder>,
    /// The size of its source in bytes, where that is known.
    pub source_bytes: Option<u64>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was finished.
    pub finished_at: Option<Timestamp>,
    /// That it was taken back, or is about to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
}

/// The removal of a run: nothing but the numbers of its rows is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Who began it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it began.
    pub began_at: Timestamp,
    /// When nothing was left; none while it goes on, or where it was interrupted.
    pub ended_at: Option<Timestamp>,
}

/// What became of a run's rows, counted from the data rows, never from sums kept on the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Scored and stored.
    pub predicted: u64,
    /// Rejected by a rule.
    pub invalid: u64,
    /// Valid, but not scored or not stored.
    pub failed: u64,
    /// Stored already, with the same content.
    pub duplicate: u64,
}

impl Tally {
    /// Every row that is accounted for.
    pub fn total(self) -> u64 {
        self.predicted + self.invalid + self.failed + self.duplicate
    }

    /// The law: every row that was read has exactly one outcome.
    pub fn accounts_for(self, rows_read: u64) -> bool {
        self.total() == rows_read
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
    fn frozen_settings_are_pinned() {
        let json = serde_json::to_string(&RunSettings::example()).unwrap();
        assert_eq!(
            json,
            r#"{"chunk_rows":100,"chunk_bytes":524288,"cutting":2,"dialect":{"delimiter":"comma","decimal_mark":"point","encoding":"utf-8"},"header":["id","description","amount","timestamp","operation_type","side"],"time_zone":"UTC","namespace":"f8b72323-0e40-5a08-bd7f-039dfb85a9b2","durable_broker":true,"budgets":{},"reading":2}"#
        );
        assert_eq!(serde_json::from_str::<RunSettings>(&json).unwrap(), RunSettings::example());
    }

    #[test]
    fn a_run_that_says_nothing_of_it_is_cut_as_it_began() {
        let json = serde_json::to_string(&RunSettings::example()).unwrap().replace(r#""cutting":2,"#, "");
        assert_eq!(serde_json::from_str::<RunSettings>(&json).unwrap().cutting, Cutting::Raw);
    }

    #[test]
    fn every_state_reads_back() {
        for state in ["loading", "sealed", "complete", "failed", "cancelled"] {
            assert_eq!(state.parse::<RunState>().unwrap().as_str(), state);
        }
    }
}
