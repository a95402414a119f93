//! The settings of a run, frozen when it starts.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AmountSyntax, Budgets, Compression, CsvSyntax, DecidedBy, DecimalMark, Decision, DecisionSubject, Delimiter,
    Dialect, Encoding, ExpectedTotals, Format, IdScheme, Mapping, Namespace, Position, Producer, ReadingRules,
    RowByteRule, TimeZone, TimestampFormat, TrailerPattern,
};

/// The settings frozen when a run starts, so that every later read of the source makes the same chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Most rows of a chunk: `CHUNK_ROWS`, or fewer if the source is small.
    pub chunk_rows: NonZeroU32,
    /// Bytes at which a chunk is full.
    pub chunk_bytes: NonZeroU32,
    /// The rule by which the bytes of rows count. Missing in runs of earlier versions, which use the first.
    #[serde(default, skip_serializing_if = "RowByteRule::is_default")]
    pub cutting: RowByteRule,
    /// How the source writes its rows.
    pub dialect: Dialect,
    /// The format of the source's rows.
    #[serde(default, skip_serializing_if = "Format::is_csv")]
    pub format: Format,
    /// The compression of the source.
    #[serde(default, skip_serializing_if = "Compression::is_none")]
    pub compression: Compression,
    /// How the source writes its timestamps.
    #[serde(default, skip_serializing_if = "TimestampFormat::is_iso")]
    pub timestamps: TimestampFormat,
    /// The names of the source's columns.
    pub header: Vec<String>,
    /// The first row's position, right after the header. Missing in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Position>,
    /// The zone of timestamps that name none.
    pub time_zone: TimeZone,
    /// The namespace of ids.
    pub namespace: Namespace,
    /// The scheme of ids: that of the database. Missing in runs of earlier versions, which use the first.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// Whether the broker of the loader that started the run keeps messages after that process ends.
    #[serde(default = "durable")]
    pub durable_broker: bool,
    /// The error budgets before the run is aborted.
    #[serde(default)]
    pub budgets: Budgets,
    /// How the source's columns map to ours, if they have other names or forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Arc<Mapping>>,
    /// The totals expected of the source.
    #[serde(default, skip_serializing_if = "ExpectedTotals::is_nothing")]
    pub expected: ExpectedTotals,
    /// The pattern of the source's trailer row or footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<TrailerPattern>,
    /// The version of the reading rules. Missing in runs of earlier versions, which use the first.
    #[serde(default)]
    pub reading: ReadingRules,
    /// CSV syntax specific to the source.
    #[serde(default, skip_serializing_if = "CsvSyntax::is_default")]
    pub csv: CsvSyntax,
    /// How amounts are written, apart from their decimal mark.
    #[serde(default, skip_serializing_if = "AmountSyntax::is_default")]
    pub amounts: AmountSyntax,
    /// The decisions about the source at the start of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

impl RunSettings {
    /// Where a decision came from; the default if there is none.
    pub fn decided_by(&self, what: DecisionSubject) -> DecidedBy {
        self.decisions.iter().find(|decision| decision.what == what).map_or(DecidedBy::Default, |decision| decision.by)
    }

    /// Whether the source is converted to UTF-8 first: if a character may take several bytes, and for JSON, whose
    /// grammar allows no other encoding.
    pub fn is_transcoded(&self) -> bool {
        let Dialect { encoding, .. } = self.dialect;
        let is_json = self.reading >= ReadingRules::Second && self.format == Format::JsonLines;
        encoding.is_transcoded() || is_json && encoding != Encoding::UTF_8
    }

    /// The encoding of row bytes, whatever the source's is.
    pub fn encoding_of_rows(&self) -> Encoding {
        let has_text = self.reading >= ReadingRules::Second && self.format == Format::Parquet;
        if has_text || self.is_transcoded() { Encoding::UTF_8 } else { self.dialect.encoding }
    }
}

/// The value of runs older than this setting.
fn durable() -> bool {
    true
}

impl RunSettings {
    /// Most rows of a chunk, unless `CHUNK_ROWS` is set: from here on, larger messages save RabbitMQ and PostgreSQL little.
    pub const CHUNK_ROWS: NonZeroU32 = NonZeroU32::new(500).unwrap();
    /// Bytes at which a chunk is full: 512 KiB, far above chunks of usual rows. A process holds many of them at once.
    pub const CHUNK_BYTES: NonZeroU32 = NonZeroU32::new(512 * 1024).unwrap();

    /// The settings of a live run: JSON rows, in UTC, with ids unique per producer. Everything else is set at its
    /// producer and the predictors.
    pub fn live(producer: &Producer, ids: IdScheme) -> Self {
        let namespace = Namespace::new(&format!("live:{producer}"));
        Self { format: Format::JsonLines, ids, ..Self::standard(namespace) }
    }

    /// The settings for reading a producer's live transactions: `TIME_ZONE` and, if set, `ID_NAMESPACE`.
    pub fn live_read_in(producer: &Producer, time_zone: TimeZone, id_namespace: Option<&str>, ids: IdScheme) -> Self {
        let live = Self { time_zone, ..Self::live(producer, ids) };
        match id_namespace.filter(|name| !name.is_empty()) {
            Some(name) => Self { namespace: Namespace::new(name), ..live },
            None => live,
        }
    }

    /// Settings for examples and tests.
    pub fn example() -> Self {
        Self::standard(Namespace::new("example"))
    }

    /// The defaults: CSV with comma and decimal point, UTF-8, in UTC, in chunks of 100 rows, with the required columns.
    pub fn standard(namespace: Namespace) -> Self {
        Self {
            chunk_rows: const { NonZeroU32::new(100).unwrap() },
            chunk_bytes: Self::CHUNK_BYTES,
            cutting: RowByteRule::Encoded,
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
            ids: IdScheme::V5,
            durable_broker: true,
            budgets: Budgets::default(),
            mapping: None,
            expected: ExpectedTotals::default(),
            trailer: None,
            reading: ReadingRules::Second,
            csv: CsvSyntax::default(),
            amounts: AmountSyntax::default(),
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
    fn a_scheme_of_ids_is_frozen_and_a_run_without_one_uses_the_first() {
        let settings = RunSettings { ids: IdScheme::V8, ..RunSettings::example() };
        let json = serde_json::to_string(&settings).unwrap();
        assert!(json.contains(r#""namespace":"f8b72323-0e40-5a08-bd7f-039dfb85a9b2","ids":8,"#), "{json}");
        assert_eq!(serde_json::from_str::<RunSettings>(&json).unwrap(), settings);
        assert_eq!(serde_json::from_str::<RunSettings>(&json.replace(r#""ids":8,"#, "")).unwrap().ids, IdScheme::V5);
    }

    #[test]
    fn a_run_without_a_cutting_rule_uses_the_first() {
        let json = serde_json::to_string(&RunSettings::example()).unwrap().replace(r#""cutting":2,"#, "");
        assert_eq!(serde_json::from_str::<RunSettings>(&json).unwrap().cutting, RowByteRule::Raw);
    }
}
