//! Files of transactions that the tests know row by row.

use std::fmt::Write;

/// The header that `row` writes under.
pub const HEADER: &str = "id,description,amount,timestamp,merchant,operation_type,side";

/// One valid row; the same number always gives the same row.
pub fn row(number: u64) -> String {
    let (day, second) = (number % 28 + 1, number % 60);
    let (units, cents) = (number % 10_000, number % 100);
    format!(
        "{number},Card payment {number},-{units}.{cents:02},2026-01-{day:02} 10:00:{second:02},Shop,card_payment,debit"
    )
}

/// A file under construction.
#[derive(Debug, Clone)]
pub struct Rows(String);

impl Rows {
    /// Just the header.
    pub fn header() -> Self {
        Self(format!("{HEADER}\n"))
    }

    /// The header and rows 1 to `count`.
    pub fn valid(count: u64) -> Self {
        (1..=count).fold(Self::header(), |file, number| file.with(&row(number)))
    }

    /// And one row more.
    #[must_use]
    pub fn with(mut self, row: &str) -> Self {
        self.0.push_str(row);
        self.0.push('\n');
        self
    }

    /// The same rows in bytes of their own: so many blank lines follow, which say nothing. A file with the very bytes of another is a copy.
    #[must_use]
    pub fn unlike(mut self, number: usize) -> Self {
        self.0.extend(std::iter::repeat_n('\n', number));
        self
    }

    /// As a French spreadsheet writes them: semicolons, decimal commas, quotes, CRLF and a byte order mark.
    pub fn french(count: u64) -> Self {
        let mut file = String::from("\u{feff}id;description;amount;timestamp;merchant;operation_type;side\r\n");
        for number in 1..=count {
            let (day, units, cents) = (number % 28 + 1, number % 10_000, number % 100);
            let line = format!(
                "{number};\"Achat n° {number}; \"\"Café\"\"\";-{units},{cents:02};\"2026-01-{day:02} 10:00:00\";\"Café\";\"card_payment\";\"debit\"\r\n"
            );
            write!(file, "{line}").expect("a string takes all that is written");
        }
        Self(file)
    }
}

impl Rows {
    /// Changes what it says.
    #[must_use]
    pub fn replace(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "the file says `{from}` somewhere");
        Self(self.0.replace(from, to))
    }
}

impl AsRef<[u8]> for Rows {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
