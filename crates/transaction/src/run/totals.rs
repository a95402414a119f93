//! Control totals: what a bank says a source contains, on the command line, in a manifest or in a trailer row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::schema::columns::FieldAccess;
use crate::value::redact::shape;
use crate::value::text::{is_invisible, quoted, trimmed};
use crate::{AmountNotation, AmountSum, Delimiter, Encoding, ReadingRules, RunSettings, SealedTotals};

/// The number of rows a source should have, and the sum of its amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExpectedTotals {
    /// Data rows, whatever their outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The sum of all parseable amounts, including those of rejected rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AmountSum>,
}

impl ExpectedTotals {
    /// Whether nothing is expected.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// These totals, completed by others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { rows: self.rows.or(other.rows), amount: self.amount.or(other.amount) }
    }

    /// The differences from what was read, with both numbers; none if there are none. An unknown sum is not compared.
    pub fn differences(&self, read: SealedTotals) -> Option<String> {
        let rows = self.rows.filter(|rows| *rows != read.rows_read);
        let rows = rows.map(|rows| format!("{rows} rows expected, {} read", read.rows_read));
        let amount = self.amount.zip(read.amount).filter(|(expected, read)| expected != read);
        let amount = amount.map(|(expected, read)| format!("an amount of {expected} expected, {read} read"));
        let differences: Vec<String> = rows.into_iter().chain(amount).collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

/// The pattern of rows that end a source and are not data: a trailer as its last row, `TRAILER;{rows};{amount}`, or a
/// footer of any number of rows without totals, `***END OF FILE***` or `Balance as of *`. Its literal fields identify
/// its first row; a `*` at the end of one matches any rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrailerPattern {
    written: String,
    fields: Vec<TrailerField>,
    /// A footer as a single field, as its text may contain the delimiter.
    whole: Option<TrailerField>,
}

/// Stands for the number of rows in a pattern.
const ROWS: &str = "{rows}";
/// Stands for the sum of the amounts.
const AMOUNT: &str = "{amount}";

/// The form in which literal fields are compared: white space as blanks, without invisible characters.
fn normalised(text: &str) -> String {
    let blank = |character: char| if character.is_whitespace() { ' ' } else { character };
    text.chars().filter(|character| !is_invisible(*character)).map(blank).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TrailerField {
    Literal(String),
    Prefix(String),
    Rows,
    Amount,
}

impl TrailerField {
    fn read(text: &str) -> Self {
        match text.trim() {
            ROWS => Self::Rows,
            AMOUNT => Self::Amount,
            literal => match literal.strip_suffix('*') {
                Some(prefix) => Self::Prefix(normalised(prefix)),
                None => Self::Literal(normalised(literal)),
            },
        }
    }

    fn is_total(&self) -> bool {
        matches!(self, Self::Rows | Self::Amount)
    }

    /// Whether it can identify a row.
    fn identifies_a_row(&self) -> bool {
        matches!(self, Self::Literal(text) | Self::Prefix(text) if !text.is_empty())
    }

    fn fits(&self, text: &str, rules: ReadingRules) -> bool {
        let is_plain = || text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let text = if rules == ReadingRules::First || is_plain() {
            Cow::Borrowed(text.trim())
        } else {
            Cow::Owned(normalised(trimmed(text)))
        };
        let text = text.trim();
        match self {
            Self::Literal(literal) => text == literal,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Rows | Self::Amount => true,
        }
    }
}

impl TrailerPattern {
    /// The totals in a row, if it is the trailer or the first row of the footer. An error is an unreadable trailer.
    pub fn read(
        &self,
        row: &(impl FieldAccess + ?Sized),
        settings: &RunSettings,
    ) -> Option<Result<ExpectedTotals, String>> {
        let encoding = settings.encoding_of_rows();
        let text = |index: usize| encoding.decode(row.get(index).unwrap_or_default()).unwrap_or_default();
        let found = self.is(row, encoding, settings.reading);
        found.then(|| self.totals(|index| trimmed(&text(index)).to_owned(), settings))
    }

    /// Whether a row matches: its literal fields are there, and nothing follows the fields of the pattern.
    pub fn is(&self, row: &(impl FieldAccess + ?Sized), encoding: Encoding, rules: ReadingRules) -> bool {
        let text = |index: usize| encoding.decode(row.get(index).unwrap_or_default());
        let is_empty = |index: usize| row.get(index).unwrap_or_default().trim_ascii().is_empty();
        let fits_pattern = |fields: &[TrailerField]| {
            // A prefix as the last field also covers the fields after it: text may contain the delimiter.
            let has_rest = matches!(fields.last(), Some(TrailerField::Prefix(_)));
            row.count() >= fields.len()
                && fields
                    .iter()
                    .enumerate()
                    .all(|(index, field)| text(index).is_some_and(|text| field.fits(&text, rules)))
                && (has_rest || (fields.len()..row.count()).all(is_empty))
        };
        fits_pattern(&self.fields) || self.whole.as_ref().is_some_and(|whole| fits_pattern(std::slice::from_ref(whole)))
    }

    /// Whether the first physical line of a malformed row starts the footer: quoted text may span several lines, and
    /// then lacks the header's fields.
    pub fn starts_on(&self, line: &[u8], settings: &RunSettings) -> bool {
        let text = settings.encoding_of_rows().decode(line);
        let pattern = self.whole.as_ref().or(self.fields.first());
        self.is_footer()
            && text
                .zip(pattern)
                .is_some_and(|(text, pattern)| pattern.fits(trimmed(&text).trim_matches('"'), settings.reading))
    }

    /// Whether it is a footer: it has no totals, and more rows without data may follow.
    pub fn is_footer(&self) -> bool {
        !self.fields.iter().any(TrailerField::is_total)
    }

    fn totals(&self, text: impl Fn(usize) -> String, settings: &RunSettings) -> Result<ExpectedTotals, String> {
        let mut expected = ExpectedTotals::default();
        for (index, field) in self.fields.iter().enumerate() {
            let value = text(index);
            let wrong = |what: &str| format!("the trailer row has {} where {what} should be", shape(&value));
            match field {
                TrailerField::Literal(_) | TrailerField::Prefix(_) => {}
                TrailerField::Rows => expected.rows = Some(value.parse().map_err(|_| wrong("the number of rows"))?),
                TrailerField::Amount => {
                    let sum = AmountSum::read(&value, &AmountNotation::of_run(settings));
                    expected.amount = Some(sum.map_err(|_| wrong("the sum of the amounts"))?);
                }
            }
        }
        Ok(expected)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

/// The delimiter between the fields of a pattern, whatever the source's is.
fn delimiter_of(written: &str) -> Option<char> {
    let common = [';', '\t', '|', ','].into_iter().find(|delimiter| written.contains(*delimiter));
    // A custom delimiter is recognised by the totals next to it.
    common.or_else(|| {
        let adjacent = [ROWS, AMOUNT]
            .into_iter()
            .filter_map(|total| written.split_once(total))
            .find_map(|(before, behind)| before.chars().next_back().or_else(|| behind.chars().next()));
        adjacent.filter(|character| matches!(Delimiter::of(*character), Some(Delimiter::Other(_))))
    })
}

/// Parses a pattern as a person writes it. Frozen patterns are checked less: see [`TrailerPattern::try_from`].
impl std::str::FromStr for TrailerPattern {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let trailer = Self::try_from(written.to_owned())?;
        let is_within = |field: &TrailerField| match field {
            TrailerField::Literal(text) | TrailerField::Prefix(text) => text.contains(ROWS) || text.contains(AMOUNT),
            TrailerField::Rows | TrailerField::Amount => false,
        };
        if trailer.fields.iter().any(is_within) {
            return Err(format!(
                "{} has a total as part of a field: {ROWS} and {AMOUNT} must be whole fields",
                quoted(written)
            ));
        }
        Ok(trailer)
    }
}

impl TryFrom<String> for TrailerPattern {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        let fields: Vec<TrailerField> = match delimiter_of(&written) {
            Some(delimiter) => written.split(delimiter).map(TrailerField::read).collect(),
            None => vec![TrailerField::read(&written)],
        };
        if !fields.iter().any(TrailerField::identifies_a_row) {
            return Err(format!(
                "`{written}` is not a trailer such as TRAILER;{{rows}};{{amount}}, nor a footer such as END OF FILE or Balance as of *: \
                 it needs a literal field"
            ));
        }
        let is_footer = !fields.iter().any(TrailerField::is_total);
        let whole = (is_footer && fields.len() > 1).then(|| TrailerField::read(&written));
        Ok(Self { written, fields, whole })
    }
}

impl From<TrailerPattern> for String {
    fn from(trailer: TrailerPattern) -> Self {
        trailer.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecimalMark, Dialect};

    fn read(rows_read: u64, amount: &str) -> SealedTotals {
        SealedTotals { rows_read, chunks_total: 1, amount: amount.parse().ok() }
    }

    #[test]
    fn differences_name_both_numbers() {
        let expected = ExpectedTotals { rows: Some(5_000), amount: "123.45".parse().ok() };
        assert_eq!(expected.differences(read(5_000, "123.45")), None);
        assert_eq!(expected.differences(read(5_000, "unknown")), None);
        assert_eq!(expected.differences(read(4_999, "123.45")).unwrap(), "5000 rows expected, 4999 read");
        assert_eq!(
            expected.differences(read(4_999, "-1")).unwrap(),
            "5000 rows expected, 4999 read; an amount of 123.4500 expected, -1.0000 read"
        );
        assert_eq!(ExpectedTotals::default().differences(read(7, "7")), None);
    }

    fn trailer(pattern: &str, row: &str, decimal_mark: DecimalMark) -> Option<Result<ExpectedTotals, String>> {
        let fields: Vec<&[u8]> = row.split(';').map(str::as_bytes).collect();
        let dialect = Dialect { decimal_mark, ..RunSettings::example().dialect };
        let settings = RunSettings { dialect, ..RunSettings::example() };
        pattern.parse::<TrailerPattern>().unwrap().read(&fields[..], &settings)
    }

    #[test]
    fn literal_fields_identify_a_trailer() {
        use DecimalMark::{Comma, Point};
        let both = ExpectedTotals { rows: Some(12), amount: "-3.5".parse().ok() };
        let rows = ExpectedTotals { rows: Some(12), amount: None };
        let cases = [
            ("T;{rows};{amount}", "T;12;-3,50", Comma, Some(Ok(both))),
            ("T,{rows},{amount}", " T ; 12 ; -3.5 ;; ", Point, Some(Ok(both))),
            ("T,{rows},{amount}", "T;12;3.5000000-", Point, Some(Ok(both))),
            (";EOF;{rows}", ";EOF;12;;;;", Point, Some(Ok(rows))),
            ("T^{rows}^{amount}", "T;12;-3.5", Point, Some(Ok(both))),
            ("{rows}\u{1}T", "12;T", Point, Some(Ok(rows))),
            ("T;{rows};{amount}", "T;12", Point, None),
            ("T;{rows};{amount}", "U;12;-3.5", Point, None),
            ("T;{rows};{amount}", "T;12;-3.5;x", Point, None),
            (
                "T;{rows}",
                "T;twelve",
                Point,
                Some(Err("the trailer row has `AAAAAA` where the number of rows should be".to_owned())),
            ),
            (
                "T;{amount}",
                "T;1,5",
                Point,
                Some(Err("the trailer row has `N,N` where the sum of the amounts should be".to_owned())),
            ),
        ];
        for (pattern, row, mark, expected) in cases {
            assert_eq!(trailer(pattern, row, mark), expected, "{pattern} {row}");
        }
        for within in ["Total: {rows}", "T;sum {amount};x", "{rows}{amount};T"] {
            assert!(within.parse::<TrailerPattern>().unwrap_err().contains("part of a field"), "{within}");
            assert!(TrailerPattern::try_from(within.to_owned()).is_ok(), "a run may have it: {within}");
        }
        for wrong in ["", "*", " ;*", ";", "{rows};{amount}", ";{rows}", "*;{rows}"] {
            assert!(wrong.parse::<TrailerPattern>().unwrap_err().contains("is not a trailer such as"), "{wrong}");
        }
    }

    #[test]
    fn the_first_row_identifies_a_footer() {
        let cases = [
            ("***END OF FILE***", "***END OF FILE***", true),
            ("***END OF FILE***", " ***END OF FILE*** ;;;", true),
            ("***END OF FILE***", "***END OF", false),
            ("END", "END;more", false),
            ("END", "THE END", false),
            ("END OF FILE", "\u{a0}END\u{a0}OF FILE\u{200b};;", true),
            ("END\u{a0}OF*", "END OF FILE", true),
            ("Balance as of *", "Balance as of 15/03/2024;1,234.56", true),
            ("Balance as of *", "Balance as of ;;", false),
            ("Balance as of*", "Balance as of ;;", true),
            ("Balance as of *", "The Balance as of today", false),
            // The comma is a delimiter elsewhere, and part of the text here.
            ("Totals, all accounts", "Totals, all accounts;;", true),
            ("Totals, all *", "Totals, all accounts;12", true),
            ("Total;*", "Total;12;13", true),
            (",Total,", ";Total;;", true),
        ];
        for (pattern, row, expected) in cases {
            let found = trailer(pattern, row, DecimalMark::Point);
            assert_eq!(found, expected.then(|| Ok(ExpectedTotals::default())), "{pattern} {row}");
            assert!(pattern.parse::<TrailerPattern>().unwrap().is_footer());
        }
        assert!(!"END;{rows}".parse::<TrailerPattern>().unwrap().is_footer());
    }

    #[test]
    fn a_footer_may_begin_with_a_quote_that_closes_on_another_line() {
        for (pattern, line, expected) in [
            ("This statement*", "\"This statement", true),
            ("This statement*", " \"This statement is;for", true),
            ("This statement", "\"This statement", true),
            ("Totals, all *", "\"Totals, all accounts", true),
            ("This statement*", "7;\"This statement", false),
            ("END;{rows}", "\"END", false),
        ] {
            let trailer = pattern.parse::<TrailerPattern>().unwrap();
            assert_eq!(trailer.starts_on(line.as_bytes(), &RunSettings::example()), expected, "{pattern} {line}");
        }
    }
}
