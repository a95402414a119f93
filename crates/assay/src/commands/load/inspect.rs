//! `assay inspect`: shows how a source would be read, from its head alone. Loads nothing, and connects to nothing but the source.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use assay_loader::{LoadError, ReadOptions};
use assay_source::{Inspection, S3Options, SourceRow, SourceUrl, Sources};
use assay_telemetry::LogOptions;
use assay_transaction::{
    Columns, DecimalMark, Decision, Encoding, Exit, FieldAccess as _, Format, Rejection, Rules, RunSettings,
    mask_card_numbers,
};
use clap::Args;
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{FieldList, Table, counted, grouped, one_line, print};

/// Invalid rows that are shown.
const SHOWN_REJECTS: usize = 10;
/// Values of a column that are shown.
const SHOWN_VALUES: usize = 3;
/// Longest value that is shown.
const SHOWN_CHARACTERS: usize = 24;
/// Longest name or message that is shown.
const SHOWN_MESSAGE: usize = 120;
/// Longest location that is shown.
const SHOWN_SOURCE: usize = 1024;

/// Show how a source would be read: format, dialect, columns, invalid rows, and number of requests
///
/// Reads only the first 256 KiB; of a Parquet file, its index and first rows. Loads nothing. Exits 4 when the source cannot be
/// read.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The source: a file, s3://bucket/key, or - for stdin
    #[arg(env = "SOURCE_URL", value_name = "FILE_OR_S3_URL")]
    pub(crate) source_url: SourceUrl,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
    #[command(flatten)]
    pub(crate) s3: S3Options,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Inspects a source.
pub(crate) async fn inspect(arguments: &InspectArguments) -> Result<Exit, CommandError> {
    let InspectArguments { source_url: url, read, .. } = arguments;
    let sources = Sources::new(&arguments.s3)?;
    let found = sources.identify(url).await?;
    let inspected = sources
        .inspect(url, &found, &read.format)
        .await
        .map_err(|cause| LoadError::Layout { location: url.to_string(), cause: Box::new(cause) })?;
    let settings = read.settings(&inspected, found.size, url);
    let request_rows = read.api_batch_size.min(settings.chunk_rows);
    let report = InspectReport::new(found.identity.location, found.size, &inspected, &settings, request_rows)?;
    print(&report, arguments.json)?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct InspectReport {
    source: String,
    bytes: u64,
    format: &'static str,
    compression: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delimiter: Option<char>,
    decimal_mark: char,
    encoding: Encoding,
    timestamps: String,
    time_zone: String,
    decided: Vec<Decision>,
    columns: Vec<ColumnReport>,
    rows: RowEstimate,
    sampled_rows: u64,
    rejected: BTreeMap<String, u64>,
    first_rejects: Vec<SampleReject>,
    api_calls: u64,
    api_batch_size: u32,
}

#[derive(Debug, Serialize)]
struct RowEstimate {
    count: u64,
    is_exact: bool,
}

#[derive(Debug, Serialize)]
struct ColumnReport {
    name: String,
    /// The fields of a transaction that it becomes.
    field: Option<String>,
    /// The attribute that it becomes.
    attribute: Option<String>,
    kind: ValueKind,
    empty: u64,
    examples: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SampleReject {
    row: u64,
    line: u64,
    reason: String,
    message: String,
}

/// The type of all values of a column that are not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum ValueKind {
    Empty,
    Integer,
    Decimal,
    Timestamp,
    Uuid,
    Text,
}

impl InspectReport {
    fn new(
        source: String,
        bytes: u64,
        inspected: &Inspection,
        settings: &RunSettings,
        request_rows: NonZeroU32,
    ) -> Result<Self, CommandError> {
        let columns =
            Columns::from_names(settings.header.clone(), settings.mapping.as_deref()).map_err(LoadError::from)?;
        let mut seen: Vec<ColumnReport> =
            settings.header.iter().enumerate().map(|(index, name)| ColumnReport::new(name, index, &columns)).collect();
        let rules = Rules::new(columns, settings);
        let (mut rejected, mut first_rejects) = (BTreeMap::new(), Vec::new());
        for row in inspected.sample.iter().flat_map(|batch| batch.rows()) {
            for (index, column) in seen.iter_mut().enumerate() {
                column.add_sample(row.fields.get(index).unwrap_or_default(), settings);
            }
            if let Some(Rejection { reason, message, .. }) = rejection(&rules, &row) {
                *rejected.entry(reason.code().to_owned()).or_default() += 1;
                if first_rejects.len() < SHOWN_REJECTS {
                    first_rejects.push(SampleReject {
                        row: row.number,
                        line: row.line,
                        reason: reason.code().to_owned(),
                        message: one_line(&mask_card_numbers(&message), SHOWN_MESSAGE),
                    });
                }
            }
        }
        let count = inspected.estimated_rows(bytes);
        Ok(Self {
            source,
            bytes,
            format: settings.format.name(),
            compression: settings.compression.name(),
            delimiter: (settings.format == Format::Csv).then(|| char::from(settings.dialect.delimiter.byte())),
            decimal_mark: char::from(settings.dialect.decimal_mark.byte()),
            encoding: settings.dialect.encoding,
            timestamps: settings.timestamps.to_string(),
            time_zone: settings.time_zone.to_string(),
            decided: settings.decisions.clone(),
            columns: seen,
            rows: RowEstimate { count, is_exact: inspected.rows.is_some() },
            sampled_rows: inspected.sample_rows(),
            rejected,
            first_rejects,
            api_calls: api_calls(count, settings.chunk_rows, request_rows),
            api_batch_size: request_rows.get(),
        })
    }
}

/// Requests for these rows: those of each chunk are its own.
fn api_calls(rows: u64, chunk_rows: NonZeroU32, request_rows: NonZeroU32) -> u64 {
    let chunk_rows = u64::from(chunk_rows.get());
    let requests = |rows: u64| rows.div_ceil(u64::from(request_rows.get()));
    rows / chunk_rows * requests(chunk_rows) + requests(rows % chunk_rows)
}

fn rejection(rules: &Rules, row: &SourceRow<'_>) -> Option<Rejection> {
    row.rejection().or_else(|| rules.check(row.number, &row.fields, row.raw_bytes).err())
}

impl ColumnReport {
    fn new(name: &str, index: usize, columns: &Columns) -> Self {
        let fields = columns.fields_of(index);
        Self {
            name: one_line(name, SHOWN_MESSAGE),
            field: (!fields.is_empty()).then(|| fields.join(", ")),
            attribute: columns.attribute_of(index).map(|name| one_line(name, SHOWN_MESSAGE)),
            kind: ValueKind::Empty,
            empty: 0,
            examples: Vec::new(),
        }
    }

    /// What the column becomes, as text.
    fn target(&self) -> String {
        match (&self.field, &self.attribute) {
            (Some(field), Some(attribute)) => format!("{field}, attribute {attribute}"),
            (Some(field), None) => field.clone(),
            (None, Some(attribute)) if *attribute == self.name => "an attribute".to_owned(),
            (None, Some(attribute)) => format!("attribute {attribute}"),
            (None, None) => "left out".to_owned(),
        }
    }

    fn add_sample(&mut self, bytes: &[u8], settings: &RunSettings) {
        let text = settings.encoding_of_rows().decode(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes));
        let text = text.trim();
        if text.is_empty() {
            self.empty += 1;
            return;
        }
        self.kind = self.kind.with(ValueKind::of(text, settings));
        let shown = one_line(&mask_card_numbers(text), SHOWN_CHARACTERS);
        if self.examples.len() < SHOWN_VALUES && !self.examples.contains(&shown) {
            self.examples.push(shown);
        }
    }
}

impl ValueKind {
    fn of(text: &str, settings: &RunSettings) -> Self {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mark = if settings.dialect.decimal_mark == DecimalMark::Comma { ',' } else { '.' };
        match digits.split_once(mark) {
            None if is_number(digits) => Self::Integer,
            Some((integer, fraction)) if is_number(integer) && is_number(fraction) => Self::Decimal,
            _ if settings.timestamps.parse(text, settings.time_zone, settings.reading).is_ok() => Self::Timestamp,
            _ if text.len() == 36 && text.parse::<uuid::Uuid>().is_ok() => Self::Uuid,
            _ => Self::Text,
        }
    }

    /// The type that fits both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Empty, other) => other,
            (one, other) if one == other => one,
            (Self::Integer, Self::Decimal) | (Self::Decimal, Self::Integer) => Self::Decimal,
            _ => Self::Text,
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Empty => "empty",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Timestamp => "timestamp",
            Self::Uuid => "uuid",
            Self::Text => "text",
        })
    }
}

impl fmt::Display for InspectReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", one_line(&self.source, SHOWN_SOURCE))?;
        let mut fields = FieldList::default();
        let compressed =
            if self.compression == "none" { String::new() } else { format!(", compressed with {}", self.compression) };
        fields.add("format", format!("{}{compressed}", self.format));
        fields.add_some("delimiter", self.delimiter.map(|delimiter| format!("{delimiter:?}")));
        fields.add("decimal mark", format!("{:?}", self.decimal_mark));
        fields.add("encoding", self.encoding.name());
        fields.add("timestamps", format!("{}; {} if they have no zone", self.timestamps, self.time_zone));
        fields.add("size", counted(self.bytes, "byte", "bytes"));
        let about = if self.rows.is_exact { "" } else { "about " };
        fields.add("rows", format!("{about}{}", grouped(self.rows.count)));
        fields.add("API calls", format!("{about}{}, {} rows each", grouped(self.api_calls), self.api_batch_size));
        writeln!(out, "{fields}")?;
        let mut table = Table::new(["decided", "is", "by", "evidence"]);
        for Decision { what, value, by, evidence } in &self.decided {
            let [value, evidence] = [value, evidence].map(|text| one_line(&mask_card_numbers(text), SHOWN_MESSAGE));
            table.add([what.to_string(), value, by.to_string(), evidence]);
        }
        writeln!(out, "{table}")?;
        let mut table = Table::new(["column", "is", "holds", ">empty", "such as"]);
        for column in &self.columns {
            table.add([
                column.name.clone(),
                column.target(),
                column.kind.to_string(),
                grouped(column.empty),
                column.examples.join(" | "),
            ]);
        }
        writeln!(out, "{table}")?;
        let rejects: u64 = self.rejected.values().sum();
        let inspected = counted(self.sampled_rows, "row was", "rows were");
        writeln!(out, "{inspected} inspected; {} would be invalid", grouped(rejects))?;
        if rejects == 0 {
            return Ok(());
        }
        let mut table = Table::new([">row", ">line", "reason", "why"]);
        for reject in &self.first_rejects {
            table.add([grouped(reject.row), grouped(reject.line), reject.reason.clone(), reject.message.clone()]);
        }
        write!(out, "\n{table}")?;
        if rejects > self.first_rejects.len() as u64 {
            writeln!(out, "… and {} more", grouped(rejects - self.first_rejects.len() as u64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_type_of_all_its_values() {
        let settings = RunSettings::example();
        let columns = Columns::from_names(settings.header.clone(), None).unwrap();
        let cases: [(&[&str], ValueKind); 8] = [
            (&[], ValueKind::Empty),
            (&["", " "], ValueKind::Empty),
            (&["1", "-2", ""], ValueKind::Integer),
            (&["1", "2.50"], ValueKind::Decimal),
            (&["2023-11-28 06:35:12"], ValueKind::Timestamp),
            (&["67e55044-10b1-426f-9247-bb680e5fe0c8"], ValueKind::Uuid),
            (&["1", "x"], ValueKind::Text),
            (&["1,5"], ValueKind::Text),
        ];
        for (values, expected) in cases {
            let mut column = ColumnReport::new("Amount", 2, &columns);
            for value in values {
                column.add_sample(value.as_bytes(), &settings);
            }
            assert_eq!((column.kind, column.field.as_deref()), (expected, Some("amount")), "{values:?}");
        }
    }

    #[test]
    fn its_json_is_pinned() {
        let settings = RunSettings::example();
        let columns = Columns::from_names(settings.header.clone(), None).unwrap();
        let mut column = ColumnReport::new("Amount", 2, &columns);
        column.add_sample(b"-12.50", &settings);
        let reject = SampleReject { row: 7, line: 8, reason: "id_empty".into(), message: "`id` is empty".into() };
        let report = InspectReport {
            source: "s3://drops/transactions.csv".into(),
            bytes: 1_048_576,
            format: "csv",
            compression: "none",
            delimiter: Some(';'),
            decimal_mark: '.',
            encoding: settings.dialect.encoding,
            timestamps: settings.timestamps.to_string(),
            time_zone: settings.time_zone.to_string(),
            decided: vec![Decision {
                what: assay_transaction::DecisionSubject::Delimiter,
                value: "semicolon".into(),
                by: assay_transaction::DecidedBy::Recognised,
                evidence: "all lines have 7 of it".into(),
            }],
            columns: vec![column],
            rows: RowEstimate { count: 10_000, is_exact: false },
            sampled_rows: 1_000,
            rejected: [("id_empty".to_owned(), 1)].into(),
            first_rejects: vec![reject],
            api_calls: 20,
            api_batch_size: 500,
        };
        crate::output::pin_json("inspect", &report);
    }
}
