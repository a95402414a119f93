//! Plain JSON from any producer: one transaction, an array of them, or one per line, checked by the rules of all sources.

use serde_json::value::RawValue;

use crate::WireError;
use crate::schema::json_fields::JsonNames;
use crate::{
    Entry, HeaderError, MAX_RAW_KEPT, MAX_ROW_BYTES, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, RawText, RejectReason,
    RejectedRow, Rejection, Rules, RunSettings,
};

/// Most transactions of one message.
pub const MAX_LIVE_ROWS: usize = 1_000;

/// Why a body cannot be split into transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveBodyError {
    /// It is neither an object, an array, nor objects on lines.
    #[error("it is neither a JSON object, an array of objects, nor one object per line")]
    Json,
    /// It is empty.
    #[error("it has no transactions")]
    Empty,
    /// It has too many transactions.
    #[error("it has {0} transactions; a message may have at most {MAX_LIVE_ROWS}: send several")]
    TooMany(usize),
}

/// The transactions of a body, each as its own JSON. Lines that are not objects are left to the rules; an array must be
/// readable as a whole, as a broken one has no certain element boundaries.
pub fn split_transactions(body: &[u8]) -> Result<Vec<&[u8]>, LiveBodyError> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let rows: Vec<&[u8]> = match text.first() {
        None => return Err(LiveBodyError::Empty),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_slice(text).map_err(|_| LiveBodyError::Json)?;
            elements.into_iter().map(|element| element.get().as_bytes()).collect()
        }
        // One object on any number of lines, or one per line.
        Some(b'{') if serde_json::from_slice::<&RawValue>(text).is_ok() => vec![text],
        Some(b'{') => text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|row| !row.is_empty()).collect(),
        Some(_) => return Err(LiveBodyError::Json),
    };
    match rows.len() {
        0 => Err(LiveBodyError::Empty),
        1..=MAX_LIVE_ROWS => Ok(rows),
        rows => Err(LiveBodyError::TooMany(rows)),
    }
}

/// The rules for live transactions.
#[derive(Debug, Clone)]
pub struct LiveRules {
    rules: Rules,
    names: JsonNames,
    id: usize,
}

impl LiveRules {
    /// The rules for live transactions, with the zone and namespace of these settings.
    pub fn new(settings: &RunSettings) -> Result<Self, HeaderError> {
        let header: Vec<String> =
            REQUIRED_COLUMNS.iter().chain(&OPTIONAL_COLUMNS).map(|name| (*name).to_owned()).collect();
        let settings = RunSettings { header: header.clone(), mapping: None, ..settings.clone() };
        let id = header.iter().position(|name| name == "id").unwrap_or_default();
        Ok(Self { rules: Rules::of_run(&settings)?.without_settings(), names: JsonNames::new(&header), id })
    }

    /// Checks a row; a rejected row has its own bytes.
    pub fn judge(&self, row: u64, json: &[u8]) -> Result<Result<Entry, RejectedRow>, WireError> {
        match self.check(row, json) {
            Ok(valid) => Entry::new(row, &valid).map(Ok),
            Err(Rejection { reason, message, .. }) => {
                let raw = RawText::from(json[..json.len().min(MAX_RAW_KEPT)].to_vec());
                Ok(Err(RejectedRow { row, line: row, reason, message, raw }))
            }
        }
    }

    fn check(&self, row: u64, json: &[u8]) -> Result<crate::ValidRow, Rejection> {
        if json.len() > MAX_ROW_BYTES {
            let message = format!("the transaction has {} bytes, more than {MAX_ROW_BYTES}", json.len());
            return Err(Rejection::new(RejectReason::RowTooLarge, message));
        }
        let fields = self.names.fields(json).map_err(|reason| {
            let message = match reason {
                RejectReason::Encoding => "the transaction is not UTF-8",
                _ => "the transaction is not a JSON object with unique keys",
            };
            Rejection::new(reason, message.to_owned())
        })?;
        // As text, it would be the same id for every producer with this mistake.
        if !fields.is_text_or_number(self.id) {
            return Err(Rejection::new(RejectReason::JsonFormat, "`id` is neither text nor a number".to_owned()));
        }
        self.rules.check(row, &fields, json.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"4711","description":"Café","amount":12.50,"timestamp":"2026-01-11T10:00:00Z","operation_type":"payment","side":"debit","country":"FR"}"#;

    #[test]
    fn one_many_or_one_per_line() {
        for (body, expected) in [
            (GOOD.to_owned(), Ok(1)),
            (format!("\u{feff} [{GOOD},\n {GOOD}]\n"), Ok(2)),
            (format!("{GOOD}\n\n{GOOD}\r\n{{\"broken\n"), Ok(3)),
            (GOOD.replace(',', ",\n"), Ok(1)),
            (format!("[{GOOD}, 7]"), Ok(2)),
            (format!("[{GOOD}"), Err(LiveBodyError::Json)),
            ("\"text\"".to_owned(), Err(LiveBodyError::Json)),
            (" ".to_owned(), Err(LiveBodyError::Empty)),
            ("[]".to_owned(), Err(LiveBodyError::Empty)),
            (format!("{GOOD}\n").repeat(1_001), Err(LiveBodyError::TooMany(1_001))),
        ] {
            assert_eq!(
                split_transactions(body.as_bytes()).map(|rows| rows.len()),
                expected,
                "{}",
                &body[..body.len().min(40)]
            );
        }
    }

    #[test]
    fn live_rows_are_checked_like_any_other() {
        let rules = LiveRules::new(&RunSettings::example()).unwrap();
        let judge = |json: &str| rules.judge(3, json.as_bytes()).unwrap();
        let entry = judge(GOOD).unwrap();
        assert_eq!((entry.row, entry.external_id.as_deref()), (3, Some("4711")));
        let transaction = entry.transaction.decode().unwrap();
        assert_eq!(
            (transaction.amount.to_string().as_str(), transaction.attributes["country"].as_str()),
            ("12.50", "FR")
        );
        for (json, reason) in [
            (GOOD.replace("12.50", "1.00001"), RejectReason::AmountScale),
            (GOOD.replace("12.50", "\"1.234,50\""), RejectReason::AmountFormat),
            (GOOD.replace("12.50", "\"3,000\""), RejectReason::AmountMark),
            (GOOD.replace("\"4711\"", "null"), RejectReason::IdEmpty),
            (GOOD.replace("\"4711\"", "{}"), RejectReason::JsonFormat),
            (GOOD.replace("\"4711\"", "[4711]"), RejectReason::JsonFormat),
            (GOOD.replace("\"4711\"", "true"), RejectReason::JsonFormat),
            (GOOD.replace("\"id\":\"4711\"", "\"ID\":false"), RejectReason::JsonFormat),
            (GOOD.replace("country", "id"), RejectReason::JsonFormat),
            ("7".to_owned(), RejectReason::JsonFormat),
            (GOOD.replace("FR", &"x".repeat(MAX_ROW_BYTES)), RejectReason::RowTooLarge),
        ] {
            let rejected = judge(&json).unwrap_err();
            assert_eq!((rejected.row, rejected.reason), (3, reason));
            // Nothing can be set here.
            assert!(
                !rejected.message.contains("set ") && !rejected.message.contains("default"),
                "{}",
                rejected.message
            );
        }
    }

    #[test]
    fn an_id_may_be_a_number() {
        let rules = LiveRules::new(&RunSettings::example()).unwrap();
        let entry = |json: String| rules.judge(1, json.as_bytes()).unwrap().unwrap();
        let (text, number) = (entry(GOOD.to_owned()), entry(GOOD.replace("\"4711\"", "4711")));
        assert_eq!(text, number);
    }

    #[test]
    fn live_rows_are_read_by_the_second_rules() {
        let rules = LiveRules::new(&RunSettings::example()).unwrap();
        for (amount, expected) in
            [("12.500000", "12.5000"), ("1.25E1", "12.5"), ("\"1,234.50\"", "1234.50"), ("\" 3.000 \"", "3.000")]
        {
            let row =
                GOOD.replace("12.50", amount).replace("payment", " payment ").replace("10:00:00Z", "10:00:00 UTC");
            let transaction = rules.judge(1, row.as_bytes()).unwrap().unwrap().transaction.decode().unwrap();
            assert_eq!(
                (transaction.amount.to_string().as_str(), transaction.operation_type.as_str()),
                (expected, "payment")
            );
            assert_eq!(transaction.timestamp.to_string(), "2026-01-11T10:00:00Z");
        }
    }
}
