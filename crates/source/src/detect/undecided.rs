//! What of a source cannot be told from its head alone. Each is one line that shows what was seen, by shapes of values and never the
//! values themselves, and names the setting that decides.

/// Why a source must be told how it is to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UndecidedFormat {
    /// Amounts of which every mark may be a decimal mark, or part thousands.
    #[error(
        "amounts such as {example} are ambiguous: {point} if the decimal mark is a point, or {comma} if it is a comma, and no \
         other amount tells which; set DECIMAL_MARK=point or DECIMAL_MARK=comma"
    )]
    AmbiguousAmounts {
        /// One of them.
        example: String,
        /// What it is with a decimal point.
        point: String,
        /// And with a comma.
        comma: String,
    },
    /// Amounts of either mark.
    #[error(
        "amounts have two decimal marks: {} as {}, and {} as {}; set DECIMAL_MARK to the one that is meant, and amounts with the \
         other are rejected",
        seen[0].0, seen[0].1, seen[1].0, seen[1].1
    )]
    MixedAmounts {
        /// How many have a point, and one of them; and the same of the comma.
        seen: Box<[(String, String); 2]>,
    },
    /// Timestamps whose day may be their month, or their year.
    #[error(
        "timestamps such as {example} are ambiguous: one date by {}, and another by {}; set TIMESTAMP_FORMAT to the one that is meant",
        forms[0], forms[1]
    )]
    AmbiguousTimestamps {
        /// One of them.
        example: String,
        /// The forms that read it.
        forms: Box<[String; 2]>,
    },
    /// Timestamps of two forms that read each other's values differently.
    #[error(
        "timestamps are written in two ways: {} reads by {} alone, and {} by {} alone; set TIMESTAMP_FORMAT to the one that is \
         meant, and those of the other are rejected or read by it",
        readings[0].0, readings[0].1, readings[1].0, readings[1].1
    )]
    MixedTimestamps {
        /// One of each, and its form.
        readings: Box<[(String, String); 2]>,
    },
    /// Timestamps of which a form reads some, and too few to be recognised.
    #[error(
        "{read} of {of} timestamps read by {form}, too few to take it for the form of all: {other} does not, and ISO 8601 reads \
         no more of them; set TIMESTAMP_FORMAT to the form that is meant, such as TIMESTAMP_FORMAT='{form}'"
    )]
    FewTimestamps {
        /// How many it reads.
        read: usize,
        /// Of how many.
        of: usize,
        /// The form.
        form: String,
        /// One that it does not read.
        other: String,
    },
    /// Days as spreadsheets count them, or any other numbers.
    #[error(
        "timestamps such as {example} may be the serial days of a spreadsheet, which makes it a day of {year}: if so, set \
         TIMESTAMP_FORMAT=serial-days; a mapping says what other numbers count, as in `unit = \"days\", since = \
         \"1899-12-30T00:00:00Z\"`"
    )]
    SerialDays {
        /// One of them.
        example: String,
        /// Of which year it is then.
        year: String,
    },
    /// A text that is no UTF-8.
    #[error(
        "the source is not UTF-8: {example} on line {line} is no text in it{}; set ENCODING to what it is in, or ENCODING=utf-8 \
         to reject rows such as this one",
        listed(readings)
    )]
    NotUtf8 {
        /// The line of the example.
        line: u64,
        /// The bytes of one character, escaped.
        example: String,
        /// What it is in the likeliest encodings.
        readings: Vec<String>,
    },
    /// A text of two bytes a character that does not say so.
    #[error("the source seems to be {name}, without the byte order mark that says so: set ENCODING={label}")]
    Utf16 {
        /// The encoding's name.
        name: &'static str,
        /// Its label.
        label: &'static str,
    },
    /// A text of four bytes a character.
    #[error("the source is UTF-32, four bytes a character, which no ENCODING reads: write it as UTF-8")]
    Utf32,
    /// A text that has no header in the encoding that is set.
    #[error(
        "no header is found in the source as {encoding}, which ENCODING says it is: its first line looks like {first_line}; set ENCODING to \
         what it is in"
    )]
    NoHeaderIn {
        /// The encoding.
        encoding: &'static str,
        /// The shape of the first line in it.
        first_line: String,
    },
    /// A text of ASCII in which escapes say that what follows is none.
    #[error(
        "the source seems to be ISO-2022-JP, as escapes in it switch to Japanese letters: set ENCODING=iso-2022-jp, or \
         ENCODING=utf-8 to keep them as they stand"
    )]
    Iso2022Jp,
    /// A header under two delimiters.
    #[error(
        "the header on line {line} has every column that is needed under {one} and under {two}: set DELIMITER to the one that is \
         meant"
    )]
    TwoDelimiters {
        /// The header's line.
        line: u64,
        /// The one.
        one: String,
        /// The other.
        two: String,
    },
    /// Names with something else between them than a common delimiter.
    #[error("line {line} has every column that is needed, with {between} between them: set DELIMITER='{between_raw}'")]
    OtherDelimiter {
        /// The header's line.
        line: u64,
        /// What stands there, as it is shown.
        between: String,
        /// The same as it is set.
        between_raw: String,
    },
    /// Names with a quote among them that is none.
    #[error(
        "line {line} has every column that is needed, but a quote in it opens behind a delimiter and does not close before one: take \
         it away, or write a quote inside of quotes twice"
    )]
    HeaderQuotes {
        /// The header's line.
        line: u64,
    },
    /// Objects behind what is none.
    #[error(
        "line {line} seems to hold JSON, and the source does not begin with an object: take away what is none, or set \
         FORMAT=json-lines, by which lines that are no objects are rejected"
    )]
    JsonBehind {
        /// The line.
        line: u64,
    },
    /// Names with several characters between them.
    #[error(
        "line {line} has every column that is needed, with {between} between them: a delimiter is one character, which DELIMITER \
         names; write the source with one such as `,` or `|`"
    )]
    LongDelimiter {
        /// The header's line.
        line: u64,
        /// What stands there.
        between: String,
    },
    /// A header that comes behind another one, or behind rows.
    #[error(
        "line {line} has every column that is needed, but line {before} before it {what}: what stands before the header is not \
         read; send the two as two sources, or take the lines before line {line} away"
    )]
    NotAPreamble {
        /// The header's line.
        line: u64,
        /// The line before it that is no preamble.
        before: u64,
        /// What it is.
        what: String,
    },
}

/// What comes behind a sentence, if there is anything.
fn listed(readings: &[String]) -> String {
    if readings.is_empty() { String::new() } else { format!("; {}", readings.join(", ")) }
}
