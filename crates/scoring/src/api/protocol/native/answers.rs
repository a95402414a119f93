//! Which entry of a response belongs to which transaction: by its id or, if that is declared, by its position.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::{MISSING, ResponseError, RowResult};
use super::Texts;

const TWICE: &str = "id is in the response twice";
const NONE_WITH_ID: &str = "no entry of the response has an id";
const STRANGERS: &str = "the response has only ids that were not asked for";

/// How the entries of a response belong to the transactions of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Matching {
    /// By their ids, in any order.
    #[default]
    Id,
    /// By their order, without ids: one for each transaction.
    Position,
}

/// How a response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// How its entries belong to the transactions.
    pub matching: Matching,
    /// Whether reasons are read; else they are ignored, whatever they are.
    pub with_reasons: bool,
}

impl From<Matching> for ReadOptions {
    fn from(matching: Matching) -> Self {
        Self { matching, with_reasons: false }
    }
}

/// The id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryId {
    /// It has none.
    Absent,
    /// It has one that no transaction of ours has.
    Unreadable,
    Is(Uuid),
}

impl From<Option<Uuid>> for EntryId {
    fn from(id: Option<Uuid>) -> Self {
        id.map_or(Self::Unreadable, Self::Is)
    }
}

/// The results of a response, matched as its entries are read.
pub(super) struct Answers<'a> {
    asked: &'a [Uuid],
    matching: Matching,
    results: Vec<Option<RowResult>>,
    /// How many entries were added, how many of them have an id, and how many a label.
    entries: usize,
    with_id: usize,
    with_label: usize,
    by_id: Option<HashMap<Uuid, usize>>,
    texts: Texts,
}

impl<'a> Answers<'a> {
    pub(super) fn to(asked: &'a [Uuid], matching: Matching) -> Self {
        Self {
            asked,
            matching,
            results: vec![None; asked.len()],
            entries: 0,
            with_id: 0,
            with_label: 0,
            by_id: None,
            texts: Texts::default(),
        }
    }

    /// Adds the next entry. By id, one without an id, or with an id that was not asked for, counts for nothing.
    pub(super) fn add(&mut self, id: EntryId, has_label: bool, result: impl FnOnce(&mut Texts) -> RowResult) {
        let at = self.entries;
        self.entries += 1;
        self.with_id += usize::from(id != EntryId::Absent);
        self.with_label += usize::from(has_label);
        let position = match (self.matching, id) {
            (Matching::Position, _) => Some(at),
            (Matching::Id, EntryId::Is(id)) => self.position_of(id, at),
            (Matching::Id, EntryId::Absent | EntryId::Unreadable) => None,
        };
        if let Some(of_row) = position.and_then(|position| self.results.get_mut(position)) {
            *of_row = Some(if of_row.is_none() { result(&mut self.texts) } else { Err(TWICE.into()) });
        }
    }

    /// The position of this id in the request. Most responses keep the order of the request; only others pay for a table.
    fn position_of(&mut self, id: Uuid, at: usize) -> Option<usize> {
        if self.asked.get(at) == Some(&id) {
            return Some(at);
        }
        self.by_id.get_or_insert_with(|| positions(self.asked)).get(&id).copied()
    }

    /// A result for each row, or what must be declared first.
    pub(super) fn finish(self) -> Result<Vec<RowResult>, ResponseError> {
        let Self { asked, matching, results, entries, with_id, with_label, .. } = self;
        let has_one_each = entries == asked.len() && entries > 0;
        match matching {
            Matching::Id if has_one_each && with_id == 0 && with_label == entries => {
                return Err(ResponseError::Undeclared {
                    what: "its predictions have no ids".into(),
                    remedy: "if they are in the order of the transactions, set ML_API_MATCH=position".into(),
                });
            }
            Matching::Position if with_id > 0 => {
                return Err(ResponseError::Undeclared {
                    what: "its predictions have ids, but ML_API_MATCH=position goes by their order".into(),
                    remedy: "set ML_API_MATCH=id".into(),
                });
            }
            Matching::Position if entries != asked.len() => {
                return Err(format!("{entries} predictions for {} transactions, and no ids", asked.len()).into());
            }
            Matching::Id | Matching::Position => {}
        }
        let absent = match results.iter().any(Option::is_some) || entries == 0 {
            true => MISSING,
            false if with_id == 0 => NONE_WITH_ID,
            false => STRANGERS,
        };
        Ok(results.into_iter().map(|result| result.unwrap_or(Err(absent.into()))).collect())
    }
}

fn positions(asked: &[Uuid]) -> HashMap<Uuid, usize> {
    asked.iter().enumerate().map(|(position, id)| (*id, position)).collect()
}
