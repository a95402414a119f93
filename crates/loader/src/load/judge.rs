//! Decides what each row of a source is: a transaction or a rejected row by the rules of its run, its trailer, its footer, or
//! another header. Collects statistics of the rows.

use assay_source::{HEAD_BYTES, SourceRow};
use assay_transaction::{
    Budgets, CheckedRow, CheckpointCounts, DecidedBy, Decision, DecisionSubject, ExpectedTotals, HeaderError,
    HeaderRow, HeaderRowFinder, IdOccurrences, Position, RawText, RejectReason, RejectedRow, Rejection,
    RejectionCounts, RowBytes, Rules, RunSettings, SimilarIds, TooManyRows, quoted,
};
use tracing::warn;

use crate::metrics;
use crate::totals::TrailerFound;

/// Statistics of the rows that this process has read.
#[derive(Debug, Default)]
pub(crate) struct RowStats {
    pub(crate) rows: u64,
    pub(crate) rejections: RejectionCounts,
    /// Rows whose local time exists twice.
    pub(crate) ambiguous_hours: u64,
    /// Rows whose id equals another one except for case or composition.
    pub(crate) lookalikes: SimilarIds,
    /// Description of the first row that only another reading fits.
    other_reading: Option<String>,
}

impl RowStats {
    fn note(&mut self, row: &SourceRow<'_>, rejection: &Rejection) {
        metrics::rejected(&rejection.reason);
        self.rejections.add(rejection);
        if rejection.other_reading && self.other_reading.is_none() {
            self.other_reading =
                Some(format!("row {} (line {}): {}", row.number, row.line, rejection.without_values()));
        }
    }
}

/// Why no row follows in the run.
pub(crate) enum LastRow {
    /// A header other than that of the source, and the difference.
    OtherHeader(String),
    /// Ids count equal rows, and there are too many; with the reason.
    Uncountable(String),
}

pub(crate) struct Judge<'a> {
    settings: &'a RunSettings,
    rules: Rules,
    headers: Option<HeaderRowFinder<'a>>,
    bytes: RowBytes,
    /// Equal rows so far, if ids count them.
    occurrences: IdOccurrences,
    pub(crate) stats: RowStats,
}

impl<'a> Judge<'a> {
    pub(crate) fn of_run(settings: &'a RunSettings) -> Result<Self, HeaderError> {
        let rules = Rules::of_run(settings)?;
        let headers = HeaderRowFinder::of_run(settings, rules.columns());
        let bytes = RowBytes::of_run(settings, rules.columns());
        Ok(Self { settings, rules, headers, bytes, occurrences: IdOccurrences::default(), stats: RowStats::default() })
    }

    /// Index of the row among equal rows, from 1, if ids count them; else 1. Each row must be counted once, in the order of the
    /// source.
    pub(crate) fn count(&mut self, row: &SourceRow<'_>) -> Result<u64, TooManyRows> {
        if row.malformed.is_some() {
            // It has neither fields nor an id.
            return Ok(1);
        }
        self.occurrences.nth(&self.rules, row.number, &row.fields)
    }

    /// Reads the row as the expected trailer.
    pub(crate) fn trailer_in(&self, row: &SourceRow<'_>) -> Option<TrailerFound> {
        let trailer = self.settings.trailer.as_ref()?;
        if let Some(reason) = &row.malformed {
            let is_footer = *reason == RejectReason::QuoteMalformed && trailer.starts_on(row.raw, self.settings);
            return is_footer.then(|| TrailerFound::Totals(ExpectedTotals::default()));
        }
        let found = trailer.read(&row.fields, self.settings)?;
        if trailer.is_footer() && self.rules.check(row.number, &row.fields, row.raw_bytes).is_ok() {
            let (number, line, pattern) = (row.number, row.line, quoted(trailer.as_str()));
            warn!(
                "row {number} (line {line}) is the footer {pattern} of TRAILER, and would be a transaction without it"
            );
        }
        Some(found.map_or_else(TrailerFound::Wrong, TrailerFound::Totals))
    }

    /// Whether a row after the trailer belongs to the footer, which may have several lines, but no transaction among them.
    pub(crate) fn is_of_footer(&self, row: &SourceRow<'_>) -> bool {
        let is_footer = self.settings.trailer.as_ref().is_some_and(assay_transaction::TrailerPattern::is_footer);
        is_footer && (row.malformed.is_some() || self.rules.check(row.number, &row.fields, row.raw_bytes).is_err())
    }

    /// Whether a row is a transaction; otherwise the broken rule, with the row's bytes.
    pub(crate) fn judge<'r>(&'r mut self, row: &'r SourceRow<'_>) -> Result<CheckedRow<'r>, LastRow> {
        let nth = self.count(row).map_err(|error| LastRow::Uncountable(error.to_string()))?;
        let checked = match row.rejection() {
            Some(rejection) => Err(rejection),
            None => self.rules.check_fields(row.number, nth, &row.fields, row.raw_bytes),
        };
        let (judged, amount, other_reading) = match checked {
            Ok(fields) => {
                self.stats.ambiguous_hours += u64::from(fields.is_ambiguous_hour());
                if let Some(id) = fields.external_id() {
                    self.stats.lookalikes.add(row.number, id);
                }
                let amount = fields.amount();
                (Ok(fields), Some(amount), false)
            }
            Err(rejection) => {
                let mut rejection = match self.header_in(row) {
                    Some(HeaderRow::Same) => {
                        let message = "the row repeats the header".to_owned();
                        Rejection::new(RejectReason::HeaderRepeated, message)
                    }
                    Some(HeaderRow::Other(difference)) => return Err(LastRow::OtherHeader(difference)),
                    None => rejection,
                };
                rejection.other_reading |= is_in_another_encoding(self.settings, row.end, &rejection.reason);
                self.stats.note(row, &rejection);
                let Rejection { reason, message, other_reading, .. } = rejection;
                let raw = RawText::from(row.raw.to_vec());
                let rejected = RejectedRow { row: row.number, line: row.line, reason, message, raw };
                (Err(rejected), self.rules.amount(row.number, &row.fields), other_reading)
            }
        };
        self.stats.rows += 1;
        let bytes = self.bytes.of(row.raw, row.raw_bytes, &row.fields);
        Ok(CheckedRow { row: judged, amount, other_reading, bytes, end: row.end })
    }

    fn header_in(&self, row: &SourceRow<'_>) -> Option<HeaderRow> {
        self.headers.as_ref().filter(|_| row.malformed.is_none())?.find(&row.fields)
    }

    /// Why the run must end after this many rows: too many are invalid, or fit only another reading. None while it may
    /// continue.
    pub(crate) fn spent(&self, counted: CheckpointCounts, rows: u64, is_end: bool) -> Option<String> {
        let read_wrongly = || {
            let other = counted.other_reading;
            Budgets::is_misread(other, rows, is_end).then(|| {
                let readings = recognised(self.settings);
                let example = self.stats.other_reading.as_deref().map(|row| format!(", such as {row}")).unwrap_or_default();
                format!(
                    "{other} of {rows} rows fit another reading than {} alone, more than one in a thousand{example}; set {} to the \
                     right one",
                    readings.0, readings.1
                )
            })
        };
        self.settings.budgets.exceeded_by_invalid(counted.invalid, rows, is_end).or_else(read_wrongly)
    }
}

/// Whether a row that is not UTF-8 fits only another encoding: if the sample is ASCII, nothing proves that the source is UTF-8.
/// Rows within the sample were known then.
fn is_in_another_encoding(settings: &RunSettings, end: Position, reason: &RejectReason) -> bool {
    *reason == RejectReason::Encoding && end.offset > HEAD_BYTES as u64 && is_encoding_default(settings)
}

/// Whether the encoding was neither recognised nor set.
fn is_encoding_default(settings: &RunSettings) -> bool {
    settings.decisions.iter().any(|it| it.what == DecisionSubject::Encoding && it.by == DecidedBy::Default)
}

/// The recognised readings in words, and the settings that choose others.
fn recognised(settings: &RunSettings) -> (String, String) {
    let names = [
        (DecisionSubject::DecimalMark, "DECIMAL_MARK"),
        (DecisionSubject::Timestamps, "TIMESTAMP_FORMAT"),
        (DecisionSubject::Encoding, "ENCODING"),
    ];
    let is_recognised = |what: DecisionSubject| match what {
        DecisionSubject::Encoding => is_encoding_default(settings),
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
    fn rows_of_another_reading_name_the_recognised_one_and_its_setting() {
        let decision = |what, value: &str, by| Decision { what, value: value.into(), by, evidence: String::new() };
        let decisions = vec![
            decision(DecisionSubject::DecimalMark, "point", DecidedBy::Set),
            decision(DecisionSubject::Timestamps, "%d/%m/%Y", DecidedBy::Recognised),
        ];
        let settings = RunSettings { decisions, ..RunSettings::example() };
        let mut judge = Judge::of_run(&settings).unwrap();
        judge.stats.other_reading = Some("row 7 (line 8): `timestamp` is none".to_owned());
        let counted =
            |other_reading| CheckpointCounts { invalid: other_reading, other_reading, ..CheckpointCounts::default() };
        assert_eq!(judge.spent(counted(1), 1_000, false), None);
        assert_eq!(judge.spent(counted(2), 999, false), None, "too few rows");
        assert_eq!(
            judge.spent(counted(2), 1_000, false).unwrap(),
            "2 of 1000 rows fit another reading than timestamps %d/%m/%Y (recognised) alone, more than one in a thousand, such as \
             row 7 (line 8): `timestamp` is none; set TIMESTAMP_FORMAT to the right one"
        );
    }

    #[test]
    fn invalid_utf8_after_an_ascii_sample_is_another_encoding() {
        let decision =
            |by| Decision { what: DecisionSubject::Encoding, value: "UTF-8".into(), by, evidence: String::new() };
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
            let reason = judge
                .spent(CheckpointCounts { invalid: 9, other_reading: 9, ..CheckpointCounts::default() }, 1_000, true)
                .unwrap();
            assert_eq!(reason.ends_with("set ENCODING to the right one"), by == DecidedBy::Default, "{reason}");
        }
    }
}
