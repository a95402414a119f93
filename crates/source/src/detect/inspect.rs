//! Inspects a source: detects its layout from its head.

use std::sync::Arc;
#[cfg(feature = "parquet")]
use std::sync::atomic::Ordering;

use assay_transaction::{
    AmountNotation, AmountSyntax, Columns, Compression, CsvSyntax, DecidedBy, DecimalMark, Decision, DecisionSubject,
    Delimiter, Dialect, Encoding, FieldAccess as _, Format, HeaderError, HeaderRowFinder, JsonNames, Mapping, Position,
    ReadingRules, RunSettings, TimestampFormat,
};

use crate::decode::json;
use crate::detect::head::Head;
use crate::detect::{Detected, SampleText, UndecidedFormat, amounts, encoding, header, timestamps};
use crate::{ByteStream, CsvLayout, FormatOptions, RowBatch, RowReader, SourceError, SourceRow};

/// Rows per batch of the sample.
const SAMPLE_ROWS: usize = 1_000;

/// How to read a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLayout {
    /// Its format.
    pub format: Format,
    /// Its compression.
    pub compression: Compression,
    /// Delimiter, decimal mark and encoding.
    pub dialect: Dialect,
    /// The format of its timestamps.
    pub timestamps: TimestampFormat,
    /// The trimmed names of its columns, including the required ones.
    pub header: Vec<String>,
    /// The position of its first row.
    pub start: Position,
    /// Peculiarities of a CSV source.
    pub csv: CsvSyntax,
    /// The notation of its amounts apart from the decimal mark.
    pub amounts: AmountSyntax,
    /// What was decided, and by what evidence.
    pub decisions: Vec<Decision>,
    /// How columns map to ours, with values from the path filled in.
    pub mapping: Option<Arc<Mapping>>,
}

impl SourceLayout {
    /// Adds the layout to the settings of a run.
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

/// The result of an inspection.
#[derive(Debug)]
pub struct Inspection {
    /// How to read the source.
    pub layout: SourceLayout,
    /// The complete rows of the head.
    pub sample: Vec<RowBatch>,
    /// The number of rows, if certain: the head is the whole source, or the source states it.
    pub rows: Option<u64>,
    /// Bytes of the source, as stored, that the sample takes.
    pub sample_bytes: u64,
}

impl Inspection {
    /// Rows of the sample.
    pub fn sample_rows(&self) -> u64 {
        self.sample.iter().map(|batch| batch.len() as u64).sum()
    }

    /// Estimates the rows of a source of this size from the sample.
    pub fn estimated_rows(&self, size: u64) -> u64 {
        let rows = u128::from(self.sample_rows()) * u128::from(size) / u128::from(self.sample_bytes.max(1));
        self.rows.unwrap_or_else(|| u64::try_from(rows).unwrap_or(u64::MAX))
    }
}

/// Reads the head of a decompressed text source from its first byte, and detects what the options leave open. A source
/// may have a header and no rows.
pub async fn inspect(stream: &mut ByteStream, options: &FormatOptions) -> Result<Inspection, SourceError> {
    inspect_head(&Head::read(stream, options).await?, options).await
}

/// Inspects a head that has been read.
pub(crate) async fn inspect_head(head: &Head, options: &FormatOptions) -> Result<Inspection, SourceError> {
    if options.frozen.is_none() {
        encoding::reject_unmarked(head.bytes(), head.encoding)?;
    }
    let format = options.format.map_or_else(|| head.format(), Ok)?;
    let in_utf8 = (format == Format::JsonLines).then(|| head.in_utf8());
    let head = in_utf8.as_ref().unwrap_or(head);
    let (encoding, mapping) = (head.encoding.unwrap_or_default(), options.mapping.as_deref());
    let mut found = match format {
        Format::Csv => DetectedColumns::csv(header::find(head, options, encoding.of_rows()).await?),
        Format::JsonLines => {
            // Check first: objects in another encoding have no names, and would seem to lack columns.
            encoding_decision(head, head.start(), options)?;
            if head.objects().next().is_none() && head.lines().next().is_some() {
                return Err(SourceError::NotJsonLines("its first lines hold no complete object"));
            }
            DetectedColumns::of(header::json::columns(head.objects(), mapping)?, head.start())
        }
        // Its index is at its end.
        Format::Parquet => return Err(SourceError::UnknownDialect { first_line: "`PAR1`".to_owned() }),
    };
    found.decisions.insert(0, format_decision(format, options));
    found.decisions.insert(1, encoding_decision(head, found.start, options)?);
    let (mut sample, mut formats) = detect_values(head, format, &found, encoding, options).await?;
    if let Some(header) = found.header {
        let is_before = |start: Position| start.offset < header.offset;
        for (start, _) in head.lines_from(head.start()).take_while(|(start, _)| is_before(*start)) {
            if is_row_at(head, start, header.offset, &found, &formats, options).await? {
                let what = "is a row under this header".to_owned();
                return Err(UndecidedFormat::NotAPreamble { line: header.line, before: start.line, what }.into());
            }
        }
        if found.is_by_position && is_row_at(head, header, found.start.offset, &found, &formats, options).await? {
            found = found.without_header(header, mapping)?;
            (sample, formats) = detect_values(head, format, &found, encoding, options).await?;
        }
    }
    let start = found.start;
    let layout = formats.layout(format, found, encoding);
    let end = sample.last().and_then(|batch| batch.rows().last()).map_or(start.offset, |row| row.end.offset);
    let mut inspected = Inspection { layout, sample, rows: None, sample_bytes: end };
    inspected.rows = head.is_whole.then(|| inspected.sample_rows());
    Ok(inspected)
}

/// Inspects a Parquet file: its columns and first rows.
#[cfg(feature = "parquet")]
pub(crate) async fn inspect_parquet(
    mut reader: crate::decode::parquet::ParquetReader,
    options: &FormatOptions,
) -> Result<Inspection, SourceError> {
    let columns = Columns::from_names(reader.names(), options.mapping.as_deref())?;
    let rows = Some(reader.rows());
    let sample: Vec<RowBatch> = reader.next_batch(SAMPLE_ROWS).await?.into_iter().collect();
    let formats = ValueFormats::of(&sample, &columns, Encoding::UTF_8, None, options)?;
    let decisions = vec![format_decision(Format::Parquet, options)];
    let found =
        DetectedColumns { decisions, ..DetectedColumns::of(columns, Position { offset: 0, ..Position::START }) };
    let layout = formats.layout(Format::Parquet, found, options.encoding.unwrap_or_default());
    Ok(Inspection { layout, sample, rows, sample_bytes: reader.bytes_read().load(Ordering::Relaxed) })
}

/// The columns of a source, and what is known with them.
struct DetectedColumns {
    delimiter: Delimiter,
    columns: Columns,
    csv: CsvSyntax,
    /// Start of the header of a CSV source.
    header: Option<Position>,
    /// Whether it has no required name: the mapping uses column positions.
    is_by_position: bool,
    /// Position of the first row.
    start: Position,
    decisions: Vec<Decision>,
}

impl DetectedColumns {
    fn of(columns: Columns, start: Position) -> Self {
        let (delimiter, csv, decisions) = (Delimiter::Comma, CsvSyntax::default(), Vec::new());
        Self { delimiter, columns, csv, header: None, is_by_position: false, start, decisions }
    }

    fn csv(found: header::CsvHeader) -> Self {
        let header::CsvHeader { delimiter, columns, csv, is_by_position, start, end, decisions } = found;
        Self { delimiter, columns, csv, header: Some(start), is_by_position, start: end, decisions }
    }

    /// The supposed header is the first row: columns are named by position.
    fn without_header(mut self, first: Position, mapping: Option<&Mapping>) -> Result<Self, HeaderError> {
        let names = (1..=self.columns.count()).map(|place| format!("column_{place}")).collect();
        self.decisions.retain(|decision| decision.what != DecisionSubject::Header);
        self.decisions.push(Decision {
            what: DecisionSubject::Header,
            value: "none".to_owned(),
            by: DecidedBy::Recognised,
            evidence: format!("line {} is a row under the mapping, which names columns by position", first.line),
        });
        let start = Position { row: 1, ..first };
        Ok(Self { columns: Columns::from_names(names, mapping)?, header: None, start, ..self })
    }

    /// How to split its rows.
    fn layout(&self, encoding: Encoding, options: &FormatOptions) -> CsvLayout<'_> {
        let columns = Some(self.columns.count());
        CsvLayout { delimiter: self.delimiter, columns, csv: &self.csv, encoding, rules: options.rules() }
    }
}

/// The complete rows of a head.
async fn sample(mut reader: RowReader, head: &Head) -> Result<Vec<RowBatch>, SourceError> {
    let mut sample = Vec::new();
    while let Some(batch) = reader.next_batch(SAMPLE_ROWS).await? {
        sample.push(batch);
    }
    // It would reuse the storage of the last batch.
    drop(reader);
    for batch in &mut sample {
        batch.keep(|row| head.has_whole(row));
    }
    sample.retain(|batch| !batch.is_empty());
    Ok(sample)
}

fn format_decision(format: Format, options: &FormatOptions) -> Decision {
    let (by, evidence) = match (options.format, format) {
        (Some(_), _) => (DecidedBy::Set, ""),
        (None, Format::Csv) => (DecidedBy::Recognised, "no other format begins like this"),
        (None, Format::JsonLines) => (DecidedBy::Recognised, "its first line is an object"),
        (None, Format::Parquet) => (DecidedBy::Recognised, "its first bytes are those of the format"),
    };
    Decision { what: DecisionSubject::Format, value: format.name().to_owned(), by, evidence: evidence.to_owned() }
}

/// How the encoding was decided; an error if the text is not UTF-8 and nothing declares its encoding.
fn encoding_decision(head: &Head, start: Position, options: &FormatOptions) -> Result<Decision, UndecidedFormat> {
    let Some(encoding) = head.encoding else {
        return encoding::check_utf8(head.whole_lines_from(start)).map(encoding::Utf8Lines::decision);
    };
    let (by, evidence) = match options.encoding {
        Some(set) if set == encoding => (DecidedBy::Set, String::new()),
        Some(set) => (DecidedBy::Recognised, format!("{}, which overrides the setting {set}", Decision::BY_MARK)),
        None => (DecidedBy::Recognised, Decision::BY_MARK.to_owned()),
    };
    Ok(Decision { what: DecisionSubject::Encoding, value: encoding.name().to_owned(), by, evidence })
}

/// The formats of values, from options and sample.
struct ValueFormats {
    mark: Detected<Option<DecimalMark>>,
    timestamps: Detected<TimestampFormat>,
    /// Whether timestamps are texts that a format reads.
    has_timestamps: bool,
    currencies: Vec<String>,
    mapping: Option<Arc<Mapping>>,
}

impl ValueFormats {
    fn of(
        sample: &[RowBatch],
        columns: &Columns,
        encoding: Encoding,
        headers: Option<&HeaderRowFinder<'_>>,
        options: &FormatOptions,
    ) -> Result<Self, UndecidedFormat> {
        // Repeated headers and trailers say nothing of the rows.
        let is_header = |row: &SourceRow<'_>| headers.is_some_and(|headers| headers.find(&row.fields).is_some());
        let trailer = options.trailer.as_ref();
        let is_trailer =
            |row: &SourceRow<'_>| trailer.is_some_and(|it| it.is(&row.fields, encoding, ReadingRules::Second));
        let rows = || whole_rows(sample, columns).take_while(|row| !is_trailer(row)).filter(|row| !is_header(row));
        let currencies = options.currencies().to_vec();
        let mark = if let Some(mark) = options.decimal_mark {
            set_by_option(Some(mark))
        } else {
            let texts = rows().flat_map(|row| {
                let texts = columns.amount_texts(row.number, &row.fields, encoding);
                texts.into_iter().map(move |text| SampleText { row: row.number, text })
            });
            amounts::detect(&texts.collect::<Vec<_>>(), &currencies)?
        };
        let date = |row: SourceRow<'_>| {
            let text = columns.date_text(row.number, &row.fields, encoding)?;
            Some(SampleText { row: row.number, text })
        };
        let dates: Vec<SampleText> = rows().filter_map(date).collect();
        let has_timestamps = !dates.is_empty() || rows().next().is_none();
        let timestamps = match &options.timestamp_format {
            Some(format) => set_by_option(format.clone()),
            None => timestamps::detect(&dates)?,
        };
        Ok(Self { mark, timestamps, has_timestamps, currencies, mapping: options.mapping.clone() })
    }

    fn mark(&self) -> DecimalMark {
        self.mark.value.unwrap_or(DecimalMark::Point)
    }

    /// The layout, its decisions in the order they were made.
    fn layout(self, format: Format, found: DetectedColumns, encoding: Encoding) -> SourceLayout {
        let dialect = Dialect { delimiter: found.delimiter, decimal_mark: self.mark(), encoding };
        let (header, start, csv, mut decisions) =
            (found.columns.names().to_vec(), found.start, found.csv, found.decisions);
        let mark = match self.mark.value {
            Some(DecimalMark::Point) => "point",
            Some(DecimalMark::Comma) => "comma",
            None => "not known",
        };
        let Detected { by, evidence, value } = self.mark;
        decisions.push(Decision { what: DecisionSubject::DecimalMark, value: mark.to_owned(), by, evidence });
        let amounts = AmountSyntax { currencies: self.currencies, is_mark_unknown: value.is_none() };
        let Detected { by, evidence, value: timestamps } = self.timestamps;
        if self.has_timestamps {
            decisions.push(Decision { what: DecisionSubject::Timestamps, value: timestamps.to_string(), by, evidence });
        }
        let (compression, mapping) = (Compression::None, self.mapping);
        SourceLayout { format, compression, dialect, timestamps, header, start, csv, amounts, decisions, mapping }
    }
}

fn set_by_option<T>(value: T) -> Detected<T> {
    Detected { value, by: DecidedBy::Set, evidence: String::new() }
}

/// Rows with as many fields as the header.
fn whole_rows<'a>(sample: &'a [RowBatch], columns: &Columns) -> impl Iterator<Item = SourceRow<'a>> {
    let count = columns.count();
    sample.iter().flat_map(RowBatch::rows).filter(move |row| row.fields.count() == count)
}

/// Reads the sample, and detects the formats of its values.
async fn detect_values(
    head: &Head,
    format: Format,
    found: &DetectedColumns,
    encoding: Encoding,
    options: &FormatOptions,
) -> Result<(Vec<RowBatch>, ValueFormats), SourceError> {
    let mapping = options.mapping.as_deref();
    let (reader, of_rows) = if format == Format::Csv {
        let of_rows = encoding.of_rows();
        (header::rows(head, &found.layout(of_rows, options), found.start).into(), of_rows)
    } else {
        let names = JsonNames::mapped(found.columns.names(), mapping);
        (RowReader::from(json::reader(head, names, found.start)), Encoding::UTF_8)
    };
    let sample = sample(reader, head).await?;
    let headers = (format == Format::Csv).then(|| HeaderRowFinder::new(&found.columns, mapping, of_rows)).flatten();
    let formats = ValueFormats::of(&sample, &found.columns, of_rows, headers.as_ref(), options)?;
    Ok((sample, formats))
}

/// Whether a line that would be skipped is a row under this header, and ends before an offset.
async fn is_row_at(
    head: &Head,
    start: Position,
    before: u64,
    found: &DetectedColumns,
    formats: &ValueFormats,
    options: &FormatOptions,
) -> Result<bool, SourceError> {
    let (columns, encoding) = (&found.columns, head.encoding.unwrap_or_default().of_rows());
    let layout = found.layout(encoding, options);
    let notation = AmountNotation::new(ReadingRules::Second, formats.mark.value, &formats.currencies);
    let Some(first) = header::rows(head, &layout, start).next_batch(1).await? else { return Ok(false) };
    let is_row = |row: &SourceRow<'_>| {
        let texts = columns.amount_texts(row.number, &row.fields, encoding);
        let has_amount =
            !texts.is_empty() && texts.iter().all(|text| assay_transaction::Amount::read(text, &notation).is_ok());
        let has_timestamp = match columns.date_text(row.number, &row.fields, encoding) {
            Some(date) => formats.timestamps.value.reads_as_evidence(&date).is_some(),
            None => columns.has_epoch_timestamp(row.number, &row.fields, encoding),
        };
        let is_of_column = |name| (0..columns.count()).any(|index| columns.fields_of(index).contains(&name));
        // Column names are neither amounts nor dates, so one of them distinguishes a faulty row from a header.
        let is_one = found.is_by_position
            && (has_amount && is_of_column("amount") || has_timestamp && is_of_column("timestamp"));
        row.fields.count() == columns.count() && (has_amount && has_timestamp || is_one)
    };
    Ok(first.rows().take(1).any(|row| row.end.offset <= before && is_row(&row)))
}
