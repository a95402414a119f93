//! Finds where the wanted ids are: by their identities in the tables, by what the raw text of invalid rows parses to, and in the
//! bodies of dead letters.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use assay_source::RowReader;
use assay_store::{InvalidRecord, LetterBody, RowOutcome, Store};
use assay_transaction::{FailureClass, Namespace, Rules, RunId, RunSettings};
use serde_json::Value;
use tracing::info;
use uuid::Uuid;

use super::lists::ListLine;
use crate::error::CommandError;
use crate::output::grouped;

/// Identities that are looked up together.
const LOOKED_UP: usize = 10_000;
/// Invalid rows of a query, with up to 64 KiB each.
const ROWS: u32 = 100;
/// Dead letters of a query, with up to some MiB each.
const LETTERS: u32 = 10;
/// Progress is logged after this many invalid rows.
const LOG_EVERY_ROWS: u64 = 100_000;

/// What is to be erased, and which lines of the lists named nothing.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Identities that are stored, failed or in the history.
    pub(super) ids: BTreeSet<Uuid>,
    /// Identities that may still come: of runs that are not finished, and of invalid rows that may be corrected.
    pub(super) expected: BTreeSet<Uuid>,
    /// Invalid rows, and failed ones without an identity.
    pub(super) rows: BTreeSet<(RunId, u64)>,
    /// Dead letters.
    pub(super) letters: BTreeSet<u64>,
    /// Lines of the list of ids that were found nowhere.
    pub(super) unknown_ids: Vec<u64>,
    /// Lines of the list of rows that no recorded row has.
    pub(super) unknown_rows: Vec<u64>,
    /// Invalid rows whose ids cannot be read: any of them may be wanted.
    pub(super) unreadable: BTreeMap<RunId, u64>,
}

/// The search for the ids of a list.
struct Search<'a> {
    store: &'a dyn Store,
    lines: &'a [ListLine<String>],
    /// Lines by id, as written.
    by_text: HashMap<&'a str, u64>,
    /// Lines by identity, of those that are known or expected.
    by_id: HashMap<Uuid, u64>,
    met: HashSet<u64>,
    found: Found,
}

/// Finds everything that the lists name.
pub(super) async fn search(
    store: &dyn Store,
    ids: &[ListLine<String>],
    rows: &[ListLine<(RunId, u64)>],
) -> Result<Found, CommandError> {
    let by_text = ids.iter().map(|line| (line.value.as_str(), line.line)).collect();
    let (by_id, met, found) = (HashMap::new(), HashSet::new(), Found::default());
    let mut search = Search { store, lines: ids, by_text, by_id, met, found };
    for row in rows {
        search.add_row(row).await?;
    }
    if !ids.is_empty() {
        search.find_identities().await?;
        search.expect_identities().await?;
        search.find_invalid_rows().await?;
        search.find_letters().await?;
    }
    let Search { met, mut found, .. } = search;
    found.unknown_ids = ids.iter().map(|line| line.line).filter(|line| !met.contains(line)).collect();
    Ok(found)
}

impl Search<'_> {
    /// Adds what a row holds: its identity, or the row itself.
    async fn add_row(&mut self, line: &ListLine<(RunId, u64)>) -> Result<(), CommandError> {
        let (run_id, row) = &line.value;
        match self.store.row(run_id, *row).await? {
            RowOutcome::Predicted(record) => drop(self.found.ids.insert(record.transaction.id)),
            RowOutcome::Duplicate { transaction_id, .. } => drop(self.found.ids.insert(transaction_id)),
            RowOutcome::Failed(record) if FailureClass::from(record.class.as_str()).is_tombstone() => {
                self.found.unknown_rows.push(line.line);
            }
            RowOutcome::Failed(record) if !record.transaction_id.is_nil() => {
                self.found.ids.insert(record.transaction_id);
            }
            RowOutcome::Failed(_) | RowOutcome::Invalid(_) => drop(self.found.rows.insert(line.value.clone())),
            RowOutcome::Unrecorded => self.found.unknown_rows.push(line.line),
        }
        Ok(())
    }

    /// The identities of all ids in all namespaces, and those that are UUIDs in any notation.
    async fn find_identities(&mut self) -> Result<(), CommandError> {
        let uuids: Vec<(Uuid, u64)> =
            self.lines.iter().filter_map(|line| Some((Uuid::try_parse(&line.value).ok()?, line.line))).collect();
        self.look_up(&uuids).await?;
        // UUIDs are refused in any case: they are the same in each namespace.
        for (id, line) in uuids {
            self.by_id.insert(id, line);
            self.found.expected.insert(id);
        }
        for namespace in self.store.namespaces().await? {
            let identities = self.identities(Namespace::new(&namespace.to_string()));
            self.look_up(&identities).await?;
        }
        Ok(())
    }

    fn identities(&self, namespace: Namespace) -> Vec<(Uuid, u64)> {
        let scheme = self.store.ids();
        self.lines.iter().map(|line| (namespace.identify(scheme, &line.value).0, line.line)).collect()
    }

    async fn look_up(&mut self, identities: &[(Uuid, u64)]) -> Result<(), CommandError> {
        for group in identities.chunks(LOOKED_UP) {
            let ids: Vec<Uuid> = group.iter().map(|(id, _)| *id).collect();
            let known: HashSet<Uuid> = self.store.known_ids(&ids).await?.into_iter().collect();
            for (id, line) in group.iter().filter(|(id, _)| known.contains(id)) {
                self.met.insert(*line);
                self.by_id.insert(*id, *line);
                self.found.ids.insert(*id);
            }
        }
        Ok(())
    }

    /// Identities that messages on their way may have.
    async fn expect_identities(&mut self) -> Result<(), CommandError> {
        for open in self.store.open_runs().await? {
            for (id, line) in self.identities(open.run.settings.namespace) {
                self.by_id.insert(id, line);
                self.found.expected.insert(id);
            }
        }
        Ok(())
    }

    async fn find_invalid_rows(&mut self) -> Result<(), CommandError> {
        let (mut of_run, mut after, mut read): (Option<ReadingOfRun>, Option<(RunId, u64)>, u64) = (None, None, 0);
        loop {
            let from = after.as_ref().map(|(run_id, row)| (run_id, *row));
            let page = self.store.all_invalid_rows(from, ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.run_id.clone(), last.row));
            for record in page {
                if of_run.as_ref().is_none_or(|reading| reading.run_id != record.run_id) {
                    of_run = Some(ReadingOfRun::new(self.store, &record.run_id).await?);
                }
                if let Some(reading) = &of_run {
                    self.note_invalid_row(reading, record).await;
                }
                read += 1;
                if read.is_multiple_of(LOG_EVERY_ROWS) {
                    info!("Searched {} invalid rows", grouped(read));
                }
            }
        }
    }

    async fn note_invalid_row(&mut self, reading: &ReadingOfRun, record: InvalidRecord) {
        let (run_id, row) = (record.run_id.clone(), record.row);
        let Some(id) = reading.id_of(record).await else {
            *self.found.unreadable.entry(run_id).or_default() += 1;
            return;
        };
        if let Some(line) = self.line_of(&id) {
            self.met.insert(line);
            self.found.rows.insert((run_id, row));
            // The row may be corrected and loaded again.
            self.found.expected.extend(reading.identity(&id));
        }
    }

    async fn find_letters(&mut self) -> Result<(), CommandError> {
        let mut after = 0;
        loop {
            let page = self.store.letter_bodies(after, LETTERS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            for LetterBody { id, body } in page {
                if let Some(line) = self.line_in(&body) {
                    self.met.insert(line);
                    self.found.letters.insert(id);
                }
            }
        }
    }

    /// The line with an id in a body: in a field of that name if it is JSON, else anywhere.
    fn line_in(&self, body: &[u8]) -> Option<u64> {
        for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
            match value {
                Ok(value) => match self.line_in_value(&value) {
                    None => {}
                    found => return found,
                },
                Err(_) => return self.line_in_bytes(body),
            }
        }
        None
    }

    fn line_in_value(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Array(values) => values.iter().find_map(|value| self.line_in_value(value)),
            Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
                Value::String(text) if names_an_id(name) => self.line_of(text.trim()),
                Value::Number(number) if names_an_id(name) => self.line_of(&number.to_string()),
                value => self.line_in_value(value),
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }

    /// Nobody can read such a body, so one too many does no harm.
    fn line_in_bytes(&self, body: &[u8]) -> Option<u64> {
        let holds = |text: &str| body.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()));
        let written = self.lines.iter().find(|line| holds(&line.value)).map(|line| line.line);
        written.or_else(|| self.by_id.iter().find(|(id, _)| holds(&id.to_string())).map(|(_, line)| *line))
    }

    fn line_of(&self, text: &str) -> Option<u64> {
        let by_id = || self.by_id.get(&Uuid::try_parse(text).ok()?);
        self.by_text.get(text).or_else(by_id).copied()
    }
}

/// `id`, `external_id`, `transactionId`.
fn names_an_id(name: &str) -> bool {
    name.len() >= 2 && name.is_char_boundary(name.len() - 2) && name[name.len() - 2..].eq_ignore_ascii_case("id")
}

/// How the rows of a run are read; none if this version cannot.
struct ReadingOfRun {
    run_id: RunId,
    rules: Option<(RunSettings, Rules)>,
}

impl ReadingOfRun {
    async fn new(store: &dyn Store, run_id: &RunId) -> Result<Self, CommandError> {
        let settings = store.run(run_id).await?.map(|run| run.settings);
        let rules = settings.and_then(|settings| Rules::of_run(&settings).ok().map(|rules| (settings, rules)));
        Ok(Self { run_id: run_id.clone(), rules })
    }

    /// The id of an invalid row, as its source has it.
    async fn id_of(&self, record: InvalidRecord) -> Option<String> {
        let (settings, rules) = self.rules.as_ref()?;
        let mut reader = RowReader::of_row(record.raw, settings);
        let batch = reader.next_batch(1).await.ok()??;
        let row = batch.rows().next().filter(|row| row.malformed.is_none())?;
        rules.written_id(record.row, &row.fields).map(Cow::into_owned)
    }

    fn identity(&self, id: &str) -> Option<Uuid> {
        self.rules.as_ref().map(|(_, rules)| rules.identity(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_ids_are_known_by_their_names() {
        for (name, expected) in
            [("id", true), ("external_id", true), ("transactionId", true), ("i", false), ("ids", false), ("né", false)]
        {
            assert_eq!(names_an_id(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn an_invalid_row_has_the_id_that_its_run_reads() {
        let header = ["id", "description", "amount", "timestamp", "operation_type", "side"].map(str::to_owned).to_vec();
        let settings = RunSettings { header, ..RunSettings::example() };
        let rules = Rules::of_run(&settings).unwrap();
        let reading = ReadingOfRun { run_id: "run".parse().unwrap(), rules: Some((settings, rules)) };
        for (raw, expected) in [
            (&b" 4711 ,x,1.00001,2026-01-11 10:00:00,refund,debit"[..], Some("4711")),
            (b"\"a,b\",x", Some("a,b")),
            (b"4711,too,many,fields,are,here,and,here", Some("4711")),
            (b",x,1,2026-01-11 10:00:00,refund,debit", None),
            (b"\"open,x", None),
            (b"\xff\xfe,x,1", None),
            (b"", None),
        ] {
            let record = InvalidRecord {
                run_id: "run".parse().unwrap(),
                row: 1,
                line: 2,
                reason: "amount_scale".into(),
                message: String::new(),
                raw: raw.to_vec(),
            };
            assert_eq!(reading.id_of(record).await.as_deref(), expected, "{}", String::from_utf8_lossy(raw));
        }
    }
}
