//! The settings of a run, frozen when it starts.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AmountText, Budgets, Compression, CsvText, Cutting, Decided, DecidedBy, DecimalMark, Decision, Delimiter, Dialect,
    Encoding, Expected, Format, Mapping, Namespace, Position, Producer, ReadingRules, TimeZone, TimestampFormat,
    Trailer,
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
