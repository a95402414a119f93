//! The header search: which line of a CSV source is the header, and its delimiter.
//!
//! The header is the first line with every required name: the required columns, or those of the mapping. Lines before
//! it are skipped if they are reports, comments or `sep=;`; rows or another header there are an error.

use std::io::Cursor;

use assay_transaction::{
    Columns, CsvSyntax, DecidedBy, Decision, DecisionSubject, Delimiter, Encoding, FieldAccess as _, HeaderError,
    HeaderRowFinder, Mapping, Position, REQUIRED_COLUMNS, ReadingRules, json_members, name_key, quoted, shape, trimmed,
};

pub(crate) mod json;
mod row_shape;

use super::{UndecidedFormat, encoding};
use crate::detect::head::{HEAD_BYTES, Head};
use crate::{CsvLayout, CsvReader, FormatOptions, SourceError};
use row_shape::RowShapes;

/// Physical lines searched, including blank ones.
const MAX_LINES: usize = 50;
/// Most names considered in an error.
const MOST_NAMES: usize = 5_000;
/// Bytes that show whether a head is text.
const TEXT_SAMPLE_BYTES: usize = 4_096;
/// The longest line searched for other delimiters.
const LONGEST_HEADER: usize = 16 * 1024;
/// The longest possible required name, in bytes.
const LONGEST_NAME: usize = 1_024;

/// A header, and how to split the rows below it.
#[derive(Debug)]
pub(crate) struct CsvHeader {
    pub(crate) delimiter: Delimiter,
    pub(crate) columns: Columns,
    pub(crate) csv: CsvSyntax,
    /// Whether it has no required name: the mapping uses column positions.
    pub(crate) is_by_position: bool,
    /// Its start.
    pub(crate) start: Position,
    /// Its end.
    pub(crate) end: Position,
    pub(crate) decisions: Vec<Decision>,
}

/// Finds the header of a head in this encoding.
pub(crate) async fn find(head: &Head, options: &FormatOptions, encoding: Encoding) -> Result<CsvHeader, SourceError> {
    let search = HeaderSearch { head, options, encoding, required: required(options.mapping.as_deref()) };
    if options.rules() == ReadingRules::First { search.v1_header().await } else { search.run().await }
}

/// The rows of a head from a position.
pub(crate) fn rows(head: &Head, layout: &CsvLayout<'_>, from: Position) -> CsvReader {
    CsvReader::new(Box::pin(Cursor::new(head.from(from.offset))), layout, from)
}

/// The names that a header must have, normalised.
fn required(mapping: Option<&Mapping>) -> Vec<String> {
    match mapping {
        Some(mapping) => mapping.columns().into_iter().map(name_key).collect(),
        None => REQUIRED_COLUMNS.map(name_key).to_vec(),
    }
}

/// A line split by one delimiter.
#[derive(Debug)]
struct CandidateLine {
    delimiter: Delimiter,
    start: Position,
    end: Position,
    /// The first name that is not valid text, if any; names are lossy then.
    broken: Option<usize>,
    names: Vec<String>,
}

/// The line that is closest to a header.
struct ClosestLine {
    /// Number of required names, and of names.
    rank: (usize, usize),
    line: CandidateLine,
}

struct HeaderSearch<'a> {
    head: &'a Head,
    options: &'a FormatOptions,
    encoding: Encoding,
    required: Vec<String>,
}

impl HeaderSearch<'_> {
    /// The header of a V1 run is its first row.
    async fn v1_header(&self) -> Result<CsvHeader, SourceError> {
        let delimiter = self.options.delimiter.unwrap_or(Delimiter::Comma);
        let csv = self.options.csv();
        let (encoding, rules) = (self.encoding, ReadingRules::First);
        let layout = CsvLayout { delimiter, columns: None, csv: &csv, encoding, rules };
        let start = self.head.start();
        let first = rows(self.head, &layout, start).next_batch(1).await?.ok_or(SourceError::Empty)?;
        let row = first.rows().next().ok_or(SourceError::Empty)?;
        if row.malformed.is_some() || !self.head.has_whole(&row) {
            return Err(SourceError::HeaderTooLong { limit: HEAD_BYTES });
        }
        let fields = (0..row.fields.count()).filter_map(|index| row.fields.get(index));
        let line = self.line(delimiter, start, row.end, fields);
        let columns = self.columns(&line)?;
        let end = line.end;
        Ok(CsvHeader { delimiter, columns, csv, is_by_position: false, start, end, decisions: Vec::new() })
    }

    async fn run(&self) -> Result<CsvHeader, SourceError> {
        let mut closest: Option<ClosestLine> = None;
        let (mut separator, mut is_cut, mut looked_at) = (None, false, 0);
        for (start, text) in self.head.lines_from(self.head.start()).take(MAX_LINES) {
            if text.trim_ascii().is_empty() {
                continue;
            }
            looked_at += 1;
            if let (1, Some(delimiter)) = (looked_at, declared_separator(text)) {
                separator = Some((start.line, delimiter));
                continue;
            }
            let mut found = Vec::new();
            for delimiter in self.delimiters(separator.map(|(_, delimiter)| delimiter)) {
                let Some(line) = self.split(delimiter, start, text).await? else {
                    is_cut = true;
                    continue;
                };
                let rank = (self.count_required(&line.names), line.names.len());
                match self.may_be_header(rank.0).then(|| self.columns(&line)) {
                    // A mapping by position accepts any line, even a comment or a row.
                    Some(Ok(columns)) if rank.0 > 0 || self.shape(&line, &columns).await?.may_fit() => {
                        found.push((line, columns));
                    }
                    Some(Err(error)) if self.is_complete(rank.0) => return Err(self.refuse(&line, error)),
                    _ if closest.as_ref().is_none_or(|closest| rank > closest.rank) => {
                        closest = Some(ClosestLine { rank, line });
                    }
                    _ => {}
                }
            }
            if let Some(found) = self.choose(found).await? {
                self.refuse_two_headers(closest.as_ref(), &found.0)?;
                return self.accept(found, separator).await;
            }
        }
        if looked_at == 0 {
            return Err(SourceError::Empty);
        }
        let tried = self.delimiters(separator.map(|(_, delimiter)| delimiter));
        Err(self.no_header_error(closest, &tried, is_cut, looked_at))
    }

    /// The delimiters to try.
    fn delimiters(&self, separator: Option<Delimiter>) -> Vec<Delimiter> {
        match self.options.delimiter.or(separator) {
            Some(delimiter) => vec![delimiter],
            None => Delimiter::ALL.to_vec(),
        }
    }

    /// Splits the row that starts at a line; none if it does not end within the head or its quotes are malformed.
    async fn split(
        &self,
        delimiter: Delimiter,
        start: Position,
        text: &[u8],
    ) -> Result<Option<CandidateLine>, SourceError> {
        let csv = self.options.csv();
        // Most lines have no quotes: split them without a reader.
        if !text.contains(&b'"') && csv.escape.is_none() {
            let end = self.head.lines_from(start).behind_next();
            let fields = text.split(|byte| *byte == delimiter.byte());
            return Ok(self.head.is_before_end(end).then(|| self.line(delimiter, start, end, fields)));
        }
        let (encoding, rules) = (self.encoding, self.options.rules());
        let layout = CsvLayout { delimiter, columns: None, csv: &csv, encoding, rules };
        let first = rows(self.head, &layout, start).next_batch(1).await?.ok_or(SourceError::Empty)?;
        let row = first.rows().next().ok_or(SourceError::Empty)?;
        if row.malformed.is_some() || !self.head.has_whole(&row) {
            return Ok(None);
        }
        let fields = (0..row.fields.count()).filter_map(|index| row.fields.get(index));
        Ok(Some(self.line(delimiter, start, row.end, fields)))
    }

    fn line<'b>(
        &self,
        delimiter: Delimiter,
        start: Position,
        end: Position,
        fields: impl Iterator<Item = &'b [u8]>,
    ) -> CandidateLine {
        let mut broken = None;
        let decode = |(index, bytes): (usize, &'b [u8])| {
            let name = self.encoding.decode(bytes).unwrap_or_else(|| {
                broken = broken.or(Some(index));
                String::from_utf8_lossy(bytes)
            });
            trimmed(&name).to_owned()
        };
        let names = fields.enumerate().map(decode).collect();
        CandidateLine { delimiter, start, end: Position { row: 1, ..end }, broken, names }
    }

    fn columns(&self, line: &CandidateLine) -> Result<Columns, HeaderError> {
        let columns = Columns::from_names(line.names.clone(), self.options.mapping.as_deref())?;
        line.broken.map_or(Ok(columns), |index| Err(HeaderError::NotText(index + 1)))
    }

    fn count_required(&self, names: &[String]) -> usize {
        let mut found = vec![false; self.required.len()];
        for name in names.iter().filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME) {
            let name = name_key(name);
            if let Some(place) = self.required.iter().position(|required| *required == name) {
                found[place] = true;
            }
        }
        found.into_iter().filter(|is_there| *is_there).count()
    }

    /// Whether to check all columns: a mapping may use positions, or require no name.
    fn may_be_header(&self, count: usize) -> bool {
        self.options.mapping.is_some() || self.is_complete(count)
    }

    /// Whether a line with this many required names is the header, whatever else is wrong.
    fn is_complete(&self, count: usize) -> bool {
        count > 0 && count == self.required.len()
    }

    /// The error for an unusable header.
    fn refuse(&self, line: &CandidateLine, error: HeaderError) -> SourceError {
        match error {
            HeaderError::NotText(_) if self.options.encoding.is_none() && self.is_text() => {
                self.not_utf8(line.start).into()
            }
            error => error.into(),
        }
    }

    /// The error for a line that is not UTF-8.
    fn not_utf8(&self, start: Position) -> UndecidedFormat {
        let mut lines = self.head.lines_from(start).map(|(_, line)| line);
        let line = lines.next().unwrap_or_default();
        encoding::not_utf8(start.line, line, self.head.lines_from(self.head.start()).map(|(_, line)| line))
    }

    /// Chooses the delimiter whose header fits the rows.
    async fn choose(
        &self,
        mut found: Vec<(CandidateLine, Columns)>,
    ) -> Result<Option<(CandidateLine, Columns)>, SourceError> {
        if self.options.delimiter.is_none()
            && let [(line, _)] = &found[..]
            && let Some(between) = multi_character_delimiter(&line.names, line.delimiter)
        {
            return Err(UndecidedFormat::LongDelimiter { line: line.start.line, between: quoted(&between) }.into());
        }
        if found.len() < 2 {
            return Ok(found.pop());
        }
        let (line, delimiters) =
            (found[0].0.start.line, [&found[0].0, &found[1].0].map(|line| quoted_delimiter(line.delimiter)));
        let mut fitting = Vec::new();
        for (line, columns) in found {
            if self.shape(&line, &columns).await?.fits() {
                fitting.push((line, columns));
            }
        }
        let [one, two] = delimiters;
        match fitting.len() {
            1 => Ok(fitting.pop()),
            _ => Err(UndecidedFormat::TwoDelimiters { line, one, two }.into()),
        }
    }

    /// The shapes of the rows below a header.
    async fn shape(&self, line: &CandidateLine, columns: &Columns) -> Result<RowShapes, SourceError> {
        let (csv, encoding, rules) = (self.options.csv(), self.encoding, self.options.rules());
        let layout = CsvLayout { delimiter: line.delimiter, columns: None, csv: &csv, encoding, rules };
        let headers = HeaderRowFinder::new(columns, self.options.mapping.as_deref(), encoding);
        RowShapes::of(rows(self.head, &layout, line.end), self.head, columns.count(), headers.as_ref()).await
    }

    /// A line with half of the required names is not a preamble but the header of another table.
    fn refuse_two_headers(&self, closest: Option<&ClosestLine>, header: &CandidateLine) -> Result<(), UndecidedFormat> {
        match closest {
            Some(ClosestLine { rank: (names, _), line })
                if line.start.line < header.start.line && *names >= 2 && names * 2 >= self.required.len() =>
            {
                let what = format!("has {names} of {} of them", self.required.len());
                Err(UndecidedFormat::NotAPreamble { line: header.start.line, before: line.start.line, what })
            }
            _ => Ok(()),
        }
    }

    /// Accepts a header after checking the ends of its rows.
    async fn accept(
        &self,
        (line, mut columns): (CandidateLine, Columns),
        separator: Option<(u64, Delimiter)>,
    ) -> Result<CsvHeader, SourceError> {
        let mut decisions = vec![self.delimiter_decision(&line, separator)];
        if line.start.line > 1 {
            let evidence = format!(
                "the first line with every required column; {} before it {} skipped",
                super::format_count_of(usize::try_from(line.start.line - 1).unwrap_or(usize::MAX), "line", "lines"),
                if line.start.line == 2 { "is" } else { "are" },
            );
            let value = format!("line {}", line.start.line);
            decisions.push(Decision { what: DecisionSubject::Header, value, by: DecidedBy::Recognised, evidence });
        }
        let mut csv = self.options.csv();
        let shape = self.shape(&line, &columns).await?;
        let ends_empty = line.names.last().is_some_and(String::is_empty);
        if let Some(without) = ends_empty.then(|| line.names[..line.names.len() - 1].to_vec())
            && shape.is_last_column_empty()
            && let Ok(fewer) = Columns::from_names(without, self.options.mapping.as_deref())
        {
            columns = fewer;
            csv.trailing_delimiter = shape.repeats_header_delimiter();
        } else {
            csv.trailing_delimiter = shape.has_trailing_delimiter();
        }
        if csv.trailing_delimiter || columns.count() < line.names.len() {
            decisions.push(shape.decision(ends_empty, csv.trailing_delimiter));
        }
        if let Some(index) = columns.names().iter().position(|name| name.contains('\0')) {
            return Err(HeaderError::NulByte { name: columns.names()[index].clone(), place: index + 1 }.into());
        }
        let is_by_position = self.count_required(&line.names) == 0;
        let CandidateLine { delimiter, start, end, .. } = line;
        Ok(CsvHeader { delimiter, columns, csv, is_by_position, start, end, decisions })
    }

    fn delimiter_decision(&self, line: &CandidateLine, separator: Option<(u64, Delimiter)>) -> Decision {
        let (by, evidence) = match (self.options.delimiter, separator) {
            (Some(_), _) => (DecidedBy::Set, String::new()),
            (None, Some((number, _))) => (DecidedBy::Recognised, format!("line {number} declares it")),
            (None, None) => (DecidedBy::Recognised, "no other delimiter yields every required column".to_owned()),
        };
        Decision { what: DecisionSubject::Delimiter, value: quoted_delimiter(line.delimiter), by, evidence }
    }

    /// The error if no line is a header: names the closest one.
    fn no_header_error(
        &self,
        closest: Option<ClosestLine>,
        tried: &[Delimiter],
        is_cut: bool,
        looked_at: usize,
    ) -> SourceError {
        if self.options.encoding.is_none() && self.is_text() {
            let mut lines = self.head.lines_from(self.head.start()).take(MAX_LINES);
            let is_broken = |line| std::str::from_utf8(line).is_err_and(|error| error.error_len().is_some());
            if let Some((start, _)) = lines.find(|(_, line)| is_broken(line)) {
                return self.not_utf8(start).into();
            }
        }
        if let Some(undecided) = self.find_other_delimiter(tried) {
            return undecided.into();
        }
        if let Some(encoding) = self.misdeclared_encoding(closest.as_ref()) {
            return UndecidedFormat::NoHeaderIn { encoding, first_line: self.first_line() }.into();
        }
        let has_expectations = self.options.mapping.is_some() || self.options.delimiter.is_some();
        let closest = closest.filter(|closest| closest.rank.0 > 0 || has_expectations);
        let error = |ClosestLine { mut line, .. }: ClosestLine| {
            line.names.truncate(MOST_NAMES);
            (line.start.line, self.columns(&line))
        };
        match closest.map(error) {
            Some((line, Err(error))) => SourceError::NoHeader { error: error.into(), line, looked_at },
            _ if is_cut => SourceError::HeaderTooLong { limit: HEAD_BYTES },
            _ => SourceError::UnknownDialect { first_line: self.first_line() },
        }
    }

    /// The declared UTF-16 encoding, if no name can be read in it: any bytes are some text in UTF-16.
    fn misdeclared_encoding(&self, closest: Option<&ClosestLine>) -> Option<&'static str> {
        let is_set = |encoding: &Encoding| Some(*encoding) == self.options.encoding;
        let set = self.head.encoding.filter(is_set)?;
        let is_read = closest.is_some_and(|closest| closest.rank.0 > 0);
        (!is_read && [Encoding::UTF_16LE, Encoding::UTF_16BE].contains(&set)).then(|| set.name())
    }

    /// Whether the head is text in some encoding, not binary.
    fn is_text(&self) -> bool {
        let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1a);
        !self.head.bytes().iter().take(TEXT_SAMPLE_BYTES).any(is_control)
    }

    /// Searches for a line with all names separated by an uncommon delimiter or with malformed quotes.
    fn find_other_delimiter(&self, tried: &[Delimiter]) -> Option<UndecidedFormat> {
        for (start, line) in
            self.head.lines_from(self.head.start()).take(MAX_LINES).filter(|(_, line)| line.len() <= LONGEST_HEADER)
        {
            let Some(text) = self.encoding.decode(line) else { continue };
            let object = text.find('{').and_then(|start| json_members(text[start..].trim_end().as_bytes()).ok());
            if object.is_some_and(|members| !members.is_empty()) {
                return Some(UndecidedFormat::JsonBehind { line: start.line });
            }
            let is_between = |character: char| !character.is_alphanumeric() && !matches!(character, '_' | ' ');
            let mut runs: Vec<&str> =
                text.split(|character| !is_between(character)).filter(|run| !run.is_empty()).collect();
            runs.sort_unstable();
            runs.dedup();
            let found = runs.into_iter().find(|run| {
                let is_quote = |character| matches!(character, '"' | '\'');
                let names = text.split(run).map(|name| trimmed(name).trim_matches(is_quote).to_owned());
                Columns::from_names(names.collect(), self.options.mapping.as_deref()).is_ok()
            });
            if let Some(run) = found {
                return Some(delimiter_problem(start.line, run, tried));
            }
        }
        None
    }

    /// The shape of the first line.
    fn first_line(&self) -> String {
        let mut lines = self.head.lines_from(self.head.start()).map(|(_, line)| line);
        let line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        shape(&self.encoding.decode(line).unwrap_or_else(|| String::from_utf8_lossy(line)))
    }
}

/// The error for an uncommon delimiter.
fn delimiter_problem(line: u64, run: &str, tried: &[Delimiter]) -> UndecidedFormat {
    let mut characters = run.chars();
    let delimiter = characters.next().and_then(Delimiter::of).filter(|_| characters.next().is_none());
    let Some(delimiter) = delimiter else { return UndecidedFormat::LongDelimiter { line, between: quoted(run) } };
    if tried.contains(&delimiter) {
        return UndecidedFormat::HeaderQuotes { line };
    }
    let between_raw = match char::from(delimiter.byte()) {
        control if control.is_control() => format!("\\x{:02x}", delimiter.byte()),
        visible => visible.to_string(),
    };
    UndecidedFormat::OtherDelimiter { line, between: quoted(run), between_raw }
}

/// The delimiter of a line such as `sep=;`, a convention of spreadsheets.
fn declared_separator(line: &[u8]) -> Option<Delimiter> {
    let line = std::str::from_utf8(line).ok()?.trim_matches(['\r', '\n', ' ']);
    let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    let separator = line.get(..4).filter(|name| name.eq_ignore_ascii_case("sep=")).map(|_| &line[4..])?;
    let mut characters = separator.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Delimiter::of(character),
        (Some('\\'), Some('t')) if separator.len() == 2 => Some(Delimiter::Tab),
        _ => None,
    }
}

/// A delimiter of several characters: every second name is its inner part, or empty.
fn multi_character_delimiter(names: &[String], delimiter: Delimiter) -> Option<String> {
    let inner = names.get(1).filter(|inner| names.len() > 2 && !inner.contains(char::is_alphanumeric))?;
    let is_between = |(place, name): (usize, &String)| (name == inner) == (place % 2 == 1);
    let delimiter = char::from(delimiter.byte());
    names.iter().enumerate().all(is_between).then(|| format!("{delimiter}{inner}{delimiter}"))
}

fn quoted_delimiter(delimiter: Delimiter) -> String {
    quoted(&char::from(delimiter.byte()).to_string())
}

#[cfg(test)]
mod tests;
