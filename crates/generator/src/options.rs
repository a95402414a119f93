//! The arguments of `assay generate`.

use std::path::PathBuf;

use assay_transaction::{DecimalMark, Delimiter, Encoding};
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::fault::InvalidKinds;
use crate::layout::DatasetLayout;

/// What to generate, and how to write it.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct GenerateOptions {
    /// Data rows to write.
    #[arg(long, default_value_t = 10_000)]
    pub rows: u64,

    /// The same seed gives the same bytes on every machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Write the layout of a public data set, in its own dialect, with its labels.
    #[arg(
        long,
        conflicts_with_all = [
            "delimiter", "decimal_mark", "quoting", "invalid", "invalid_kinds", "duplicates", "labels", "uuid_ids", "attributes",
        ]
    )]
    pub layout: Option<DatasetLayout>,

    /// The character between two fields.
    #[arg(long, default_value = "semicolon", value_parser = delimiter())]
    pub delimiter: Delimiter,

    /// The character inside an amount.
    #[arg(long, default_value = "comma", value_parser = decimal_mark())]
    pub decimal_mark: DecimalMark,

    /// Text encoding.
    #[arg(long, default_value = "utf-8", value_parser = encoding())]
    pub encoding: Encoding,

    /// Which fields to quote.
    #[arg(long, default_value = "text")]
    pub quoting: Quoting,

    /// End lines with CR LF instead of LF.
    #[arg(long)]
    pub crlf: bool,

    /// Begin with a byte order mark.
    #[arg(long)]
    pub bom: bool,

    /// Share of invalid rows, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub invalid: f64,

    /// Faults of invalid rows: `usual`, `all` (including rows over 256 KiB), or comma-separated reason codes.
    #[arg(long, default_value = "usual", value_name = "KINDS")]
    pub invalid_kinds: InvalidKinds,

    /// Share of rows that repeat one of the 1,000 valid rows before them exactly, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub duplicates: f64,

    /// Add the column is_fraud, 0 or 1, to train a model on.
    #[arg(long)]
    pub labels: bool,

    /// Use random UUIDs as ids instead of row numbers.
    #[arg(long)]
    pub uuid_ids: bool,

    /// Add the columns country, currency and channel.
    #[arg(long)]
    pub attributes: bool,

    /// Output file; standard output if omitted.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// CSV file with the expected outcome of each row: row,outcome,reason,id,label.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
}

/// Which fields to quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Quoting {
    /// All fields but numbers, as French banks write them.
    Text,
    /// Only fields with a delimiter, a quote or a line break.
    Needed,
    /// Every field, including the header's.
    All,
}

/// The defaults of the command line.
impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            rows: 10_000,
            seed: 1,
            layout: None,
            delimiter: Delimiter::Semicolon,
            decimal_mark: DecimalMark::Comma,
            encoding: Encoding::UTF_8,
            quoting: Quoting::Text,
            crlf: false,
            bom: false,
            invalid: 0.0,
            invalid_kinds: InvalidKinds::USUAL,
            duplicates: 0.0,
            labels: false,
            uuid_ids: false,
            attributes: false,
            output: None,
            manifest: None,
        }
    }
}

fn delimiter() -> impl TypedValueParser<Value = Delimiter> {
    PossibleValuesParser::new(["comma", "semicolon", "tab", "pipe"]).map(|name| match name.as_str() {
        "comma" => Delimiter::Comma,
        "tab" => Delimiter::Tab,
        "pipe" => Delimiter::Pipe,
        _ => Delimiter::Semicolon,
    })
}

fn decimal_mark() -> impl TypedValueParser<Value = DecimalMark> {
    PossibleValuesParser::new(["point", "comma"])
        .map(|name| if name == "point" { DecimalMark::Point } else { DecimalMark::Comma })
}

fn encoding() -> impl TypedValueParser<Value = Encoding> {
    PossibleValuesParser::new(["utf-8", "windows-1252"])
        .map(|name| if name == "utf-8" { Encoding::UTF_8 } else { Encoding::WINDOWS_1252 })
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1, such as 0.01".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: GenerateOptions,
    }

    fn parse(line: &str) -> Result<GenerateOptions, clap::Error> {
        Command::try_parse_from(format!("generate {line}").split_whitespace()).map(|command| command.options)
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        assert_eq!(parse("").unwrap(), GenerateOptions::default());
    }

    #[test]
    fn every_dialect_can_be_chosen() {
        let options =
            parse("--delimiter tab --decimal-mark point --encoding windows-1252 --quoting all --crlf").unwrap();
        assert_eq!((options.delimiter, options.decimal_mark), (Delimiter::Tab, DecimalMark::Point));
        assert_eq!((options.encoding, options.quoting, options.crlf), (Encoding::WINDOWS_1252, Quoting::All, true));
        for (name, delimiter) in ["comma", "semicolon", "tab", "pipe"].iter().zip(Delimiter::ALL) {
            assert_eq!(parse(&format!("--delimiter {name}")).unwrap().delimiter, delimiter);
        }
    }

    #[test]
    fn errors_name_the_allowed_values() {
        let cases = [
            ("--invalid 1.5", "from 0 to 1"),
            ("--duplicates nan", "from 0 to 1"),
            ("--delimiter dot", "semicolon"),
            ("--layout paysim --labels", "cannot be used with"),
            ("--layout ulb", "sparkov"),
            ("--invalid-kinds id_empty,unterminated_quote", "amount_scale"),
        ];
        for (line, allowed) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(allowed), "{line}: {error}");
        }
    }
}
