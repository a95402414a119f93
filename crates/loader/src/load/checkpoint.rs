//! Checkpoints, written while chunks are published. Only the last one is waited for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use assay_transaction::Checkpoint;
use tokio::time::Instant;

/// Shortest time between two checkpoints that only show the progress of a run.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Which confirmed positions may become checkpoints: all of them if the broker outlives this process; otherwise those before
/// which every row is recorded in the database.
pub(crate) struct ConfirmedPositions {
    survives_restart: bool,
    waiting: VecDeque<Checkpoint>,
    last: Option<Instant>,
}

impl ConfirmedPositions {
    pub(crate) fn new(survives_restart: bool) -> Self {
        Self { survives_restart, waiting: VecDeque::new(), last: None }
    }

    /// The position to write, once the broker has confirmed everything before `at` and this many rows are recorded.
    fn confirmed(&mut self, at: Checkpoint, rows_recorded: u64) -> Option<Checkpoint> {
        if self.survives_restart {
            return Some(at);
        }
        self.waiting.push_back(at);
        let mut reached = None;
        if self.last.is_none_or(|last| last.elapsed() >= SHOWN_EVERY) {
            while let Some(at) = self.waiting.pop_front_if(|at| at.rows_before() <= rows_recorded) {
                reached = Some(at);
            }
        }
        if reached.is_some() {
            self.last = Some(Instant::now());
        }
        reached
    }
}

/// Writes checkpoints one at a time. While one is being written, only the latest of the next ones is kept.
pub(crate) struct CheckpointWriter<W, F> {
    positions: ConfirmedPositions,
    write: W,
    latest: Option<Checkpoint>,
    is_due: bool,
    under_way: Option<Pin<Box<F>>>,
}

impl<W, F> CheckpointWriter<W, F>
where
    W: Fn(Checkpoint) -> F,
    F: Future<Output = ()>,
{
    pub(crate) fn new(survives_restart: bool, write: W) -> Self {
        let positions = ConfirmedPositions::new(survives_restart);
        Self { positions, write, latest: None, is_due: false, under_way: None }
    }

    /// Notes that everything before `at` is confirmed, and how many rows are recorded.
    pub(crate) fn confirmed(&mut self, at: Checkpoint, rows_recorded: u64) {
        if let Some(at) = self.positions.confirmed(at, rows_recorded) {
            self.note(at);
        }
    }

    fn note(&mut self, at: Checkpoint) {
        self.is_due |= self.latest != Some(at);
        self.latest = Some(at);
    }

    /// Writes the checkpoint that is due. Returns whether there was one. Safe to cancel: the next call continues.
    async fn write_one(&mut self) -> bool {
        if self.under_way.is_none() {
            let due = self.latest.filter(|_| self.is_due);
            self.under_way = due.map(|at| Box::pin((self.write)(at)));
            self.is_due = false;
        }
        let Some(under_way) = &mut self.under_way else { return false };
        under_way.await;
        self.under_way = None;
        true
    }

    /// Returns when the next checkpoint is written. Safe to cancel.
    pub(crate) async fn follow(&mut self) {
        if !self.write_one().await {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the latest checkpoint is written.
    pub(crate) async fn finish(mut self) {
        while self.write_one().await {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use assay_transaction::{Checkpoint, Position};
    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    fn at(chunk: u64) -> Checkpoint {
        Checkpoint { chunk, ..Checkpoint::START }
    }

    #[tokio::test]
    async fn only_the_latest_checkpoint_follows_the_one_being_written() {
        let (answers, asked, kept) = (Semaphore::new(0), RefCell::default(), RefCell::default());
        let keep = |at: Checkpoint| {
            let (answers, asked, kept): (_, &RefCell<Vec<u64>>, &RefCell<Vec<u64>>) = (&answers, &asked, &kept);
            async move {
                asked.borrow_mut().push(at.chunk);
                answers.acquire().await.unwrap().forget();
                kept.borrow_mut().push(at.chunk);
            }
        };
        let mut checkpoints = CheckpointWriter::new(true, keep);
        assert!(checkpoints.follow().now_or_never().is_none(), "nothing is due");
        for chunk in 1..=3 {
            checkpoints.note(at(chunk));
            assert!(checkpoints.follow().now_or_never().is_none(), "there is no answer");
        }
        assert_eq!(*asked.borrow(), [1], "one at a time, and begun once");
        answers.add_permits(1);
        assert!(checkpoints.follow().now_or_never().is_some());
        assert!(checkpoints.follow().now_or_never().is_none());
        // It is being written already.
        checkpoints.note(at(3));
        answers.add_permits(1);
        checkpoints.finish().now_or_never().expect("it is written");
        assert_eq!((asked.take(), kept.take()), (vec![1, 3], vec![1, 3]));
    }

    #[tokio::test]
    async fn finish_waits_for_the_last_checkpoint() {
        let kept = RefCell::new(Vec::new());
        let mut checkpoints = CheckpointWriter::new(true, async |at: Checkpoint| kept.borrow_mut().push(at.chunk));
        checkpoints.note(at(1));
        checkpoints.note(at(2));
        checkpoints.finish().await;
        assert_eq!(*kept.borrow(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_passes_only_recorded_rows_if_the_broker_dies_with_its_process() {
        let behind = |rows: u64| Checkpoint::first(Position { row: rows + 1, ..Position::START });
        let mut durable = ConfirmedPositions::new(true);
        assert_eq!(durable.confirmed(behind(100), 0), Some(behind(100)));
        let mut in_process = ConfirmedPositions::new(false);
        assert_eq!(in_process.confirmed(behind(100), 99), None);
        assert_eq!(in_process.confirmed(behind(200), 250), Some(behind(200)));
        assert_eq!(in_process.confirmed(behind(300), 400), None, "one was written just now");
        tokio::time::advance(SHOWN_EVERY).await;
        assert_eq!(in_process.confirmed(behind(400), 350), Some(behind(300)));
    }
}
