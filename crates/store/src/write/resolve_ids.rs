//! Which of several rows with one id is stored, and what becomes of the others. No I/O: `write` carries out what is asked
//! here, and reports back.
//!
//! Rows with one id stand in line, in (run, chunk, row) order. The first that can be inserted is; those behind it are compared
//! with what is then stored. A row that the database refuses leaves its place to the next.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use assay_transaction::Transaction;
use uuid::Uuid;

use crate::IdConflict;
use crate::write::same_content::is_alike;
use crate::write::transaction::{StagedRow, StoredTransaction};

/// Most characters of one value that a reason quotes.
const MAX_QUOTED: usize = 200;
/// Most characters of a reason.
const MAX_REASON: usize = 2_000;

/// What became of a scored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Still in line.
    Open,
    /// Stored; its id was not there before.
    Stored,
    /// Stored before, by this very row: the record of its chunk was lost since. The first answer counts.
    Kept,
    /// Stored before with the same content, or with one that the rules of reading alone make another.
    Duplicate,
    /// Stored before with other content, which gave way to this row's. The row counts as a duplicate.
    Replacing,
    /// Stored before with other content.
    Conflict(String),
    /// The database refuses its data.
    Refused(String),
    /// It was not scored, as it was stored with the same content, and is not any more.
    Unscored,
}

/// What is known to be stored under an id.
enum Content {
    Unknown,
    /// The content of a row of this booking.
    Row(usize),
    Stored(Box<StoredTransaction>),
}

/// All rows with one id.
struct Line {
    id: Uuid,
    /// Places in `Booking::order`.
    next: usize,
    end: usize,
    content: Content,
}

/// The rows of one transaction.
pub(crate) struct Booking<'a> {
    rows: &'a [&'a StagedRow<'a>],
    /// Rows by id, then by their own order.
    order: Vec<usize>,
    /// By id.
    lines: Vec<Line>,
    fates: Vec<Fate>,
}

impl<'a> Booking<'a> {
    /// Takes rows in (run, chunk, row) order.
    pub(crate) fn new(rows: &'a [&'a StagedRow<'a>]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| rows[*row].transaction.id);
        let mut lines: Vec<Line> = Vec::with_capacity(rows.len());
        for (place, row) in order.iter().enumerate() {
            let id = rows[*row].transaction.id;
            match lines.last_mut() {
                Some(line) if line.id == id => line.end = place + 1,
                _ => lines.push(Line { id, next: place, end: place + 1, content: Content::Unknown }),
            }
        }
        Self { rows, order, lines, fates: vec![Fate::Open; rows.len()] }
    }

    /// Rows to insert, by id.
    pub(crate) fn to_insert(&self) -> Vec<usize> {
        let unknown = |line: &&Line| matches!(line.content, Content::Unknown) && line.next < line.end;
        self.lines.iter().filter(unknown).map(|line| self.order[line.next]).collect()
    }

    /// Takes what became of them: the ids that were not stored before, and the rows that the database refused. Gives the ids
    /// of all others, whose stored content is wanted.
    pub(crate) fn inserted(&mut self, won: &[Uuid], mut refused: HashMap<usize, String>) -> Vec<Uuid> {
        let asked = self.lines.iter().filter(|line| matches!(line.content, Content::Unknown) && line.next < line.end);
        let all = won.len() == asked.count();
        let won: HashSet<&Uuid> = if all { HashSet::new() } else { won.iter().collect() };
        let mut lost = Vec::new();
        for line in &mut self.lines {
            if !matches!(line.content, Content::Unknown) || line.next == line.end {
                continue;
            }
            let row = self.order[line.next];
            if all || won.contains(&line.id) {
                self.fates[row] = Fate::Stored;
                line.content = Content::Row(row);
                line.next += 1;
            } else if let Some(reason) = refused.remove(&row) {
                self.fates[row] = Fate::Refused(reason);
                line.next += 1;
            } else {
                lost.push(line.id);
            }
        }
        lost
    }

    /// Takes stored content.
    pub(crate) fn found(&mut self, stored: Vec<StoredTransaction>) {
        for stored in stored {
            if let Ok(at) = self.lines.binary_search_by_key(&stored.transaction.id, |line| line.id) {
                self.lines[at].content = Content::Stored(Box::new(stored));
            }
        }
    }

    /// Compares rows with what is stored, and gives those whose content is to replace it, by id, one of each at most.
    pub(crate) fn compare(&mut self, on_conflict: IdConflict) -> Vec<usize> {
        let mut replacing = Vec::new();
        for line in &mut self.lines {
            let (stored, external_id, place) = match &line.content {
                Content::Unknown => continue,
                _ if line.next == line.end => continue,
                Content::Row(row) => {
                    let row = self.rows[*row];
                    (row.whole(), row.external_id(), row.place())
                }
                Content::Stored(stored) => (stored.whole(), stored.external_id.as_deref(), stored.place()),
            };
            while line.next < line.end {
                let row = self.order[line.next];
                let here = self.rows[row];
                let new = here.whole();
                let same = says_the_same((&new, here.external_id()), (&stored, external_id));
                self.fates[row] = match on_conflict {
                    _ if here.place() == place => Fate::Kept,
                    _ if same => Fate::Duplicate,
                    IdConflict::Fail => Fate::Conflict(reason(here, &new, &stored, external_id, place)),
                    IdConflict::Update => {
                        replacing.push(row);
                        break;
                    }
                };
                line.next += 1;
            }
        }
        replacing
    }

    /// Takes what became of the rows that were to replace stored ones.
    pub(crate) fn replaced(&mut self, rows: &[usize], mut refused: HashMap<usize, String>) {
        for row in rows {
            let id = self.rows[*row].transaction.id;
            let Ok(at) = self.lines.binary_search_by_key(&id, |line| line.id) else { continue };
            self.lines[at].next += 1;
            self.fates[*row] = if let Some(reason) = refused.remove(row) {
                Fate::Refused(reason)
            } else {
                self.lines[at].content = Content::Row(*row);
                Fate::Replacing
            };
        }
    }

    /// Whether nobody is left in line.
    pub(crate) fn is_done(&self) -> bool {
        self.lines.iter().all(|line| line.next == line.end)
    }

    /// Rows that had stored their transaction before, by id.
    pub(crate) fn kept(&self) -> Vec<usize> {
        self.order.iter().copied().filter(|row| self.fates[*row] == Fate::Kept).collect()
    }

    /// What became of each row.
    pub(crate) fn into_fates(self) -> Vec<Fate> {
        self.fates
    }
}

/// Whether two contents of one id, each with the original id, are the same or differ by the rules of reading alone.
pub(crate) fn says_the_same(one: (&Transaction, Option<&str>), other: (&Transaction, Option<&str>)) -> bool {
    one == other || is_alike(one.0, one.1, other.0, other.1)
}

/// What differs between a row and what is stored under its id, both sides of it.
fn reason(
    here: &StagedRow<'_>,
    new: &Transaction,
    stored: &Transaction,
    stored_external_id: Option<&str>,
    (run_id, row): (&str, u64),
) -> String {
    let attributes = |transaction: &Transaction| serde_json::to_string(&transaction.attributes).unwrap_or_default();
    let mut text = format!("another transaction with this id is stored (run {run_id}, row {row})");
    let mut differs = |field: &str, there: &str, here: &str| {
        // A string takes all that is written.
        let _ = write!(text, "; {field} is `{}` there and `{}` here", quoted(there), quoted(here));
    };
    if new.amount != stored.amount {
        differs("amount", &stored.amount.to_string(), &new.amount.to_string());
    }
    if new.timestamp != stored.timestamp {
        differs("timestamp", &stored.timestamp.to_string(), &new.timestamp.to_string());
    }
    let texts = [
        ("description", Some(stored.description.as_str()), Some(new.description.as_str())),
        ("merchant", stored.merchant.as_deref(), new.merchant.as_deref()),
        ("operation_type", Some(stored.operation_type.as_str()), Some(new.operation_type.as_str())),
        ("side", Some(stored.side.as_str()), Some(new.side.as_str())),
        ("external_id", stored_external_id, here.external_id()),
    ];
    for (field, there, here) in texts {
        if there != here {
            differs(field, there.unwrap_or_default(), here.unwrap_or_default());
        }
    }
    if new.attributes != stored.attributes {
        differs("attributes", &attributes(stored), &attributes(new));
    }
    text.chars().take(MAX_REASON).collect()
}

/// The start of a value.
fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
