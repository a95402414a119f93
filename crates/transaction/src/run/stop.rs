//! Orders to end a run early: given by a person or a budget, kept in the ledger, and announced to the predictors.

use serde::{Deserialize, Serialize};

use crate::{FailureClass, RunState, Timestamp};

/// Who ends a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopKind {
    /// A person.
    Cancelled,
    /// A budget that is used up, or a source that is gone.
    Aborted,
}

impl StopKind {
    /// The kind as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
        }
    }

    /// The kind stored as this word; none for any other.
    pub fn from_stored(word: &str) -> Option<Self> {
        [Self::Cancelled, Self::Aborted].into_iter().find(|kind| kind.as_str() == word)
    }

    /// The failure class of valid rows that were read and are now dropped.
    pub fn failure_class(self) -> FailureClass {
        match self {
            Self::Cancelled => FailureClass::Cancelled,
            Self::Aborted => FailureClass::Aborted,
        }
    }

    /// The final state of the run once all rows read are recorded.
    pub fn end_state(self) -> RunState {
        match self {
            Self::Cancelled => RunState::Cancelled,
            Self::Aborted => RunState::Failed,
        }
    }
}

/// An order to end a run early. It is given once and never withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Who gave it.
    pub kind: StopKind,
    /// Why, for a person.
    pub reason: String,
    /// When, by the database's clock.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_back() {
        for kind in [StopKind::Cancelled, StopKind::Aborted] {
            assert_eq!(StopKind::from_stored(kind.as_str()), Some(kind));
        }
    }
}
