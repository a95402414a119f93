//! A row between transaction and bytes: fields that can still be broken, and the dialect that writes them.

use assay_transaction::{Delimiter, Encoding};
use chrono::{Datelike as _, NaiveDateTime, Timelike as _};

use crate::options::{GenerateOptions, Quoting};
use crate::transactions::Generated;

pub(crate) const COLUMNS: [&str; 7] =
    ["id", "description", "amount", "timestamp", "merchant", "operation_type", "side"];
pub(crate) const ID: usize = 0;
pub(crate) const DESCRIPTION: usize = 1;
pub(crate) const AMOUNT: usize = 2;
pub(crate) const TIMESTAMP: usize = 3;
pub(crate) const MERCHANT: usize = 4;
pub(crate) const OPERATION_TYPE: usize = 5;
pub(crate) const SIDE: usize = 6;
/// The columns added by `--attributes`.
const ATTRIBUTES: [&str; 3] = ["country", "currency", "channel"];
/// The column added by `--labels`.
const LABEL: &str = "is_fraud";

#[derive(Debug, Clone)]
pub(crate) struct RowFormat {
    delimiter: Delimiter,
    decimal_mark: u8,
    encoding: Encoding,
    quoting: Quoting,
    crlf: bool,
    attributes: bool,
    label: Option<usize>,
}

impl RowFormat {
    pub(crate) fn new(options: &GenerateOptions) -> Self {
        let columns = COLUMNS.len() + if options.attributes { ATTRIBUTES.len() } else { 0 };
        Self {
            delimiter: options.delimiter,
            decimal_mark: options.decimal_mark.byte(),
            encoding: options.encoding,
            quoting: options.quoting,
            crlf: options.crlf,
            attributes: options.attributes,
            label: options.labels.then_some(columns),
        }
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut names = COLUMNS.to_vec();
        if self.attributes {
            names.extend(ATTRIBUTES);
        }
        if self.label.is_some() {
            names.push(LABEL);
        }
        self.header_with(&names)
    }

    /// A header line with these names.
    pub(crate) fn header_with(&self, names: &[&str]) -> Vec<u8> {
        let mut row = RowBuffer::new(self.encoding);
        for name in names {
            row.push(name);
        }
        let mut line = Vec::new();
        // Names are quoted only if all fields are.
        let quoting = if self.quoting == Quoting::All { Quoting::All } else { Quoting::Needed };
        Self { quoting, ..self.clone() }.write(&row, &mut line);
        line
    }

    pub(crate) fn fill(&self, row: &mut RowBuffer, generated: &Generated) {
        row.clear();
        row.push(&generated.id);
        row.push(&generated.description);
        write_amount(row.add(), generated.amount_cents, self.decimal_mark);
        write_timestamp(row.add(), generated.timestamp);
        row.push(generated.merchant.unwrap_or_default());
        row.push(generated.operation_type);
        row.push(generated.side);
        if self.attributes {
            row.push(generated.country);
            row.push(generated.currency);
            row.push(generated.channel);
        }
        if self.label.is_some() {
            row.push(if generated.is_fraud { "1" } else { "0" });
        }
    }

    /// Appends the row with its line end.
    pub(crate) fn write(&self, row: &RowBuffer, line: &mut Vec<u8>) {
        for (column, field) in row.fields().iter().enumerate() {
            if column > 0 {
                line.push(self.delimiter.byte());
            }
            let quoted = match self.quoting {
                Quoting::All => true,
                Quoting::Text if column != ID && column != AMOUNT && Some(column) != self.label => true,
                Quoting::Text | Quoting::Needed => self.needs_quotes(field),
            };
            if quoted {
                write_quoted(line, field);
            } else {
                line.extend_from_slice(field);
            }
        }
        line.extend_from_slice(if self.crlf { b"\r\n" } else { b"\n" });
    }

    fn needs_quotes(&self, field: &[u8]) -> bool {
        field.iter().any(|byte| *byte == self.delimiter.byte() || matches!(byte, b'"' | b'\r' | b'\n'))
    }
}

fn write_quoted(line: &mut Vec<u8>, field: &[u8]) {
    line.push(b'"');
    for part in field.split_inclusive(|byte| *byte == b'"') {
        line.extend_from_slice(part);
        if part.ends_with(b"\"") {
            line.push(b'"');
        }
    }
    line.push(b'"');
}

pub(crate) fn write_amount(field: &mut Vec<u8>, cents: i64, mark: u8) {
    if cents < 0 {
        field.push(b'-');
    }
    let start = field.len();
    let mut left = cents.unsigned_abs();
    // From the last digit to the first; at least `0.00`.
    for place in 0.. {
        if place == 2 {
            field.push(mark);
        }
        field.push(b'0' + (left % 10) as u8);
        left /= 10;
        if left == 0 && place >= 2 {
            break;
        }
    }
    field[start..].reverse();
}

pub(crate) fn write_timestamp(field: &mut Vec<u8>, at: NaiveDateTime) {
    let two = |number: u32| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    let year = at.year().unsigned_abs();
    field.extend_from_slice(&two(year / 100));
    field.extend_from_slice(&two(year));
    for (separator, number) in
        [(b'-', at.month()), (b'-', at.day()), (b' ', at.hour()), (b':', at.minute()), (b':', at.second())]
    {
        field.push(separator);
        field.extend_from_slice(&two(number));
    }
}

/// The fields of a row in the file's encoding; reused for the next row.
#[derive(Debug)]
pub(crate) struct RowBuffer {
    buffers: Vec<Vec<u8>>,
    count: usize,
    encoding: Encoding,
}

impl RowBuffer {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self { buffers: Vec::new(), count: 0, encoding }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn fields(&self) -> &[Vec<u8>] {
        &self.buffers[..self.count]
    }

    pub(crate) fn field(&mut self, column: usize) -> &mut Vec<u8> {
        &mut self.buffers[..self.count][column]
    }

    pub(crate) fn set(&mut self, column: usize, text: &str) {
        let encoding = self.encoding;
        let field = self.field(column);
        field.clear();
        encode(field, text, encoding);
    }

    pub(crate) fn push(&mut self, text: &str) {
        let encoding = self.encoding;
        encode(self.add(), text, encoding);
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    pub(crate) fn add(&mut self) -> &mut Vec<u8> {
        if self.count == self.buffers.len() {
            self.buffers.push(Vec::with_capacity(64));
        }
        self.count += 1;
        let field = &mut self.buffers[self.count - 1];
        field.clear();
        field
    }
}

fn encode(field: &mut Vec<u8>, text: &str, encoding: Encoding) {
    match encoding.encode(text) {
        Some(bytes) => field.extend(bytes),
        // All generated text is in Latin-1, which both encodings cover.
        None => field.extend_from_slice(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_two_decimals_and_their_mark() {
        let cases = [(0, "0,00"), (7, "0,07"), (-50, "-0,50"), (-95_240, "-952,40"), (123_456_789, "1234567,89")];
        for (cents, expected) in cases {
            let mut field = Vec::new();
            write_amount(&mut field, cents, b',');
            assert_eq!(String::from_utf8(field).unwrap(), expected);
        }
    }

    #[test]
    fn fields_are_quoted_as_chosen() {
        let cases = [
            (Quoting::Text, "7;\"He said \"\"no\"\"\";\"1;2\";\"\"\r\n"),
            (Quoting::Needed, "7;\"He said \"\"no\"\"\";\"1;2\";\r\n"),
            (Quoting::All, "\"7\";\"He said \"\"no\"\"\";\"1;2\";\"\"\r\n"),
        ];
        for (quoting, expected) in cases {
            let format = RowFormat::new(&GenerateOptions { quoting, crlf: true, ..GenerateOptions::default() });
            let mut row = RowBuffer::new(Encoding::UTF_8);
            for text in ["7", "He said \"no\"", "1;2", ""] {
                row.push(text);
            }
            let mut line = Vec::new();
            format.write(&row, &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }
}
