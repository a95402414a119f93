//! Which of several rows with one id is stored, and how the others resolve. No I/O: `chunks` executes what is decided here, and
//! reports back.
//!
//! Rows with one id form a group, in (run, chunk, row) order. The first that can be inserted is; those behind it are compared
//! with what is stored then. If the database refuses a row, the next one takes its turn.

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

/// How a scored row resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Not yet decided.
    Pending,
    /// Stored; its id was not there before.
    Stored,
    /// Stored before by this very row: the record of its chunk was lost since. The first outcome counts.
    Kept,
    /// Stored before with the same content, or one that differs by the rules of reading alone.
    Duplicate,
    /// Stored before with other content, which this row replaced. The row counts as a duplicate.
    Replaced,
    /// Stored before with other content.
    Conflict(String),
    /// The database refuses its data.
    Refused(String),
    /// Not scored, as it was stored with the same content, but is no longer stored so.
    Unscored,
}

/// What is known to be stored under an id.
enum StoredContent {
    Unknown,
    /// The content of one of the given rows.
    Row(usize),
    Stored(Box<StoredTransaction>),
}

/// All rows with one id.
struct IdGroup {
    id: Uuid,
    /// Positions in `IdResolver::order`.
    next: usize,
    end: usize,
    content: StoredContent,
}

/// The rows of one transaction.
pub(crate) struct IdResolver<'a> {
    rows: &'a [&'a StagedRow<'a>],
    /// Rows by id, then by their own order.
    order: Vec<usize>,
    /// By id.
    groups: Vec<IdGroup>,
    resolutions: Vec<Resolution>,
}

impl<'a> IdResolver<'a> {
    /// Takes rows in (run, chunk, row) order.
    pub(crate) fn new(rows: &'a [&'a StagedRow<'a>]) -> Self {
        // Side by side, as rows are far from each other in memory.
        let mut ids: Vec<(Uuid, usize)> = rows.iter().enumerate().map(|(at, row)| (row.transaction.id, at)).collect();
        ids.sort_unstable();
        let mut groups: Vec<IdGroup> = Vec::with_capacity(rows.len());
        for (place, (id, _)) in ids.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if group.id == *id => group.end = place + 1,
                _ => groups.push(IdGroup { id: *id, next: place, end: place + 1, content: StoredContent::Unknown }),
            }
        }
        let order = ids.into_iter().map(|(_, row)| row).collect();
        Self { rows, order, groups, resolutions: vec![Resolution::Pending; rows.len()] }
    }

    /// Rows to insert, by id.
    pub(crate) fn to_insert(&self) -> Vec<usize> {
        let unknown = |group: &&IdGroup| matches!(group.content, StoredContent::Unknown) && group.next < group.end;
        self.groups.iter().filter(unknown).map(|group| self.order[group.next]).collect()
    }

    /// Takes the newly stored ids, and the rows that the database refused. Returns all other ids, whose stored content is
    /// needed.
    pub(crate) fn inserted(&mut self, won: &[Uuid], mut refused: HashMap<usize, String>) -> Vec<Uuid> {
        let asked = self
            .groups
            .iter()
            .filter(|group| matches!(group.content, StoredContent::Unknown) && group.next < group.end);
        let all = won.len() == asked.count();
        let won: HashSet<&Uuid> = if all { HashSet::new() } else { won.iter().collect() };
        let mut lost = Vec::new();
        for group in &mut self.groups {
            if !matches!(group.content, StoredContent::Unknown) || group.next == group.end {
                continue;
            }
            let row = self.order[group.next];
            if all || won.contains(&group.id) {
                self.resolutions[row] = Resolution::Stored;
                group.content = StoredContent::Row(row);
                group.next += 1;
            } else if let Some(reason) = refused.remove(&row) {
                self.resolutions[row] = Resolution::Refused(reason);
                group.next += 1;
            } else {
                lost.push(group.id);
            }
        }
        lost
    }

    /// Takes the stored content of ids.
    pub(crate) fn found(&mut self, stored: Vec<StoredTransaction>) {
        for stored in stored {
            if let Ok(at) = self.groups.binary_search_by_key(&stored.transaction.id, |group| group.id) {
                self.groups[at].content = StoredContent::Stored(Box::new(stored));
            }
        }
    }

    /// Compares rows with what is stored; returns those that should replace it, by id, at most one for each.
    pub(crate) fn compare(&mut self, on_conflict: IdConflict) -> Vec<usize> {
        let mut replacing = Vec::new();
        for group in &mut self.groups {
            let (stored, external_id, origin) = match &group.content {
                StoredContent::Unknown => continue,
                _ if group.next == group.end => continue,
                StoredContent::Row(row) => {
                    let row = self.rows[*row];
                    (row.whole(), row.external_id(), row.origin())
                }
                StoredContent::Stored(stored) => (stored.whole(), stored.external_id.as_deref(), stored.origin()),
            };
            while group.next < group.end {
                let row = self.order[group.next];
                let here = self.rows[row];
                let new = here.whole();
                let same = is_same_content((&new, here.external_id()), (&stored, external_id));
                self.resolutions[row] = match on_conflict {
                    _ if here.origin() == origin => Resolution::Kept,
                    _ if same => Resolution::Duplicate,
                    IdConflict::Fail => Resolution::Conflict(conflict_reason(here, &new, &stored, external_id, origin)),
                    IdConflict::Update => {
                        replacing.push(row);
                        break;
                    }
                };
                group.next += 1;
            }
        }
        replacing
    }

    /// Takes the rows that should have replaced stored ones, and those that the database refused.
    pub(crate) fn replaced(&mut self, rows: &[usize], mut refused: HashMap<usize, String>) {
        for row in rows {
            let id = self.rows[*row].transaction.id;
            let Ok(at) = self.groups.binary_search_by_key(&id, |group| group.id) else { continue };
            self.groups[at].next += 1;
            self.resolutions[*row] = if let Some(reason) = refused.remove(row) {
                Resolution::Refused(reason)
            } else {
                self.groups[at].content = StoredContent::Row(*row);
                Resolution::Replaced
            };
        }
    }

    /// Whether each row is resolved.
    pub(crate) fn is_done(&self) -> bool {
        self.groups.iter().all(|group| group.next == group.end)
    }

    /// Rows that stored their transaction before, by id.
    pub(crate) fn kept(&self) -> Vec<usize> {
        self.order.iter().copied().filter(|row| self.resolutions[*row] == Resolution::Kept).collect()
    }

    /// The resolution of each row.
    pub(crate) fn into_resolutions(self) -> Vec<Resolution> {
        self.resolutions
    }
}

/// Whether two contents of one id, each with its external id, are the same or differ by the rules of reading alone.
pub(crate) fn is_same_content(one: (&Transaction, Option<&str>), other: (&Transaction, Option<&str>)) -> bool {
    one == other || is_alike(one.0, one.1, other.0, other.1)
}

/// What differs between a row and what is stored under its id, both sides quoted.
fn conflict_reason(
    here: &StagedRow<'_>,
    new: &Transaction,
    stored: &Transaction,
    stored_external_id: Option<&str>,
    (run_id, row): (&str, u64),
) -> String {
    let attributes = |transaction: &Transaction| serde_json::to_string(&transaction.attributes).unwrap_or_default();
    let mut text = format!("another transaction with this id is stored (run {run_id}, row {row})");
    let mut differs = |field: &str, there: &str, here: &str| {
        // Writing to a string cannot fail.
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
