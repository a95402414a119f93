//! Control totals: what a bank says that a source holds, on the command line, in a manifest or in a trailer row.

use serde::{Deserialize, Serialize};

use crate::columns::Fields;
use crate::text::quoted;
use crate::{AmountSum, Notation, RunSettings, Sealed};

/// How many rows a source should have, and what its amounts should sum up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expected {
    /// Data rows, whatever becomes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The sum of every amount that can be read, those of rejected rows among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AmountSum>,
}

impl Expected {
    /// Whether nothing is expected.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// This, and where it does not say, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { rows: self.rows.or(other.rows), amount: self.amount.or(other.amount) }
    }

    /// What of it is not what was read, with both numbers; none where all of it is. A sum that is not known is not judged.
    pub fn differences(&self, read: Sealed) -> Option<String> {
        let rows = self.rows.filter(|rows| *rows != read.rows_read);
        let rows = rows.map(|rows| format!("{rows} rows expected, {} read", read.rows_read));
        let amount = self.amount.zip(read.amount).filter(|(expected, read)| expected != read);
        let amount = amount.map(|(expected, read)| format!("an amount of {expected} expected, {read} read"));
        let differences: Vec<String> = rows.into_iter().chain(amount).collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

/// What ends a source and is no data: its last row, `TRAILER;{rows};{amount}`, or a footer of any number of rows that says no totals,
/// `***END OF FILE***` or `Balance as of *`. Its literal fields tell its first row from every other one; a `*` at the end of one
/// stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trailer {
    written: String,
    fields: Vec<TrailerField>,
    /// A footer as one field, as its text may hold what stands between fields elsewhere.
    whole: Option<TrailerField>,
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
            "{rows}" => Self::Rows,
            "{amount}" => Self::Amount,
            literal => match literal.strip_suffix('*') {
                Some(prefix) => Self::Prefix(prefix.to_owned()),
                None => Self::Literal(literal.to_owned()),
            },
        }
    }

    fn is_total(&self) -> bool {
        matches!(self, Self::Rows | Self::Amount)
    }

    /// Whether a row can be told by it.
    fn tells(&self) -> bool {
        matches!(self, Self::Literal(text) | Self::Prefix(text) if !text.is_empty())
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => text == literal,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Rows | Self::Amount => true,
        }
    }
}

impl Trailer {
    /// What a row says, if it is the trailer, or the first row of the footer: its literal fields are there, and nothing is behind what
    /// the pattern has. An error is a trailer that cannot be read.
    pub fn read(&self, row: &(impl Fields + ?Sized), settings: &RunSettings) -> Option<Result<Expected, String>> {
        let text = |index: usize| settings.encoding_of_rows().decode(row.get(index).unwrap_or_default());
        let is_empty = |index: usize| row.get(index).unwrap_or_default().trim_ascii().is_empty();
        let is_it = |fields: &[TrailerField]| {
            // Any rest of the last field takes those behind it too: a text may hold what stands between fields.
            let has_rest = matches!(fields.last(), Some(TrailerField::Prefix(_)));
            row.count() >= fields.len()
                && fields
                    .iter()
                    .enumerate()
                    .all(|(index, field)| text(index).is_some_and(|text| field.fits(text.trim())))
                && (has_rest || (fields.len()..row.count()).all(is_empty))
        };
        let found = is_it(&self.fields) || self.whole.as_ref().is_some_and(|whole| is_it(std::slice::from_ref(whole)));
        found.then(|| self.totals(|index| text(index).unwrap_or_default().trim().to_owned(), settings))
    }

    /// Whether it is a footer: it says no totals, and more rows that are no data may follow its first one.
    pub fn is_footer(&self) -> bool {
        !self.fields.iter().any(TrailerField::is_total)
    }

    fn totals(&self, text: impl Fn(usize) -> String, settings: &RunSettings) -> Result<Expected, String> {
        let mut expected = Expected::default();
        for (index, field) in self.fields.iter().enumerate() {
            let value = text(index);
            let wrong = |what: &str| format!("the trailer row has {} where {what} should be", quoted(&value));
            match field {
                TrailerField::Literal(_) | TrailerField::Prefix(_) => {}
                TrailerField::Rows => expected.rows = Some(value.parse().map_err(|_| wrong("the number of rows"))?),
                TrailerField::Amount => {
                    let sum = AmountSum::read(&value, &Notation::of_run(settings));
                    expected.amount = Some(sum.map_err(|_| wrong("the sum of the amounts"))?);
                }
            }
        }
        Ok(expected)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl std::str::FromStr for Trailer {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        // Whatever stands between the fields of the source: here it stands between those of the pattern.
        let delimiter = [';', '\t', '|', ','].into_iter().find(|delimiter| written.contains(*delimiter));
        let fields: Vec<TrailerField> = match delimiter {
            Some(delimiter) => written.split(delimiter).map(TrailerField::read).collect(),
            None => vec![TrailerField::read(written)],
        };
        if !fields.iter().any(TrailerField::tells) {
            return Err(format!(
                "`{written}` is no trailer such as TRAILER;{{rows}};{{amount}}, and no footer such as END OF FILE or Balance as of *: \
                 it needs a literal field to be told by"
            ));
        }
        let is_footer = !fields.iter().any(TrailerField::is_total);
        let whole = (is_footer && fields.len() > 1).then(|| TrailerField::read(written));
        Ok(Self { written: written.to_owned(), fields, whole })
    }
}

impl TryFrom<String> for Trailer {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        written.parse()
    }
}

impl From<Trailer> for String {
    fn from(trailer: Trailer) -> Self {
        trailer.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecimalMark, Dialect};

    fn read(rows_read: u64, amount: &str) -> Sealed {
        Sealed { rows_read, chunks_total: 1, amount: amount.parse().ok() }
    }

    #[test]
    fn differences_name_both_numbers() {
        let expected = Expected { rows: Some(5_000), amount: "123.45".parse().ok() };
        assert_eq!(expected.differences(read(5_000, "123.45")), None);
        assert_eq!(expected.differences(read(5_000, "unknown")), None);
        assert_eq!(expected.differences(read(4_999, "123.45")).unwrap(), "5000 rows expected, 4999 read");
        assert_eq!(
            expected.differences(read(4_999, "-1")).unwrap(),
            "5000 rows expected, 4999 read; an amount of 123.4500 expected, -1.0000 read"
        );
        assert_eq!(Expected::default().differences(read(7, "7")), None);
    }

    fn trailer(pattern: &str, row: &str, decimal_mark: DecimalMark) -> Option<Result<Expected, String>> {
        let fields: Vec<&[u8]> = row.split(';').map(str::as_bytes).collect();
        let dialect = Dialect { decimal_mark, ..RunSettings::example().dialect };
        let settings = RunSettings { dialect, ..RunSettings::example() };
        pattern.parse::<Trailer>().unwrap().read(&fields[..], &settings)
    }

    #[test]
    fn a_trailer_is_told_by_its_literal_fields() {
        use DecimalMark::{Comma, Point};
        let both = Expected { rows: Some(12), amount: "-3.5".parse().ok() };
        let rows = Expected { rows: Some(12), amount: None };
        let cases = [
            ("T;{rows};{amount}", "T;12;-3,50", Comma, Some(Ok(both))),
            ("T,{rows},{amount}", " T ; 12 ; -3.5 ;; ", Point, Some(Ok(both))),
            ("T,{rows},{amount}", "T;12;3.5000000-", Point, Some(Ok(both))),
            (";EOF;{rows}", ";EOF;12;;;;", Point, Some(Ok(rows))),
            ("T;{rows};{amount}", "T;12", Point, None),
            ("T;{rows};{amount}", "U;12;-3.5", Point, None),
            ("T;{rows};{amount}", "T;12;-3.5;x", Point, None),
            (
                "T;{rows}",
                "T;twelve",
                Point,
                Some(Err("the trailer row has `twelve` where the number of rows should be".to_owned())),
            ),
            (
                "T;{amount}",
                "T;1,5",
                Point,
                Some(Err("the trailer row has `1,5` where the sum of the amounts should be".to_owned())),
            ),
        ];
        for (pattern, row, mark, expected) in cases {
            assert_eq!(trailer(pattern, row, mark), expected, "{pattern} {row}");
        }
        for wrong in ["", "*", " ;*", ";", "{rows};{amount}", ";{rows}", "*;{rows}"] {
            assert!(wrong.parse::<Trailer>().unwrap_err().contains("is no trailer such as"), "{wrong}");
        }
    }

    #[test]
    fn a_footer_is_told_by_its_first_row() {
        let cases = [
            ("***END OF FILE***", "***END OF FILE***", true),
            ("***END OF FILE***", " ***END OF FILE*** ;;;", true),
            ("***END OF FILE***", "***END OF", false),
            ("END", "END;more", false),
            ("END", "THE END", false),
            ("Balance as of *", "Balance as of 15/03/2024;1,234.56", true),
            ("Balance as of *", "Balance as of ;;", false),
            ("Balance as of*", "Balance as of ;;", true),
            ("Balance as of *", "The Balance as of today", false),
            // The comma stands between fields elsewhere, and in the text here.
            ("Totals, all accounts", "Totals, all accounts;;", true),
            ("Totals, all *", "Totals, all accounts;12", true),
            ("Total;*", "Total;12;13", true),
            (",Total,", ";Total;;", true),
        ];
        for (pattern, row, expected) in cases {
            let found = trailer(pattern, row, DecimalMark::Point);
            assert_eq!(found, expected.then(|| Ok(Expected::default())), "{pattern} {row}");
            assert!(pattern.parse::<Trailer>().unwrap().is_footer());
        }
        assert!(!"END;{rows}".parse::<Trailer>().unwrap().is_footer());
    }
}
