//! Settings of the format of a source. What is not set is [detected](crate::inspect()) from its head; what is set is never
//! questioned.

use std::str::FromStr;
use std::sync::Arc;

use assay_transaction::{
    AmountSyntax, CsvSyntax, DecimalMark, Delimiter, Dialect, Encoding, Format, Mapping, PathError, ReadingRules,
    RunSettings, TimestampFormat, TrailerPattern,
};
use clap::{Args, ValueEnum};

use crate::detect::mapping_file::read_mapping;

/// How to read a source. What is not set is detected from its header and first rows.
#[derive(Debug, Clone, Default, Args)]
pub struct FormatOptions {
    /// Character between fields: comma, semicolon, tab, pipe, or another ASCII character [default: one of these four, detected]
    #[arg(long, env = "DELIMITER", value_name = "DELIMITER")]
    pub delimiter: Option<Delimiter>,
    /// Decimal mark of amounts: point, comma, or the character itself [default: detected, refused if both fit]
    #[arg(long, env = "DECIMAL_MARK", value_name = "MARK", value_parser = parse_decimal_mark)]
    pub decimal_mark: Option<DecimalMark>,
    /// Text encoding: a WHATWG label such as windows-1252, utf-16le or gbk [default: UTF-8, or that of the byte order mark]
    #[arg(long, env = "ENCODING", value_name = "ENCODING", value_parser = parse_encoding)]
    pub encoding: Option<Encoding>,
    /// Format of the source: csv, json-lines or parquet [default: detected, as compression always is]
    #[arg(long, env = "FORMAT", value_name = "FORMAT", value_parser = parse_format)]
    pub format: Option<Format>,
    /// Timestamp format: a pattern such as %d/%m/%Y %H:%M, iso, epoch-seconds, epoch-milliseconds, epoch-microseconds,
    /// epoch-nanoseconds or serial-days (spreadsheets) [default: detected, refused if two fit]
    #[arg(long, env = "TIMESTAMP_FORMAT", value_name = "PATTERN")]
    pub timestamp_format: Option<TimestampFormat>,
    /// Unquoted CSV fields to read as empty, separated by commas; a lone comma for none
    #[arg(long, env = "NULL_VALUES", value_name = "TEXTS", default_value = "\\N,NULL", value_parser = parse_null_values)]
    pub null_values: NullValues,
    /// Escape character of a CSV source, such as \ as written by MySQL [default: none]
    #[arg(long, env = "ESCAPE", value_name = "CHARACTER", value_parser = parse_escape)]
    pub escape: Option<char>,
    /// Handling of CSV rows that lack their last fields: reject, or fill them with empty ones
    #[arg(long, env = "SHORT_ROWS", value_name = "RULE", value_enum, default_value = "reject")]
    pub short_rows: ShortRows,
    /// Currency signs and codes allowed before or after amounts, separated by commas, such as €,EUR
    #[arg(long, env = "CURRENCY", value_name = "CURRENCIES", value_parser = parse_currencies)]
    pub currency: Option<Currencies>,
    /// TOML file that maps the columns of the source to the expected ones
    #[arg(long, env = "MAPPING", value_name = "FILE", value_parser = read_mapping)]
    pub mapping: Option<Arc<Mapping>>,
    /// The rules of the run whose frozen settings these are; none for a new source.
    #[arg(skip)]
    pub frozen: Option<ReadingRules>,
    /// The declared row that ends the source; nothing is detected from it.
    #[arg(skip)]
    pub trailer: Option<TrailerPattern>,
}

/// Unquoted texts that are read as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullValues(pub Vec<String>);

impl Default for NullValues {
    fn default() -> Self {
        Self(CsvSyntax::NULL_VALUES.map(str::to_owned).to_vec())
    }
}

/// Currency signs and codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Currencies(pub Vec<String>);

/// Handling of rows that lack their last fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ShortRows {
    /// Reject them.
    #[default]
    Reject,
    /// Fill them with empty fields.
    Fill,
}

impl FormatOptions {
    /// The frozen settings of a run: nothing is detected.
    pub fn of(settings: &RunSettings) -> Self {
        let Dialect { delimiter, decimal_mark, encoding } = settings.dialect;
        let AmountSyntax { currencies, .. } = &settings.amounts;
        let CsvSyntax { null_values, escape, fill_short_rows, .. } = &settings.csv;
        Self {
            delimiter: Some(delimiter),
            decimal_mark: Some(decimal_mark),
            encoding: Some(encoding),
            format: Some(settings.format),
            timestamp_format: Some(settings.timestamps.clone()),
            null_values: NullValues(null_values.clone()),
            escape: *escape,
            short_rows: if *fill_short_rows { ShortRows::Fill } else { ShortRows::Reject },
            currency: (!currencies.is_empty()).then(|| Currencies(currencies.clone())),
            mapping: settings.mapping.clone(),
            frozen: Some(settings.reading),
            trailer: settings.trailer.clone(),
        }
    }

    /// These options for a source at a location, from which a mapping may take values.
    pub(crate) fn located(&self, location: &str) -> Result<Self, PathError> {
        let mapping = self.mapping.as_ref().map(|mapping| mapping.resolve(location)).transpose()?;
        Ok(Self { mapping: mapping.map(Arc::new), ..self.clone() })
    }

    /// The version of the reading rules.
    pub(crate) fn rules(&self) -> ReadingRules {
        self.frozen.unwrap_or(ReadingRules::Second)
    }

    /// Currency signs and codes allowed in amounts.
    pub(crate) fn currencies(&self) -> &[String] {
        self.currency.as_ref().map_or(&[], |Currencies(all)| all.as_slice())
    }

    /// The settings of CSV text.
    pub(crate) fn csv(&self) -> CsvSyntax {
        CsvSyntax {
            null_values: self.null_values.0.clone(),
            escape: self.escape,
            fill_short_rows: self.short_rows == ShortRows::Fill,
            trailing_delimiter: false,
        }
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text.to_ascii_lowercase().as_str() {
        "csv" | "tsv" => Ok(Format::Csv),
        "json-lines" | "jsonl" | "ndjson" => Ok(Format::JsonLines),
        "parquet" => Ok(Format::Parquet),
        _ => Err("expected csv, json-lines or parquet".to_owned()),
    }
}

fn parse_decimal_mark(text: &str) -> Result<DecimalMark, String> {
    match text.to_ascii_lowercase().as_str() {
        "point" | "." => Ok(DecimalMark::Point),
        "comma" | "," => Ok(DecimalMark::Comma),
        _ => Err("expected point, comma, or the character itself".to_owned()),
    }
}

fn parse_encoding(text: &str) -> Result<Encoding, String> {
    Encoding::of(text).ok_or_else(|| {
        "expected a label of the WHATWG encoding standard, such as utf-8, windows-1252, windows-1250, iso-8859-15, utf-16le, gbk \
         or shift_jis"
            .to_owned()
    })
}

/// The trimmed texts between commas.
fn parts(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "a parser of a setting may fail")]
fn parse_null_values(text: &str) -> Result<NullValues, String> {
    Ok(NullValues(parts(text)))
}

fn parse_escape(text: &str) -> Result<char, String> {
    match char::from_str(text) {
        Ok(character) if character.is_ascii_punctuation() && !matches!(character, '"' | ',' | ';' | '|') => {
            Ok(character)
        }
        _ => {
            Err("expected one ASCII punctuation character, such as \\, and neither a quote nor a delimiter".to_owned())
        }
    }
}

/// A currency may contain anything that cannot be part of a number.
fn parse_currencies(text: &str) -> Result<Currencies, String> {
    let parts = parts(text);
    let is_number =
        |character: char| character.is_numeric() || character.is_whitespace() || "+-\u{2212}()".contains(character);
    let has_mark_alone = |part: &String| {
        part.chars()
            .all(|character| !character.is_alphanumeric() && character.is_ascii_punctuation() && character != '$')
    };
    match parts.iter().find(|part| part.contains(is_number) || has_mark_alone(part)) {
        Some(_) => {
            Err("expected signs and codes separated by commas, such as €,EUR, none of which can be part of a number"
                .to_owned())
        }
        None => Ok(Currencies(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        format: FormatOptions,
    }

    fn parse(arguments: &[&str]) -> Result<FormatOptions, String> {
        let program = Program::try_parse_from(["program"].iter().chain(arguments));
        program.map(|program| program.format).map_err(|error| error.to_string())
    }

    #[test]
    fn a_delimiter_is_its_name_or_itself() {
        for (text, expected) in [
            ("comma", Delimiter::Comma),
            (";", Delimiter::Semicolon),
            ("Tab", Delimiter::Tab),
            ("\\t", Delimiter::Tab),
            ("|", Delimiter::Pipe),
        ] {
            assert_eq!(parse(&["--delimiter", text]).unwrap().delimiter, Some(expected), "{text}");
        }
        assert_eq!(parse(&["--delimiter", "^"]).unwrap().delimiter, Some(Delimiter::Other(b'^')));
        let error = parse(&["--delimiter", "colon"]).unwrap_err();
        assert!(error.contains("'colon'") && error.contains("semicolon, tab, pipe"), "{error}");
        assert!(parse(&["--decimal-mark", "dot"]).unwrap_err().contains("point, comma"));
        assert!(parse(&["--encoding", "klingon-8"]).unwrap_err().contains("WHATWG"));
    }

    #[test]
    fn a_mapping_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        let path = path.to_str().unwrap();
        std::fs::write(path, "amount = \"amt\"\n").unwrap();
        let mapping = parse(&["--mapping", path]).unwrap().mapping.unwrap();
        assert!(mapping.columns().contains("amt"));
        std::fs::write(path, "amount = \"amt\"\nmerchnt = \"m\"\n").unwrap();
        let error = parse(&["--mapping", path]).unwrap_err();
        assert!(
            error.contains(&format!("{path}, line 2, column 1: unknown field `merchnt`, expected one of")),
            "{error}"
        );
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let null_values: [(&[&str], &[&str]); 5] = [
            (&[], &["\\N", "NULL"]),
            (&["--null-values", ""], &[]),
            (&["--null-values", ","], &[]),
            (&["--null-values", "n/a"], &["n/a"]),
            (&["--null-values", " - , None,"], &["-", "None"]),
        ];
        for (arguments, expected) in null_values {
            assert_eq!(parse(arguments).unwrap().csv().null_values, expected, "{arguments:?}");
        }
        assert_eq!(FormatOptions::default().csv(), parse(&[]).unwrap().csv());
        for (text, expected) in [("€,EUR", &["€", "EUR"][..]), ("$", &["$"]), ("US$, kr.", &["US$", "kr."])] {
            assert_eq!(parse(&["--currency", text]).unwrap().currencies(), expected);
        }
        for text in ["5", "-", ".", "E 5", "(EUR)"] {
            assert!(parse(&[&format!("--currency={text}")]).unwrap_err().contains("€,EUR"), "{text}");
        }
    }

    #[test]
    fn an_escape_is_one_mark() {
        assert_eq!(parse(&["--escape", "\\"]).unwrap().escape, Some('\\'));
        for text in ["", "\\\\", "a", "\"", ",", "é"] {
            assert!(parse(&["--escape", text]).unwrap_err().contains("neither a quote nor a delimiter"), "{text}");
        }
    }

    #[test]
    fn a_run_is_read_with_its_frozen_settings() {
        let mut settings = RunSettings::example();
        settings.csv =
            CsvSyntax { null_values: vec!["-".to_owned()], escape: Some('\\'), fill_short_rows: true, ..settings.csv };
        settings.amounts.currencies = vec!["€".to_owned()];
        let options = FormatOptions::of(&settings);
        assert_eq!((options.csv(), options.currencies()), (settings.csv, &settings.amounts.currencies[..]));
        assert_eq!(options.rules(), ReadingRules::Second);
    }
}
