//! The outcome of a case, from its output and the tables, compared with the expected one.

use std::collections::BTreeMap;

use super::book::Expect;

/// A stored transaction, by the names of its values.
pub(super) type Stored = BTreeMap<String, String>;

/// What came of a case.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) exit: i64,
    /// All that the last step said, and the messages of its rejected and failed rows.
    pub(super) said: String,
    pub(super) predicted: i64,
    pub(super) invalid: i64,
    pub(super) failed: i64,
    pub(super) duplicate: i64,
    pub(super) stored: Vec<Stored>,
}

/// The values of a row as a database tells them: as texts, numbers and times without zeros that say nothing.
pub(super) type Told = (Option<String>, String, String, String, Option<String>, String, String, Option<String>);

/// A row by the names of its values.
pub(super) fn stored((id, description, amount, timestamp, merchant, operation_type, side, attributes): Told) -> Stored {
    let mut row = BTreeMap::from([
        ("id", id.unwrap_or_default()),
        ("description", description),
        ("amount", without_zeros(&amount)),
        ("timestamp", without_zeros(timestamp.trim_end_matches('Z')) + "Z"),
        ("merchant", merchant.unwrap_or_default()),
        ("operation_type", operation_type),
        ("side", side),
    ])
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect::<Stored>();
    let attributes: BTreeMap<String, String> =
        attributes.map(|json| serde_json::from_str(&json).expect("attributes are texts")).unwrap_or_default();
    row.extend(attributes.into_iter().map(|(name, value)| (format!("attr.{name}"), value)));
    row
}

/// Without the zeros at the end of a fraction.
fn without_zeros(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

impl Outcome {
    /// What is not as it must be; nothing where all of it is.
    pub(super) fn wrong(&self, expect: &Expect) -> Vec<String> {
        let mut wrong = Vec::new();
        let numbers = [
            ("exit", &expect.exit, self.exit),
            ("predicted", &expect.predicted, self.predicted),
            ("invalid", &expect.invalid, self.invalid),
            ("failed", &expect.failed, self.failed),
            ("duplicate", &expect.duplicate, self.duplicate),
        ];
        wrong.extend(
            numbers
                .into_iter()
                .filter(|(_, choice, number)| !choice.takes(*number))
                .map(|(name, choice, number)| format!("{name} is {number}, not {choice:?}")),
        );
        let is_so = |row: &Stored, values: &Stored| values.iter().all(|(name, value)| row.get(name) == Some(value));
        for values in &expect.values {
            if !self.stored.iter().any(|row| is_so(row, values)) {
                let same_id =
                    self.stored.iter().find(|row| values.get("id").is_some_and(|id| row.get("id") == Some(id)));
                wrong.push(format!("no row has {values:?}, but {same_id:?}"));
            }
        }
        for values in &expect.never {
            if self.stored.iter().any(|row| is_so(row, values)) {
                wrong.push(format!("a row has {values:?}"));
            }
        }
        wrong.extend(self.unsaid(&expect.says));
        if !expect.any.is_empty() {
            let each: Vec<Vec<String>> = expect.any.iter().map(|one| self.wrong(one)).collect();
            if !each.iter().any(Vec::is_empty) {
                wrong.push(format!(
                    "nothing of what may be: {}",
                    each.iter().map(|one| one.join(" and ")).collect::<Vec<_>>().join("; or ")
                ));
            }
        }
        wrong
    }

    /// Words that were not said; where `|` stands between several, one of them is enough.
    pub(super) fn unsaid(&self, words: &[String]) -> Vec<String> {
        let is_said = |words: &str| words.split('|').any(|word| self.said.contains(word));
        let missing = words.iter().filter(|words| !is_said(words));
        missing.map(|words| format!("`{words}` is not said")).collect()
    }
}
