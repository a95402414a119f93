//! What is known of a run. It takes as long for ten million rows as for ten thousand.

use assay_queue::BrokerOptions;
use assay_report::{LiveCounts, QueueSnapshot, QueueState, ShownState, blocking_count, obstacles, slowest_stage};
use assay_store::{OperationRecord, RunOverview, RunStatistics, Store, StoreError, TallySource, Tombstones};
use assay_transaction::{Run, RunId};

use super::show;
use crate::error::PageError;
use crate::live::Part;
use crate::pages::no_run;
use crate::pages::runs::problems;
use crate::server::Console;

/// Period of the rate, in seconds.
const WINDOW: u32 = 60;
/// Operations of a run that are shown.
const OPERATIONS: u32 = 50;

/// What is known of a run.
pub(crate) struct Facts {
    pub(super) overview: RunOverview,
    pub(super) statistics: RunStatistics,
    pub(super) live: Option<LiveCounts>,
    pub(super) tombstones: Vec<Tombstones>,
    pub(super) operations: Vec<OperationRecord>,
    /// What it waits for at the moment.
    pub(super) slowest: Option<String>,
    /// Why it stands out, and what is in its way.
    pub(super) problems: Vec<String>,
}

impl Facts {
    /// Those of the run of an address.
    pub(crate) async fn read(console: &Console, name: &str) -> Result<Self, PageError> {
        let missing = || no_run(name);
        let run_id = name.parse().map_err(|_| missing())?;
        let queues = async || console.queues.snapshot().await;
        Self::of(&*console.store, &run_id, queues, console.queues.full_at()).await?.ok_or_else(missing)
    }

    /// Those of a run for a report, without the queues of the moment.
    pub(crate) async fn for_report(store: &dyn Store, run_id: &RunId) -> Result<Option<Self>, StoreError> {
        Self::of(store, run_id, async || None, BrokerOptions::default().queue_max_length.into()).await
    }

    /// The queues are asked for only while the run is not finished.
    async fn of(
        store: &dyn Store,
        run_id: &RunId,
        queues: impl AsyncFnOnce() -> Option<QueueSnapshot>,
        full_at: u64,
    ) -> Result<Option<Self>, StoreError> {
        let Some(overview) = store.overview(run_id, WINDOW, TallySource::Chunks).await? else { return Ok(None) };
        let queues = if overview.run.state.is_finished() { None } else { queues().await };
        let queues = queues.as_ref();
        let live = LiveCounts::of(store, &overview.run).await?;
        let mut problems = problems(&overview.run, overview.tally, live.as_ref());
        problems.extend(obstacles(&overview, QueueState { queues, full_at }));
        Ok(Some(Self {
            statistics: store.statistics(run_id).await?,
            tombstones: store.tombstones(run_id).await?,
            operations: store.operations(Some(run_id), OPERATIONS).await?,
            slowest: slowest_stage(&overview.run, queues),
            live,
            problems,
            overview,
        }))
    }

    pub(crate) fn run(&self) -> &Run {
        &self.overview.run
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.overview.run.state.is_finished()
    }

    pub(super) fn state(&self) -> ShownState {
        ShownState::of(self.run(), blocking_count(self.run(), self.overview.blocking))
    }

    /// The parts of the page that change.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let head = Part { id: "head", content: show::head(self) };
        let sections = show::sections(self, true).into_iter();
        std::iter::once(head).chain(sections.map(|section| Part { id: section.id, content: section.content })).collect()
    }
}
