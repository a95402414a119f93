//! Splits a row into fields.
//!
//! A field is quoted if its quote opens at the start of the row or right after a delimiter, and closes right before a
//! delimiter or line end, blanks aside. A quote elsewhere in an unquoted field is text. Quoted fields may contain line
//! ends, but a row over several lines must have the header's number of fields.
//!
//! Guarantees: the result depends only on bytes from the row's start; no byte beyond the reach is examined, except to
//! complete a line end; a row over several lines is given up at its first surplus field, so that stray quotes cost only
//! a few passes over the source.

use assay_transaction::{CsvSyntax, RejectReason};

use crate::decode::batch::OpenRow;
use crate::decode::buffer::{NoRow, count_lines, is_line_end};
use crate::decode::csv::CsvLayout;

const QUOTE: u8 = b'"';
/// Non-ASCII blanks: the no-break space, and the byte order mark of concatenated files.
const BLANKS: [&str; 2] = ["\u{a0}", "\u{feff}"];
/// Most escaped line ends of an unquoted row, so that a wrongly declared escape does not make every line search for the
/// end of all of them.
const MAX_ESCAPED_LINE_ENDS: u32 = 64;
/// Rows with fewer columns are not checked line by line: text may contain a delimiter on each line.
const FEWEST_COLUMNS: usize = 3;

pub(super) struct Splitter {
    delimiter: u8,
    columns: Option<usize>,
    escape: Option<u8>,
    nulls: Vec<Vec<u8>>,
    /// Non-ASCII blanks around quotes.
    blanks: Vec<Vec<u8>>,
    trailing_delimiter: bool,
    fill_short_rows: bool,
    reach: usize,
    /// By first byte: whether a field may be more than the bytes up to the next delimiter.
    is_special: [bool; 256],
    /// What interrupts an unquoted field if there is an escape.
    is_stop: [bool; 256],
}

/// A row.
pub(super) struct SplitRow {
    /// Its size without the line end.
    pub(super) bytes: usize,
    /// Its size with the line end.
    pub(super) consumed: usize,
    /// Its number of line ends.
    pub(super) lines: u64,
    /// Why it cannot be validated.
    pub(super) malformed: Option<RejectReason>,
}

/// The bytes from the start of a row.
#[derive(Clone, Copy)]
struct RowText<'a> {
    bytes: &'a [u8],
    has_ended: bool,
    reach: usize,
}

impl RowText<'_> {
    /// The byte at an index; none at the end of the source.
    fn at(&self, place: usize) -> Result<Option<u8>, NoRow> {
        match self.bytes.get(place) {
            _ if place >= self.reach => Err(NoRow::Malformed),
            Some(byte) => Ok(Some(*byte)),
            None if self.has_ended => Ok(None),
            None => Err(NoRow::NeedsMore),
        }
    }

    /// The searchable bytes from an index.
    fn from(&self, place: usize) -> &[u8] {
        let end = self.bytes.len().min(self.reach);
        &self.bytes[place.min(end)..end]
    }

    /// The end of the source, after a search without result.
    fn end(&self) -> Result<usize, NoRow> {
        self.at(self.bytes.len()).map(|_| self.bytes.len())
    }
}

impl Splitter {
    pub(super) fn new(layout: &CsvLayout<'_>, reach: usize) -> Self {
        let CsvSyntax { null_values, escape, fill_short_rows, trailing_delimiter } = layout.csv;
        let encoded = |text: &str| layout.encoding.encode(text);
        let delimiter = layout.delimiter.byte();
        let escape =
            escape.and_then(|escape| u8::try_from(escape).ok()).filter(|byte| byte.is_ascii() && *byte != QUOTE);
        let mut nulls: Vec<Vec<u8>> = null_values.iter().filter_map(|value| encoded(value.trim())).collect();
        let blanks: Vec<Vec<u8>> = BLANKS.into_iter().filter_map(encoded).collect();
        // Databases that escape write nulls like this.
        nulls.extend(escape.map(|escape| vec![escape, b'N']));
        let mut is_special = [false; 256];
        let first_of_nulls = nulls.iter().filter_map(|value| value.first().copied());
        let first_of_blanks = blanks.iter().map(|blank| blank[0]);
        for byte in [QUOTE, b'=', b' ', b'\t'].into_iter().chain(first_of_nulls).chain(first_of_blanks) {
            is_special[usize::from(byte)] = byte != delimiter;
        }
        let mut is_stop = [false; 256];
        for byte in [delimiter, b'\r', b'\n'].into_iter().chain(escape) {
            is_stop[usize::from(byte)] = true;
        }
        Self {
            delimiter,
            columns: layout.columns,
            escape,
            nulls,
            blanks,
            trailing_delimiter: *trailing_delimiter,
            fill_short_rows: *fill_short_rows,
            reach,
            is_special,
            is_stop,
        }
    }

    /// The longest row.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// Splits the row at the start of the bytes, which do not begin with a line end. On an error, clear the fields
    /// added.
    pub(super) fn split(&self, bytes: &[u8], has_ended: bool, row: &mut OpenRow<'_>) -> Result<SplitRow, NoRow> {
        let text = RowText { bytes, has_ended, reach: self.reach };
        let most_fields = self.columns.map_or(usize::MAX, |columns| columns + usize::from(self.trailing_delimiter));
        let (mut start, mut searched) = (0, 0);
        let end = loop {
            let end = self.field(text, start, row)?;
            row.end_field();
            if row.count() > most_fields {
                if memchr::memchr2(b'\r', b'\n', &bytes[searched..end]).is_some() {
                    return Err(NoRow::Malformed);
                }
                searched = end;
            }
            if bytes.get(end) != Some(&self.delimiter) {
                break end;
            }
            start = end + 1;
        };
        let line_end = match &bytes[end..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] if !has_ended => return Err(NoRow::NeedsMore),
            [_, ..] => 1,
            [] => 0,
        };
        let inner_lines = count_lines(&bytes[..end]);
        if inner_lines > 0 && !self.may_have_lines(&bytes[..end], row.count()) {
            return Err(NoRow::Malformed);
        }
        let malformed = self.settle_count(row);
        Ok(SplitRow { bytes: end, consumed: end + line_end, lines: inner_lines + u64::from(line_end > 0), malformed })
    }

    /// Whether a row over several lines is valid.
    fn may_have_lines(&self, row: &[u8], fields: usize) -> bool {
        let Some(columns) = self.columns else { return true };
        let has_fields = fields == columns
            || self.trailing_delimiter && fields == columns + 1
            || self.fill_short_rows && fields < columns;
        has_fields && !lines_are_rows(row, self.delimiter, columns, self.trailing_delimiter)
    }

    /// Adds the fields that rows of this source omit, and removes a trailing empty one.
    fn settle_count(&self, row: &mut OpenRow<'_>) -> Option<RejectReason> {
        let columns = self.columns?;
        let ends_empty = row.last_field().trim_ascii().is_empty();
        if self.trailing_delimiter && ends_empty && row.count() == columns + 1 {
            row.drop_field();
        } else if self.trailing_delimiter && ends_empty && row.count() == columns && !self.fill_short_rows {
            // The trailing delimiter is present, so another one is missing.
            return Some(RejectReason::FieldCount);
        }
        while self.fill_short_rows && row.count() < columns {
            row.end_field();
        }
        None
    }

    /// Adds the field at an index; returns its end: a delimiter, line end, or the end of the source.
    fn field(&self, text: RowText<'_>, start: usize, row: &mut OpenRow<'_>) -> Result<usize, NoRow> {
        let first = text.at(start)?;
        if self.escape.is_none() && !first.is_some_and(|byte| self.is_special[usize::from(byte)]) {
            let end = self.plain_end(text, start)?;
            row.put(&text.bytes[start..end]);
            return Ok(end);
        }
        let opening = self.behind_blanks(text, start)?;
        let first = text.at(opening)?;
        let end = match (first, self.escape) {
            (Some(QUOTE), None) => self.quoted(text, opening + 1, row)?,
            (Some(QUOTE), Some(escape)) => self.quoted_with_escapes(text, opening + 1, escape, row)?,
            (_, None) => self.plain(text, start, row)?,
            (_, Some(escape)) => self.plain_with_escapes(text, start, escape, row)?,
        };
        if let Some(text) = formula_text(row.open_field()) {
            row.clear_field();
            row.put(&text);
        }
        Ok(end)
    }

    /// The end of a field without quotes and escapes.
    fn plain_end(&self, text: RowText<'_>, start: usize) -> Result<usize, NoRow> {
        match memchr::memchr3(self.delimiter, b'\n', b'\r', text.from(start)) {
            Some(at) => Ok(start + at),
            None => text.end(),
        }
    }

    /// Adds a field without quotes and escapes.
    fn plain(&self, text: RowText<'_>, start: usize, row: &mut OpenRow<'_>) -> Result<usize, NoRow> {
        let end = self.plain_end(text, start)?;
        let field = &text.bytes[start..end];
        if !self.is_null(field) {
            row.put(field);
        }
        Ok(end)
    }

    /// Adds a quoted field from its opening quote.
    fn quoted(&self, text: RowText<'_>, mut from: usize, row: &mut OpenRow<'_>) -> Result<usize, NoRow> {
        loop {
            let Some(quote) = memchr::memchr(QUOTE, text.from(from)).map(|at| from + at) else {
                return Err(text.end().err().unwrap_or(NoRow::Malformed));
            };
            if text.at(quote + 1)? != Some(QUOTE) {
                row.put(&text.bytes[from..quote]);
                return self.behind_quotes(text, quote + 1);
            }
            row.put(&text.bytes[from..=quote]);
            from = quote + 2;
        }
    }

    /// Adds a quoted field with escapes.
    fn quoted_with_escapes(
        &self,
        text: RowText<'_>,
        mut from: usize,
        escape: u8,
        row: &mut OpenRow<'_>,
    ) -> Result<usize, NoRow> {
        loop {
            let Some(mark) = memchr::memchr2(QUOTE, escape, text.from(from)).map(|at| from + at) else {
                return Err(text.end().err().unwrap_or(NoRow::Malformed));
            };
            row.put(&text.bytes[from..mark]);
            match text.at(mark + 1)? {
                Some(escaped) if text.bytes[mark] == escape => row.put(&[unescaped(escaped)]),
                Some(QUOTE) => row.put(&[QUOTE]),
                _ if text.bytes[mark] == QUOTE => return self.behind_quotes(text, mark + 1),
                _ => return Err(NoRow::Malformed),
            }
            from = mark + 2;
        }
    }

    /// Adds an unquoted field with escapes.
    fn plain_with_escapes(
        &self,
        text: RowText<'_>,
        start: usize,
        escape: u8,
        row: &mut OpenRow<'_>,
    ) -> Result<usize, NoRow> {
        let (mut from, mut line_ends) = (start, 0);
        let end = loop {
            let Some(stop) = text.from(from).iter().position(|byte| self.is_stop[usize::from(*byte)]) else {
                let end = text.end()?;
                row.put(&text.bytes[from..end]);
                break end;
            };
            let stop = from + stop;
            row.put(&text.bytes[from..stop]);
            if text.bytes[stop] != escape {
                break stop;
            }
            from = match text.at(stop + 1)? {
                Some(b'\r') if text.at(stop + 2)? == Some(b'\n') => {
                    row.put(b"\r\n");
                    line_ends += 1;
                    stop + 3
                }
                Some(escaped) => {
                    row.put(&[unescaped(escaped)]);
                    line_ends += u32::from(is_line_end(escaped));
                    stop + 2
                }
                None => {
                    row.put(&[escape]);
                    stop + 1
                }
            };
            if line_ends > MAX_ESCAPED_LINE_ENDS {
                return Err(NoRow::Malformed);
            }
        };
        if self.is_null(&text.bytes[start..end]) {
            row.clear_field();
        }
        Ok(end)
    }

    /// The end of a quoted field after its closing quote.
    fn behind_quotes(&self, text: RowText<'_>, from: usize) -> Result<usize, NoRow> {
        let end = self.behind_blanks(text, from)?;
        match text.at(end)? {
            Some(byte) if byte != self.delimiter && !is_line_end(byte) => Err(NoRow::Malformed),
            _ => Ok(end),
        }
    }

    fn behind_blanks(&self, text: RowText<'_>, mut from: usize) -> Result<usize, NoRow> {
        loop {
            from += match text.at(from)? {
                Some(byte @ (b' ' | b'\t')) if byte != self.delimiter => 1,
                Some(byte) if !byte.is_ascii() => match self.blank_at(text, from)? {
                    Some(length) => length,
                    None => return Ok(from),
                },
                _ => return Ok(from),
            };
        }
    }

    /// The size of a non-ASCII blank at an index.
    fn blank_at(&self, text: RowText<'_>, place: usize) -> Result<Option<usize>, NoRow> {
        'blanks: for blank in &self.blanks {
            for (offset, byte) in blank.iter().enumerate() {
                if text.at(place + offset)? != Some(*byte) {
                    continue 'blanks;
                }
            }
            return Ok(Some(blank.len()));
        }
        Ok(None)
    }

    /// Whether an unquoted field is null.
    fn is_null(&self, field: &[u8]) -> bool {
        let field = field.trim_ascii();
        !field.is_empty() && self.nulls.iter().any(|null| null == field)
    }
}

/// The meaning of an escaped character, as in MySQL's `LOAD DATA`.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 0x1a,
        other => other,
    }
}

/// Whether the first and last physical lines would be rows by themselves if quotes were plain characters. Then two
/// unrelated quotes enclose rows, not text.
fn lines_are_rows(row: &[u8], delimiter: u8, columns: usize, with_trailing: bool) -> bool {
    let is_row = |line: &[u8]| {
        let fields = memchr::memchr_iter(delimiter, line).count() + 1;
        fields == columns || with_trailing && fields == columns + 1 && line.ends_with(&[delimiter])
    };
    let mut lines = row.split(|byte| is_line_end(*byte)).filter(|line| !line.is_empty());
    columns >= FEWEST_COLUMNS && lines.next().is_some_and(is_row) && lines.next_back().is_some_and(is_row)
}

/// The text of a formula such as `="0001"`, which keeps spreadsheets from reading it as a number. Blanks around it are
/// ignored.
fn formula_text(field: &[u8]) -> Option<Vec<u8>> {
    let inner = field.trim_ascii().strip_prefix(b"=\"")?.strip_suffix(b"\"")?;
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        // Quotes within are doubled; otherwise it is another formula and stays as it is.
        if rest.get(quote + 1) != Some(&b'"') {
            return None;
        }
        text.extend_from_slice(&rest[..=quote]);
        rest = &rest[quote + 2..];
    }
    text.extend_from_slice(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rows_if_the_outer_ones_have_all_fields() {
        for (row, with_trailing, expected) in [
            ("5;\"CAFE;1\r\n6;TV 42\";2", false, true),
            ("5;\"CAFE;1\n\n7;x;1\n6;TV 42\";2", false, true),
            ("5;\"CAFE;1\nSubtotal\n7;x;1;;\n6;TV 42\";2", false, true),
            ("5;\"two\nlines; one\";2", false, false),
            ("5;\"two;1\nlines\";2", false, false),
            ("5;\"two\n6;7;8\nlines\";2", false, false),
            ("5;6;\"two\nlines\"", false, false),
            ("5;\"CAFE;1;\n6;TV 42\";2;", true, true),
            ("5;\"CAFE;1;\n6;TV 42\";2;", false, false),
        ] {
            assert_eq!(lines_are_rows(row.as_bytes(), b';', 3, with_trailing), expected, "{row:?}");
        }
        assert!(!lines_are_rows(b"5;\"Dear\nJohn; hi\"", b';', 2, false));
    }

    #[test]
    fn a_text_formula_is_its_text() {
        for (field, expected) in [
            ("=\"0001\"", Some("0001")),
            (" =\"0001\"\t", Some("0001")),
            ("=\"\"", Some("")),
            ("=\"5\"\" pipe\"", Some("5\" pipe")),
            ("=\"\"\"\"", Some("\"")),
            ("=\"", None),
            ("=\"a\"&\"b\"", None),
            ("=\"a", None),
            ("=1+1", None),
            ("= \"a\"", None),
            ("\"a\"", None),
            ("", None),
        ] {
            assert_eq!(formula_text(field.as_bytes()).as_deref(), expected.map(str::as_bytes), "{field}");
        }
    }
}
