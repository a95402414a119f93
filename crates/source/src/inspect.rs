//! The head of a source says how to read it: its format, its columns, and the dialect of its first rows.

use std::sync::Arc;
#[cfg(feature = "parquet")]
use std::sync::atomic::Ordering;

use assay_transaction::{
    AmountText, Columns, Compression, CsvText, DecimalMark, Decision, Delimiter, Dialect, Encoding, Fields as _,
    Format, HeaderError, JsonNames, Mapping, Position, ReadingRules, RunSettings, TimestampFormat,
};

use crate::head::Head;
use crate::{
    ByteStream, CsvLayout, FormatOptions, Row, RowBatch, RowReader, SourceError, csv_header, dates, json, json_header,
};

/// Rows of the head that are put into one batch.
const SAMPLE_ROWS: usize = 1_000;

/// How a source is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In what it holds its rows.
    pub format: Format,
    /// What it is packed with.
    pub compression: Compression,
    /// How its rows are written.
    pub dialect: Dialect,
    /// How its timestamps are.
    pub timestamps: TimestampFormat,
    /// The names of its columns, trimmed; the required ones are among them.
    pub header: Vec<String>,
    /// Where its first row is.
    pub start: Position,
    /// What a CSV source writes in a way of its own.
    pub csv: CsvText,
    /// How its amounts are written, beside their decimal mark.
    pub amounts: AmountText,
    /// What was settled of it, and by what.
    pub decisions: Vec<Decision>,
    /// How its columns become ours, with what comes from its path as it is there.
    pub mapping: Option<Arc<Mapping>>,
}

impl Layout {
    /// Settings with all that was settled of a source.
    #[must_use]
    pub fn freeze(self, settings: RunSettings) -> RunSettings {
        let Self { format, compression, dialect, timestamps, header, start, csv, amounts, decisions, mapping } = self;
        let start = Some(start);
        RunSettings {
            format,
            compression,
            dialect,
            timestamps,
            header,
            start,
            csv,
            amounts,
            decisions,
            mapping,
            ..settings
        }
    }
}

/// What was seen of a source.
#[derive(Debug)]
pub struct Inspected {
    /// How it is to be read.
    pub layout: Layout,
    /// The first rows, those that are whole.
    pub sample: Vec<RowBatch>,
    /// How many rows there are, where that is certain: there are no others, or the source says so.
    pub rows: Option<u64>,
    /// How many bytes of the source, packed as it is, the sample takes.
    pub sample_bytes: u64,
}

impl Inspected {
    /// How many rows the sample has.
    pub fn sample_rows(&self) -> u64 {
        self.sample.iter().map(|batch| batch.len() as u64).sum()
    }

    /// How many rows a source of that size has, if it goes on as it begins.
    pub fn estimated_rows(&self, size: u64) -> u64 {
        let rows = u128::from(self.sample_rows()) * u128::from(size) / u128::from(self.sample_bytes.max(1));
        self.rows.unwrap_or_else(|| u64::try_from(rows).unwrap_or(u64::MAX))
    }
}

/// Reads the head of an unpacked text source from its first byte on, and settles what the options leave open.
///
/// The format is told by the content. The delimiter is the one that finds all required columns in the header, or those that
/// the mapping names; the decimal mark is the one that amounts show; timestamps are ISO 8601, or of the one pattern that reads them. A source with a header
/// and no rows is fine.
pub async fn inspect(stream: &mut ByteStream, options: &FormatOptions) -> Result<Inspected, SourceError> {
    let head = Head::read(stream, options.encoding).await?;
    inspect_head(&head, options).await
}

/// The same with the head that was read.
pub(crate) async fn inspect_head(head: &Head, options: &FormatOptions) -> Result<Inspected, SourceError> {
    let format = options.format.map_or_else(|| head.format(), Ok)?;
    let in_utf8;
    let head = if format == Format::JsonLines {
        in_utf8 = head.in_utf8();
        &in_utf8
    } else {
        head
    };
    let (encoding, mapping) = (head.encoding.unwrap_or_default(), options.mapping.as_deref());
    let (delimiter, columns, start) = match format {
        Format::Csv => {
            let header = csv_header::read(head, options.delimiter, encoding.of_rows(), mapping).await?;
            (header.delimiter, header.columns, header.end)
        }
        Format::JsonLines => (Delimiter::Comma, json_header::columns(head.objects(), mapping)?, head.start()),
        // Its index lies at its end.
        Format::Parquet => return Err(SourceError::Undecidable { first_line: "PAR1".to_owned() }),
    };
    let reader = match format {
        Format::Csv => {
            let (columns, csv) = (Some(columns.names().len()), &CsvText::default());
            let layout = CsvLayout { delimiter, columns, csv, rules: ReadingRules::Second };
            RowReader::from(csv_header::rows(head, &layout, start))
        }
        _ => RowReader::from(json::reader(head, JsonNames::mapped(columns.names(), mapping), start)),
    };
    let sample = sample(reader, head).await?;
    let (dialect, timestamps) = settle(&sample, &columns, format, (delimiter, encoding), options)?;
    let header = columns.names().to_vec();
    let (csv, amounts, decisions) = (CsvText::default(), AmountText::default(), Vec::new());
    let (compression, mapping) = (Compression::None, options.mapping.clone());
    let layout = Layout { format, compression, dialect, timestamps, header, start, csv, amounts, decisions, mapping };
    let end = sample.last().and_then(|batch| batch.rows().last()).map_or(start.offset, |row| row.end.offset);
    let mut inspected = Inspected { layout, sample, rows: None, sample_bytes: end };
    inspected.rows = head.is_whole.then(|| inspected.sample_rows());
    Ok(inspected)
}

/// The columns of a Parquet file, and its first rows.
#[cfg(feature = "parquet")]
pub(crate) async fn inspect_parquet(
    mut reader: crate::parquet::ParquetReader,
    options: &FormatOptions,
) -> Result<Inspected, SourceError> {
    let columns = Columns::from_names(reader.names(), options.mapping.as_deref())?;
    let rows = Some(reader.rows());
    let sample: Vec<RowBatch> = reader.next_batch(SAMPLE_ROWS).await?.into_iter().collect();
    let (dialect, timestamps) =
        settle(&sample, &columns, Format::Parquet, (Delimiter::Comma, Encoding::UTF_8), options)?;
    let header = columns.names().to_vec();
    let (format, compression, start) = (Format::Parquet, Compression::None, Position { offset: 0, ..Position::START });
    let (csv, amounts, decisions) = (CsvText::default(), AmountText::default(), Vec::new());
    let mapping = options.mapping.clone();
    let layout = Layout { format, compression, dialect, timestamps, header, start, csv, amounts, decisions, mapping };
    Ok(Inspected { layout, sample, rows, sample_bytes: reader.taken().load(Ordering::Relaxed) })
}

/// Those rows of a head that are whole.
async fn sample(mut reader: RowReader, head: &Head) -> Result<Vec<RowBatch>, SourceError> {
    let mut sample = Vec::new();
    while let Some(mut batch) = reader.next_batch(SAMPLE_ROWS).await? {
        batch.keep(|row| head.has_whole(row));
        if !batch.is_empty() {
            sample.push(batch);
        }
    }
    Ok(sample)
}

/// The dialect that options and sample leave no doubt of.
pub(crate) fn settle(
    sample: &[RowBatch],
    columns: &Columns,
    format: Format,
    (delimiter, encoding): (Delimiter, Encoding),
    options: &FormatOptions,
) -> Result<(Dialect, TimestampFormat), SourceError> {
    let decimal_mark = options.decimal_mark.unwrap_or_else(|| {
        // Numbers have a point in every other format.
        if format == Format::Csv { decimal_mark(sample, delimiter, columns) } else { DecimalMark::Point }
    });
    let timestamps = match &options.timestamp_format {
        Some(format) => format.clone(),
        None => dates::recognise(&dates_of(sample, columns, encoding.of_rows()))?,
    };
    Ok((Dialect { delimiter, decimal_mark, encoding }, timestamps))
}

/// Rows that have as many fields as the header.
fn whole_rows<'a>(sample: &'a [RowBatch], columns: &Columns) -> impl Iterator<Item = Row<'a>> {
    let count = columns.count();
    sample.iter().flat_map(RowBatch::rows).filter(move |row| row.fields.count() == count)
}

/// What is to be read as a date and time.
fn dates_of(sample: &[RowBatch], columns: &Columns, encoding: Encoding) -> Vec<String> {
    whole_rows(sample, columns).filter_map(|row| columns.date(row.number, &row.fields, encoding)).collect()
}

/// The decimal mark that more of the amounts show. Where they show none, or both as often, it is the comma under a
/// semicolon, which is there to leave it free, and else the point.
fn decimal_mark(sample: &[RowBatch], delimiter: Delimiter, columns: &Columns) -> DecimalMark {
    let (mut points, mut commas) = (0_u64, 0_u64);
    for row in whole_rows(sample, columns) {
        let amount = columns.amount().and_then(|index| row.fields.get(index)).unwrap_or_default();
        match (amount.contains(&b'.'), amount.contains(&b',')) {
            (true, false) => points += 1,
            (false, true) => commas += 1,
            _ => {}
        }
    }
    match points.cmp(&commas) {
        std::cmp::Ordering::Less => DecimalMark::Comma,
        std::cmp::Ordering::Equal if delimiter == Delimiter::Semicolon => DecimalMark::Comma,
        _ => DecimalMark::Point,
    }
}

impl From<HeaderError> for SourceError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}
