//! Errors of detection: what the head leaves ambiguous. Each is one line that shows shapes of values, never values, and
//! names the setting that decides.

/// Why the user must declare a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UndecidedFormat {
    /// Amounts that both decimal marks read differently.
    #[error(
        "amounts such as {example} are ambiguous: {point} if the decimal mark is a point, or {comma} if it is a comma, and no other amount shows which; set DECIMAL_MARK=point or DECIMAL_MARK=comma"
    )]
    AmbiguousAmounts {
        /// One of them.
        example: String,
        /// Its value with a decimal point.
        point: String,
        /// Its value with a decimal comma.
        comma: String,
    },
    /// Amounts with both decimal marks.
    #[error(
        "amounts have two decimal marks: {} as {}, and {} as {}; set DECIMAL_MARK to the right one; amounts with the other are rejected",
        seen[0].0, seen[0].1, seen[1].0, seen[1].1
    )]
    MixedAmounts {
        /// The share with a point and an example; the same for the comma.
        seen: Box<[(String, String); 2]>,
    },
    /// Timestamps whose day and month, or day and year, may be swapped.
    #[error(
        "timestamps such as {example} are ambiguous: one date by {}, and another by {}; set TIMESTAMP_FORMAT to the right one",
        forms[0], forms[1]
    )]
    AmbiguousTimestamps {
        /// One of them.
        example: String,
        /// The formats that read it.
        forms: Box<[String; 2]>,
    },
    /// Timestamps in two formats that read each other's values differently.
    #[error(
        "timestamps are written in two ways: {} reads by {} alone, and {} by {} alone; set TIMESTAMP_FORMAT to the right one; timestamps in the other are rejected or read by it",
        readings[0].0, readings[0].1, readings[1].0, readings[1].1
    )]
    MixedTimestamps {
        /// An example of each, and its format.
        readings: Box<[(String, String); 2]>,
    },
    /// Too few timestamps fit a format.
    #[error(
        "{read} of {of} timestamps read by {form}, too few to assume it for all: {other} does not, and ISO 8601 reads no more of them; set TIMESTAMP_FORMAT, such as TIMESTAMP_FORMAT='{form}'"
    )]
    FewTimestamps {
        /// How many it reads.
        read: usize,
        /// Of how many.
        of: usize,
        /// The format.
        form: String,
        /// An example that it does not read.
        other: String,
    },
    /// Spreadsheet serial days, or other numbers.
    #[error(
        "timestamps such as {example} may be serial days of a spreadsheet (a day of {year}): if so, set TIMESTAMP_FORMAT=serial-days; for other numbers set the unit in a mapping, such as `unit = \"days\", since = \
         \"1899-12-30T00:00:00Z\"`"
    )]
    SerialDays {
        /// One of them.
        example: String,
        /// Its year as a serial day.
        year: String,
    },
    /// The text is not UTF-8.
    #[error(
        "the source is not UTF-8: {example} on line {line} is invalid{}; set ENCODING to the encoding of the source, or ENCODING=utf-8 to reject such rows",
        listed(readings)
    )]
    NotUtf8 {
        /// The line of the example.
        line: u64,
        /// The bytes of one character, escaped.
        example: String,
        /// Its readings in the likeliest encodings.
        readings: Vec<String>,
    },
    /// UTF-16 without a byte order mark.
    #[error("the source seems to be {name}, without the byte order mark that says so: set ENCODING={label}")]
    Utf16 {
        /// The encoding's name.
        name: &'static str,
        /// Its label.
        label: &'static str,
    },
    /// UTF-32.
    #[error("the source is UTF-32, which is not supported: convert it to UTF-8")]
    Utf32,
    /// The declared encoding yields no header.
    #[error(
        "no header found in the source as {encoding}, the ENCODING that is set: its first line looks like {first_line}; set ENCODING to the encoding of the source"
    )]
    NoHeaderIn {
        /// The encoding.
        encoding: &'static str,
        /// The shape of the first line in it.
        first_line: String,
    },
    /// ISO-2022-JP, which is ASCII with escapes.
    #[error(
        "the source seems to be ISO-2022-JP, as escapes in it switch to Japanese letters: set ENCODING=iso-2022-jp, or \
         ENCODING=utf-8 to keep them as they stand"
    )]
    Iso2022Jp,
    /// Two delimiters split the same header.
    #[error(
        "the header on line {line} has every required column with {one} and with {two} as delimiter: set DELIMITER to the right one"
    )]
    TwoDelimiters {
        /// The header's line.
        line: u64,
        /// One delimiter.
        one: String,
        /// The other.
        two: String,
    },
    /// The header has an uncommon delimiter.
    #[error("line {line} has every required column, separated by {between}: set DELIMITER='{between_raw}'")]
    OtherDelimiter {
        /// The header's line.
        line: u64,
        /// The delimiter, for display.
        between: String,
        /// The delimiter, as a setting.
        between_raw: String,
    },
    /// The header has a malformed quote.
    #[error(
        "line {line} has every required column, but a quote after a delimiter is not closed before one: remove it, or double quotes within quotes"
    )]
    HeaderQuotes {
        /// The header's line.
        line: u64,
    },
    /// JSON objects follow something else.
    #[error(
        "line {line} seems to be JSON, but the source does not begin with an object: remove what precedes it, or set FORMAT=json-lines to reject lines that are not objects"
    )]
    JsonBehind {
        /// The line.
        line: u64,
    },
    /// The delimiter has several characters.
    #[error(
        "line {line} has every required column, separated by {between}: a delimiter (DELIMITER) is one character; write the source with one such as `,` or `|`"
    )]
    LongDelimiter {
        /// The header's line.
        line: u64,
        /// The delimiter.
        between: String,
    },
    /// Another header, or a row, precedes the header.
    #[error(
        "line {line} has every required column, but line {before} before it {what}: lines before the header are not read; make two sources of them, or remove the lines before line {line}"
    )]
    NotAPreamble {
        /// The header's line.
        line: u64,
        /// The line before it.
        before: u64,
        /// What that line is.
        what: String,
    },
}

/// Text to append to a sentence.
fn listed(readings: &[String]) -> String {
    if readings.is_empty() { String::new() } else { format!("; {}", readings.join(", ")) }
}
