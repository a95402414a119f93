//! Judging: what each row of a source is. By the rules of its run a transaction or a rejected row; and what is no row of it at all: its
//! trailer, its footer, another header. What was stats is told at the end.

use assay_source::{HEAD_BYTES, Row};
use assay_transaction::{
    Budgets, Counted, Decided, DecidedBy, Decision, Entry, Expected, HeaderError, HeaderRow, HeaderRows, Judged,
    Lookalikes, Occurrences, Position, RawText, RejectReason, RejectedRow, Rejection, Rejections, RowBytes, Rules,
    RunSettings, TooManyRows, WireError, quoted,
};
use tracing::warn;

use crate::metrics;
use crate::totals::TrailerFound;

/// What one process has stats of the rows of a source.
#[derive(Debug, Default)]
pub(crate) struct RowStats {
    /// How many there were.
    pub(crate) rows: u64,
    /// Why those were rejected that were.
    pub(crate) rejections: Rejections,
    /// Those whose local time comes twice.
    pub(crate) ambiguous_hours: u64,
    /// Those whose id is that of another but for case or composition.
    pub(crate) lookalikes: Lookalikes,
    /// The first one that only another reading fits, for a person.
    other_reading: Option<String>,
}

/// What a row is.
pub(crate) enum RowKind {
    /// A row.
    Row(Judged),
    /// Another header than that of the source: how it differs.
    OtherHeader(String),
    /// One more than can be counted, where ids count equal rows: why, for a person.
    Uncountable(String),
}

/// Judges the rows of a run.
pub(crate) struct Judge<'a> {
    settings: &'a RunSettings,
    rules: Rules,
    headers: Option<HeaderRows<'a>>,
    bytes: RowBytes,
    /// The rows up to now, where ids count those that are equal.
    occurrences: Occurrences,
    pub(crate) stats: RowStats,
}

impl<'a> Judge<'a> {
    pub(crate) fn of_run(settings: &'a RunSettings) -> Result<Self, HeaderError> {
        let rules = Rules::of_run(settings)?;
        let headers = HeaderRows::of_run(settings, rules.columns());
        let bytes = RowBytes::of_run(settings, rules.columns());
        Ok(Self { settings, rules, headers, bytes, occurrences: Occurrences::default(), stats: RowStats::default() })
    }

    /// Which of the rows with the same id a row is, where ids count them; the first one in every other source. Each row is to be
    /// counted once, in the order of the source.
    pub(crate) fn count(&mut self, row: &Row<'_>) -> Result<u64, TooManyRows> {
        if row.malformed.is_some() {
            // It has no fields that could be told apart, and no id.
            return Ok(1);
        }
        self.occurrences.nth(&self.rules, row.number, &row.fields)
    }

    /// What a row says, if it is the trailer that the run's source should have.
    pub(crate) fn trailer_in(&self, row: &Row<'_>) -> Option<TrailerFound> {
        let trailer = self.settings.trailer.as_ref()?;
        if let Some(reason) = &row.malformed {
            let is_footer = *reason == RejectReason::QuoteMalformed && trailer.begins(row.raw, self.settings);
            return is_footer.then(|| TrailerFound::Totals(Expected::default()));
        }
        let found = trailer.read(&row.fields, self.settings)?;
        if trailer.is_footer() && self.rules.check(row.number, &row.fields, row.raw_bytes).is_ok() {
            let (number, line, pattern) = (row.number, row.line, quoted(trailer.as_str()));
            warn!(
                "row {number} (line {line}) is the footer {pattern}, as TRAILER says, and would be a transaction without it"
            );
        }
        Some(found.map_or_else(TrailerFound::Wrong, TrailerFound::Totals))
    }

    /// Whether a row that follows the trailer is no data either: a footer may have several lines, but no transaction among them.
    pub(crate) fn is_of_footer(&self, row: &Row<'_>) -> bool {
        let is_footer = self.settings.trailer.as_ref().is_some_and(assay_transaction::Trailer::is_footer);
        is_footer && (row.malformed.is_some() || self.rules.check(row.number, &row.fields, row.raw_bytes).is_err())
    }

    /// Whether a row is a transaction; else which rule it broke, with its own bytes.
    pub(crate) fn judge(&mut self, row: &Row<'_>) -> Result<RowKind, WireError> {
        let nth = match self.count(row) {
            Ok(nth) => nth,
            Err(error) => return Ok(RowKind::Uncountable(error.to_string())),
        };
        let checked = match row.rejection() {
            Some(rejection) => Err(rejection),
            None => self.rules.check_nth(row.number, nth, &row.fields, row.raw_bytes),
        };
        let (judged, amount, other_reading) = match checked {
            Ok(valid) => {
                self.stats.ambiguous_hours += u64::from(valid.is_ambiguous_hour);
                if let Some(id) = &valid.external_id {
                    self.stats.lookalikes.add(row.number, id);
                }
                (Ok(Entry::new(row.number, &valid)?), Some(valid.transaction.amount), false)
            }
            Err(rejection) => {
                let mut rejection = match self.header_in(row) {
                    Some(HeaderRow::Same) => {
                        let message = "the row is the header once more".to_owned();
                        Rejection::new(RejectReason::HeaderRepeated, message)
                    }
                    Some(HeaderRow::Other(difference)) => return Ok(RowKind::OtherHeader(difference)),
                    None => rejection,
                };
                rejection.other_reading |= is_in_another_encoding(self.settings, row.end, &rejection.reason);
                self.note(row, &rejection);
                let Rejection { reason, message, other_reading, .. } = rejection;
                let raw = RawText::from(row.raw.to_vec());
                let rejected = RejectedRow { row: row.number, line: row.line, reason, message, raw };
                (Err(rejected), self.rules.amount(row.number, &row.fields), other_reading)
            }
        };
        self.stats.rows += 1;
        let bytes = self.bytes.of(row.raw, row.raw_bytes, &row.fields);
        Ok(RowKind::Row(Judged { row: judged, amount, other_reading, bytes, end: row.end }))
    }

    fn header_in(&self, row: &Row<'_>) -> Option<HeaderRow> {
        self.headers.as_ref().filter(|_| row.malformed.is_none())?.find(&row.fields)
    }

    fn note(&mut self, row: &Row<'_>, rejection: &Rejection) {
        metrics::rejected(&rejection.reason);
        self.stats.rejections.add(rejection);
        if rejection.other_reading && self.stats.other_reading.is_none() {
            self.stats.other_reading =
                Some(format!("row {} (line {}): {}", row.number, row.line, rejection.without_values()));
        }
    }

    /// Why a run is to end after so many rows: more of them are invalid than it allows, or too many fit another reading alone. None
    /// while it is to go on.
    pub(crate) fn spent(&self, counted: Counted, rows: u64, is_end: bool) -> Option<String> {
        let read_wrongly = || {
            let other = counted.other_reading;
            Budgets::is_read_wrongly(other, rows, is_end).then(|| {
                let readings = recognised(self.settings);
                let example = self.stats.other_reading.as_deref().map(|row| format!(", such as {row}")).unwrap_or_default();
                format!(
                    "{other} of {rows} rows fit another reading than {} alone, more than one in a thousand{example}; set {} to the \
                     one that is meant",
                    readings.0, readings.1
                )
            })
        };
        self.settings.budgets.spent_on_invalid(counted.invalid, rows, is_end).or_else(read_wrongly)
    }
}

/// Whether a row that ends at a place, and is no text in UTF-8, is one that only another encoding fits: where the sample is ASCII,
/// nothing says that the source is UTF-8. What of the sample itself is none was known to be a slip.
fn is_in_another_encoding(settings: &RunSettings, end: Position, reason: &RejectReason) -> bool {
    *reason == RejectReason::Encoding && end.offset > HEAD_BYTES as u64 && is_encoding_default(settings)
}

/// Whether nothing of the source speaks for its encoding, and nobody has set it.
fn is_encoding_default(settings: &RunSettings) -> bool {
    settings.decisions.iter().any(|it| it.what == Decided::Encoding && it.by == DecidedBy::Default)
}

/// What was recognised of a source that could be read in another way, in words, and the settings that say which is meant.
fn recognised(settings: &RunSettings) -> (String, String) {
    let names = [
        (Decided::DecimalMark, "DECIMAL_MARK"),
        (Decided::Timestamps, "TIMESTAMP_FORMAT"),
        (Decided::Encoding, "ENCODING"),
    ];
    let is_recognised = |what: Decided| match what {
        Decided::Encoding => is_encoding_default(settings),
        what => settings.decided_by(what) == DecidedBy::Recognised,
    };
    let recognised = names.iter().filter(|(what, _)| is_recognised(*what));
    let values = recognised.clone().flat_map(|(what, _)| settings.decisions.iter().filter(move |it| it.what == *what));
    let values: Vec<String> = values.map(Decision::to_string).collect();
    let settings: Vec<&str> = recognised.map(|(_, name)| *name).collect();
    if settings.is_empty() {
        return ("the recognised one".to_owned(), names.map(|(_, name)| name).join(" or "));
    }
    (values.join(", "), settings.join(" or "))
}

#[cfg(test)]
mod tests {
    use assay_transaction::Decision;

    use super::*;

    #[test]
    fn what_fits_another_reading_names_the_recognised_one_and_its_setting() {
        let decision = |what, value: &str, by| Decision { what, value: value.into(), by, evidence: String::new() };
        let decisions = vec![
            decision(Decided::DecimalMark, "point", DecidedBy::Set),
            decision(Decided::Timestamps, "%d/%m/%Y", DecidedBy::Recognised),
        ];
        let settings = RunSettings { decisions, ..RunSettings::example() };
        let mut judge = Judge::of_run(&settings).unwrap();
        judge.stats.other_reading = Some("row 7 (line 8): `timestamp` is none".to_owned());
        let counted = |other_reading| Counted { invalid: other_reading, other_reading, ..Counted::default() };
        assert_eq!(judge.spent(counted(1), 1_000, false), None);
        assert_eq!(judge.spent(counted(2), 999, false), None, "too few rows to say so");
        assert_eq!(
            judge.spent(counted(2), 1_000, false).unwrap(),
            "2 of 1000 rows fit another reading than timestamps %d/%m/%Y (recognised) alone, more than one in a thousand, such as \
             row 7 (line 8): `timestamp` is none; set TIMESTAMP_FORMAT to the one that is meant"
        );
    }

    #[test]
    fn behind_a_sample_of_ascii_text_that_is_no_utf8_is_in_another_encoding() {
        let decision = |by| Decision { what: Decided::Encoding, value: "UTF-8".into(), by, evidence: String::new() };
        for (by, offset, expected) in [
            (DecidedBy::Default, HEAD_BYTES + 1, true),
            (DecidedBy::Default, HEAD_BYTES, false),
            (DecidedBy::Recognised, HEAD_BYTES + 1, false),
            (DecidedBy::Set, HEAD_BYTES + 1, false),
        ] {
            let settings = RunSettings { decisions: vec![decision(by)], ..RunSettings::example() };
            let end = Position { offset: offset as u64, ..Position::START };
            assert_eq!(is_in_another_encoding(&settings, end, &RejectReason::Encoding), expected, "{by} {offset}");
            assert!(!is_in_another_encoding(&settings, end, &RejectReason::AmountFormat));
            let judge = Judge::of_run(&settings).unwrap();
            let told =
                judge.spent(Counted { invalid: 9, other_reading: 9, ..Counted::default() }, 1_000, true).unwrap();
            assert_eq!(told.ends_with("set ENCODING to the one that is meant"), by == DecidedBy::Default, "{told}");
        }
    }
}
