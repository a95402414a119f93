//! The settings that say how a source is read. What none of them says is [recognised](crate::inspect()) from the head of the
//! source; what is set is never questioned.

use std::str::FromStr;
use std::sync::Arc;

use assay_transaction::{
    AmountText, CsvText, DecimalMark, Delimiter, Dialect, Encoding, Format, Mapping, PathError, ReadingRules,
    RunSettings, TimestampFormat, Trailer,
};
use clap::{Args, ValueEnum};

use crate::detect::mapping_file::read_mapping;

/// What a source does not say itself. What is not set is recognised from its header and its first rows.
#[derive(Debug, Clone, Default, Args)]
pub struct FormatOptions {
    /// Character between fields: comma, semicolon, tab, pipe, or any other character of ASCII itself. Recognised if not set,
    /// where it is one of those four
    #[arg(long, env = "DELIMITER", value_name = "DELIMITER")]
    pub delimiter: Option<Delimiter>,
    /// Decimal mark of amounts: point, comma, or the character itself. Recognised if not set, and refused where both fit
    #[arg(long, env = "DECIMAL_MARK", value_name = "MARK", value_parser = parse_decimal_mark)]
    pub decimal_mark: Option<DecimalMark>,
    /// Encoding of the text, such as windows-1252, iso-8859-15, utf-16le or gbk: any label of the WHATWG standard. UTF-8, or
    /// UTF-16 where a byte order mark says so, if not set
    #[arg(long, env = "ENCODING", value_name = "ENCODING", value_parser = parse_encoding)]
    pub encoding: Option<Encoding>,
    /// Format of the source: csv, json-lines or parquet. Recognised if not set, as gzip and zstd around it always are
    #[arg(long, env = "FORMAT", value_name = "FORMAT", value_parser = parse_format)]
    pub format: Option<Format>,
    /// Form of timestamps: a pattern such as %d/%m/%Y %H:%M, iso, epoch-seconds, epoch-milliseconds, epoch-microseconds, epoch-nanoseconds, or
    /// serial-days as spreadsheets count them. Recognised if not set, and refused where two patterns fit
    #[arg(long, env = "TIMESTAMP_FORMAT", value_name = "PATTERN")]
    pub timestamp_format: Option<TimestampFormat>,
    /// What stands for nothing in CSV fields without quotes, separated by commas; a lone comma for none
    #[arg(long, env = "NULL_VALUES", value_name = "TEXTS", default_value = "\\N,NULL", value_parser = parse_null_values)]
    pub null_values: NullValues,
    /// Character of a CSV source that takes its meaning from the next one, such as \ where MySQL wrote it. None if not set
    #[arg(long, env = "ESCAPE", value_name = "CHARACTER", value_parser = parse_escape)]
    pub escape: Option<char>,
    /// What becomes of CSV rows that lack their last fields: reject, or fill to have them empty
    #[arg(long, env = "SHORT_ROWS", value_name = "RULE", value_enum, default_value = "reject")]
    pub short_rows: ShortRows,
    /// Signs and codes of currencies that may stand before or behind amounts, separated by commas, such as €,EUR
    #[arg(long, env = "CURRENCY", value_name = "CURRENCIES", value_parser = parse_currencies)]
    pub currency: Option<Currencies>,
    /// TOML file that says which of the source's columns become which of ours, where they have other names or forms
    #[arg(long, env = "MAPPING", value_name = "FILE", value_parser = read_mapping)]
    pub mapping: Option<Arc<Mapping>>,
    /// The rules of the run that these are the frozen settings of; none for a source that is looked at anew.
    #[arg(skip)]
    pub frozen: Option<ReadingRules>,
    /// What ends the source and is no data, where somebody says so: nothing is recognised from it.
    #[arg(skip)]
    pub trailer: Option<Trailer>,
}

/// Texts that stand for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullValues(pub Vec<String>);

impl Default for NullValues {
    fn default() -> Self {
        Self(CsvText::NULL_VALUES.map(str::to_owned).to_vec())
    }
}

/// Signs and codes of currencies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Currencies(pub Vec<String>);

/// What becomes of rows that lack their last fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ShortRows {
    /// They are rejected.
    #[default]
    Reject,
    /// They have them empty.
    Fill,
}

impl FormatOptions {
    /// Exactly what a run has frozen: nothing is recognised.
    pub fn of(settings: &RunSettings) -> Self {
        let Dialect { delimiter, decimal_mark, encoding } = settings.dialect;
        let AmountText { currencies, .. } = &settings.amounts;
        let CsvText { null_values, escape, fill_short_rows, .. } = &settings.csv;
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

    /// The same for a source at a location, from which a mapping may take values.
    pub(crate) fn located(&self, location: &str) -> Result<Self, PathError> {
        let mapping = self.mapping.as_ref().map(|mapping| mapping.resolve(location)).transpose()?;
        Ok(Self { mapping: mapping.map(Arc::new), ..self.clone() })
    }

    /// By what rules the source is read.
    pub(crate) fn rules(&self) -> ReadingRules {
        self.frozen.unwrap_or(ReadingRules::Second)
    }

    /// The signs and codes of currencies that amounts may have.
    pub(crate) fn currencies(&self) -> &[String] {
        self.currency.as_ref().map_or(&[], |Currencies(all)| all.as_slice())
    }

    /// What is set of the text of a CSV source.
    pub(crate) fn csv(&self) -> CsvText {
        CsvText {
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
        _ => Err("it is csv, json-lines or parquet".to_owned()),
    }
}

fn parse_decimal_mark(text: &str) -> Result<DecimalMark, String> {
    match text.to_ascii_lowercase().as_str() {
        "point" | "." => Ok(DecimalMark::Point),
        "comma" | "," => Ok(DecimalMark::Comma),
        _ => Err("it is point, comma, or the character itself".to_owned()),
    }
}

fn parse_encoding(text: &str) -> Result<Encoding, String> {
    Encoding::of(text).ok_or_else(|| {
        "it is a label of the WHATWG encoding standard, such as utf-8, windows-1252, windows-1250, iso-8859-15, utf-16le, gbk \
         or shift_jis"
            .to_owned()
    })
}

/// The texts between commas, without the blanks around them.
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
        _ => Err("it is one mark of ASCII, such as \\, and neither a quote nor a delimiter".to_owned()),
    }
}

/// A currency may hold whatever no number does.
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
            Err("it is signs and codes between commas, such as €,EUR, and none of them can be a part of a number"
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
    fn a_run_is_read_as_it_has_frozen() {
        let mut settings = RunSettings::example();
        settings.csv =
            CsvText { null_values: vec!["-".to_owned()], escape: Some('\\'), fill_short_rows: true, ..settings.csv };
        settings.amounts.currencies = vec!["€".to_owned()];
        let options = FormatOptions::of(&settings);
        assert_eq!((options.csv(), options.currencies()), (settings.csv, &settings.amounts.currencies[..]));
        assert_eq!(options.rules(), ReadingRules::Second);
    }
}
