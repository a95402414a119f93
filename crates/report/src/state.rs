//! The state of a run as it is shown: that of the ledger, refined by dead letters, stop orders and removals.

use assay_store::{Operations, StoreError};
use assay_transaction::{Run, RunState, StopKind};
use serde::Serialize;

use crate::Tone;

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShownState {
    /// Its source is read.
    Loading,
    /// Its source is read; rows are still on their way.
    Sealed,
    /// An unresolved dead letter keeps it from being complete.
    Stalled,
    /// It is being cancelled by an operator.
    Cancelling,
    /// It is being aborted, as it exceeded a limit.
    Aborting,
    /// Every row has its outcome.
    Complete,
    /// Its source could not be read to the end.
    Failed,
    /// An operator ended it.
    Cancelled,
    /// Its removal is going on, or was interrupted.
    Removing,
    /// It was removed.
    Removed,
}

impl ShownState {
    /// The states that runs can be filtered by.
    pub const ALL: [Self; 8] = [
        Self::Loading,
        Self::Sealed,
        Self::Stalled,
        Self::Cancelling,
        Self::Aborting,
        Self::Complete,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state of a run that is blocked by this many dead letters.
    pub fn of(run: &Run, blocking: u64) -> Self {
        if let Some(removal) = &run.removal {
            return if removal.ended_at.is_some() { Self::Removed } else { Self::Removing };
        }
        match (run.state, run.stop.as_ref().map(|stop| stop.kind)) {
            (RunState::Complete, _) => Self::Complete,
            (RunState::Failed, _) => Self::Failed,
            (RunState::Cancelled, _) => Self::Cancelled,
            // First what an operator has to act on.
            _ if blocking > 0 => Self::Stalled,
            (_, Some(StopKind::Cancelled)) => Self::Cancelling,
            (_, Some(StopKind::Aborted)) => Self::Aborting,
            (RunState::Loading, None) => Self::Loading,
            (RunState::Sealed, None) => Self::Sealed,
        }
    }

    /// Whether it is good, bad or still open.
    pub fn tone(self) -> Tone {
        match self {
            Self::Complete => Tone::Good,
            Self::Failed | Self::Stalled => Tone::Bad,
            _ => Tone::Open,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Sealed => "sealed",
            Self::Stalled => "stalled",
            Self::Cancelling => "cancelling",
            Self::Aborting => "aborting",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }
}

impl std::fmt::Display for ShownState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Dead letters that keep a run from being complete; zero for a finished run.
pub async fn blocking_letters(store: &(impl Operations + ?Sized), run: &Run) -> Result<u64, StoreError> {
    let letters = if can_be_blocked(run) { store.blocking_dead_letters(&run.run_id).await? } else { 0 };
    Ok(blocking_count(run, letters))
}

/// As [`blocking_letters`], of letters that were counted already.
pub fn blocking_count(run: &Run, letters: u64) -> u64 {
    if can_be_blocked(run) { letters } else { 0 }
}

/// Whether a dead letter can keep a run from being complete. A live run continues without it.
fn can_be_blocked(run: &Run) -> bool {
    !run.state.is_finished() && !run.source.is_live()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::StopOrder;

    use crate::fixture::{at, example};

    #[test]
    fn the_state_shows_what_is_going_on() {
        let open = |state| Run { state, ..example() };
        let stopping = |state, kind| Run {
            stop: Some(StopOrder { kind, reason: "mistake".into(), at: at("10:00:00") }),
            ..open(state)
        };
        let cases = [
            (open(RunState::Loading), 0, "loading"),
            (open(RunState::Sealed), 0, "sealed"),
            (open(RunState::Sealed), 1, "stalled"),
            (stopping(RunState::Loading, StopKind::Cancelled), 0, "cancelling"),
            (stopping(RunState::Sealed, StopKind::Aborted), 0, "aborting"),
            (stopping(RunState::Sealed, StopKind::Aborted), 1, "stalled"),
            (stopping(RunState::Cancelled, StopKind::Cancelled), 1, "cancelled"),
            (open(RunState::Complete), 1, "complete"),
        ];
        for (run, blocking, expected) in cases {
            assert_eq!(ShownState::of(&run, blocking).to_string(), expected, "{} {blocking}", run.state);
        }
    }
}
