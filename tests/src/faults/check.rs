//! Whether every row has become what it was to become: read from the tables, and compared with the file and its manifest.

use std::collections::{BTreeMap, HashMap, HashSet};

use assay_transaction::MAX_RAW_KEPT;
use sqlx::PgPool;

use super::content::{Content, MODEL};
use super::source::{Fate, Raw, Row, Source};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Rows that were looked at.
    pub(super) rows: u64,
    /// Rows of the file without any outcome.
    pub(super) lost: u64,
    /// Outcomes beyond the one of a row.
    pub(super) doubled: u64,
    /// What is not as it should be, the first of each kind in words.
    pub(super) wrong: Vec<String>,
}

impl Found {
    /// Whether all is well.
    pub(super) fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong.is_empty()
    }

    fn say(&mut self, wrong: String) {
        // Whole files would fill screens.
        if self.wrong.len() < 5 {
            self.wrong.push(wrong);
        }
    }
}

/// An outcome, as the tables tell it.
#[derive(Debug)]
enum Outcome {
    Stored(Box<Stored>),
    Invalid {
        reason: String,
        raw: Raw,
    },
    Failed {
        class: String,
    },
    /// Of the transaction with this id.
    Duplicate {
        of: String,
    },
}

#[derive(Debug)]
struct Stored {
    id: String,
    external_id: Option<String>,
    content: Content,
    prediction: Option<String>,
    fraud_score: Option<f64>,
    model_version: Option<String>,
}

const STORED: &str = "
    SELECT t.row_number, t.id::text, t.external_id, t.description, t.amount::text,
        to_char(t.\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), coalesce(t.merchant, ''), t.operation_type,
        t.side, coalesce(t.attributes, '{}')::text, p.prediction, p.fraud_score, p.model_version
    FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.id";
const INVALID: &str = "SELECT row_number, reason, raw FROM invalid_transactions";
const FAILED: &str = "SELECT row_number, class FROM failed_transactions";
const DUPLICATES: &str = "
    SELECT (pair ->> 0)::bigint, pair ->> 1 FROM chunks, jsonb_array_elements(duplicate_rows) AS pair";

type StoredRow = (
    i64,
    String,
    Option<String>,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Option<f64>,
    Option<String>,
);

async fn outcomes(pool: &PgPool) -> sqlx::Result<BTreeMap<i64, Vec<Outcome>>> {
    let mut outcomes: BTreeMap<i64, Vec<Outcome>> = BTreeMap::new();
    let mut add = |row, outcome| outcomes.entry(row).or_default().push(outcome);
    let stored: Vec<StoredRow> = sqlx::query_as(STORED).fetch_all(pool).await?;
    for (row, id, external_id, description, amount, timestamp, merchant, operation_type, side, attributes, p, s, m) in
        stored
    {
        let attributes = serde_json::from_str(&attributes).expect("attributes are texts by name");
        let content = Content { description, amount, timestamp, merchant, operation_type, side, attributes };
        let stored = Stored { id, external_id, content, prediction: p, fraud_score: s, model_version: m };
        add(row, Outcome::Stored(Box::new(stored)));
    }
    let invalid: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(INVALID).fetch_all(pool).await?;
    for (row, reason, raw) in invalid {
        add(row, Outcome::Invalid { reason, raw: Raw(raw) });
    }
    let failed: Vec<(i64, String)> = sqlx::query_as(FAILED).fetch_all(pool).await?;
    for (row, class) in failed {
        add(row, Outcome::Failed { class });
    }
    let duplicates: Vec<(i64, String)> = sqlx::query_as(DUPLICATES).fetch_all(pool).await?;
    for (row, of) in duplicates {
        add(row, Outcome::Duplicate { of });
    }
    Ok(outcomes)
}

/// Compares the tables with the file. `given` holds the ids of all transactions that the ML API has scored.
pub(super) async fn check(
    pool: &PgPool,
    source: &Source,
    has_uuids: bool,
    given: &HashSet<String>,
) -> sqlx::Result<Found> {
    Ok(compare(outcomes(pool).await?, source, has_uuids, given))
}

fn compare(
    mut outcomes: BTreeMap<i64, Vec<Outcome>>,
    source: &Source,
    has_uuids: bool,
    given: &HashSet<String>,
) -> Found {
    let mut found = Found { rows: source.rows.len() as u64, ..Found::default() };
    // Each id of the file, the transaction that is stored for it, and those that its other rows are said to repeat.
    let mut stored_as: HashMap<&str, String> = HashMap::new();
    let mut repeated: Vec<(i64, &str, String)> = Vec::new();
    for (number, row) in (1..).zip(&source.rows) {
        let all = outcomes.remove(&number).unwrap_or_default();
        if all.is_empty() {
            found.lost += 1;
            found.say(format!("row {number} has no outcome: {row:?}"));
        } else if all.len() > 1 {
            found.doubled += all.len() as u64 - 1;
            found.say(format!("row {number} has {} outcomes: {all:?}", all.len()));
        }
        for outcome in all {
            match (source.fate(row), row, outcome) {
                (Fate::Stored, Row::Valid { id, content }, Outcome::Stored(stored)) => {
                    if let Some(wrong) = difference(&stored, id, content, has_uuids, given) {
                        found.say(format!("row {number} is stored with {wrong}"));
                    }
                    if let Some(other) = stored_as.insert(id, stored.id) {
                        found.doubled += 1;
                        found.say(format!("id {id} of row {number} is stored as {other} too"));
                    }
                }
                (Fate::Stored, Row::Valid { id, .. }, Outcome::Duplicate { of }) => repeated.push((number, id, of)),
                (Fate::Failed(wanted), _, Outcome::Failed { class }) if class == wanted => {}
                (Fate::Invalid(wanted), Row::Invalid { raw: own, .. }, Outcome::Invalid { reason, raw })
                    if reason == wanted && raw.0 == own.0[..own.0.len().min(MAX_RAW_KEPT)] => {}
                (fate, row, outcome) => {
                    found.say(format!("row {number} was to be {fate:?}, but is {outcome:?}; it is {row:?}"));
                }
            }
        }
    }
    for (number, id, of) in repeated {
        if stored_as.get(id) != Some(&of) {
            let stored = stored_as.get(id);
            found.say(format!("row {number} counts as a repetition of {of}, but its id {id} is stored as {stored:?}"));
        }
    }
    for (number, strange) in outcomes {
        found.doubled += strange.len() as u64;
        found.say(format!("there is no row {number} in the file, but it has {strange:?}"));
    }
    found
}

/// What is wrong with a stored transaction; none where nothing is.
fn difference(
    stored: &Stored,
    id: &str,
    content: &Content,
    has_uuids: bool,
    given: &HashSet<String>,
) -> Option<String> {
    let ids_are_right = if has_uuids {
        stored.id == id && stored.external_id.is_none()
    } else {
        stored.external_id.as_deref() == Some(id)
    };
    let verdict = content.fingerprint().verdict();
    let is_as_given = stored.prediction.as_deref() == Some(verdict.prediction)
        && stored.fraud_score == Some(verdict.fraud_score)
        && stored.model_version.as_deref() == Some(MODEL);
    if !ids_are_right {
        Some(format!("id {} and external id {:?}, not {id}", stored.id, stored.external_id))
    } else if stored.content != *content {
        Some(format!("{:?}, not {content:?}", stored.content))
    } else if !is_as_given {
        let Stored { prediction, fraud_score, model_version, .. } = stored;
        Some(format!("{prediction:?} {fraud_score:?} {model_version:?}, not {verdict:?}"))
    } else if !given.contains(&stored.id) {
        Some("a prediction that was never given".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(description: &str) -> Content {
        Content {
            description: description.to_owned(),
            amount: "1.0000".to_owned(),
            timestamp: "2026-01-31 10:00:00".to_owned(),
            merchant: String::new(),
            operation_type: "fee".to_owned(),
            side: "debit".to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    fn valid(id: &str) -> Row {
        Row::Valid { id: id.to_owned(), content: content(id) }
    }

    /// Rows 1 and 3 have the same id, row 2 is invalid, row 4 is one that the API refuses.
    fn source() -> Source {
        let invalid = Row::Invalid { reason: "id_empty".to_owned(), raw: Raw(b";x".to_vec()) };
        Source {
            path: "a.csv".into(),
            rows: vec![valid("a"), invalid, valid("a"), valid("d")],
            broken: HashSet::new(),
            refused: HashSet::from([content("d").fingerprint()]),
        }
    }

    fn stored(id: &str) -> Outcome {
        let content = content(id);
        let verdict = content.fingerprint().verdict();
        Outcome::Stored(Box::new(Stored {
            id: format!("uuid of {id}"),
            external_id: Some(id.to_owned()),
            content,
            prediction: Some(verdict.prediction.to_owned()),
            fraud_score: Some(verdict.fraud_score),
            model_version: Some(MODEL.to_owned()),
        }))
    }

    fn duplicate(of: &str) -> Outcome {
        Outcome::Duplicate { of: format!("uuid of {of}") }
    }

    fn failed(class: &str) -> Outcome {
        Outcome::Failed { class: class.to_owned() }
    }

    fn invalid(reason: &str, raw: &[u8]) -> Outcome {
        Outcome::Invalid { reason: reason.to_owned(), raw: Raw(raw.to_vec()) }
    }

    fn found(outcomes: impl IntoIterator<Item = (i64, Outcome)>) -> Found {
        let mut by_row: BTreeMap<i64, Vec<Outcome>> = BTreeMap::new();
        for (row, outcome) in outcomes {
            by_row.entry(row).or_default().push(outcome);
        }
        compare(by_row, &source(), false, &HashSet::from(["uuid of a".to_owned()]))
    }

    fn good() -> Vec<(i64, Outcome)> {
        vec![(1, stored("a")), (2, invalid("id_empty", b";x")), (3, duplicate("a")), (4, failed("rejected"))]
    }

    #[test]
    fn which_of_two_equal_ids_is_stored_is_free() {
        assert!(found(good()).is_good());
        let mut other = good();
        (other[0].1, other[2].1) = (duplicate("a"), stored("a"));
        assert!(found(other).is_good());
    }

    #[test]
    fn sees_what_is_lost_and_what_is_doubled() {
        for lost in 0..4 {
            let mut outcomes = good();
            outcomes.remove(lost);
            let found = found(outcomes);
            assert_eq!((found.lost, found.doubled), (1, 0), "row {} was removed: {found:?}", lost + 1);
        }
        for (row, again) in
            [(1, stored("a")), (1, failed("suspect")), (2, invalid("id_empty", b";x")), (9, duplicate("a"))]
        {
            let found = found(good().into_iter().chain([(row, again)]));
            assert!(found.lost == 0 && found.doubled > 0 && !found.is_good(), "{found:?}");
        }
        let mut both = good();
        both[2].1 = stored("a");
        assert_eq!(found(both).doubled, 1, "one id is stored twice");
    }

    #[test]
    fn sees_what_is_wrong() {
        let changed = |change: fn(&mut Stored)| {
            let Outcome::Stored(mut row) = stored("a") else { unreachable!("it is stored") };
            change(&mut row);
            Outcome::Stored(row)
        };
        let cases = [
            ("an amount", 0, changed(|row| row.content.amount = "1.0001".to_owned())),
            ("an attribute", 0, changed(|row| drop(row.content.attributes.insert("a".to_owned(), String::new())))),
            ("an external id", 0, changed(|row| row.external_id = None)),
            ("a score", 0, changed(|row| row.fraud_score = Some(0.5))),
            ("no prediction", 0, changed(|row| row.prediction = None)),
            ("a prediction never given", 0, changed(|row| row.id = "another".to_owned())),
            ("a failure of a good row", 0, failed("suspect")),
            ("another reason", 1, invalid("side_empty", b";x")),
            ("another row's bytes", 1, invalid("id_empty", b";y")),
            ("a repetition of another", 2, duplicate("d")),
            ("another class", 3, failed("suspect")),
            ("a row at fault that is stored", 3, stored("d")),
        ];
        for (what, at, outcome) in cases {
            let mut outcomes = good();
            outcomes[at].1 = outcome;
            let found = found(outcomes);
            assert!(!found.is_good(), "{what} passed");
        }
    }
}
