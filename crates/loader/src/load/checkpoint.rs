//! The checkpoints of a load: positions are kept beside the publishing, which waits for none of them but the last.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use assay_transaction::Checkpoint;
use tokio::time::Instant;

/// How often a position is kept that only shows how far a run is.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Which confirmed positions may be kept. What a broker that outlives this process has confirmed is passed for good; of any other, what
/// is recorded in the database: so much is read and stored, as whoever looks at the run is shown.
pub(crate) struct ConfirmedPositions {
    survives_restart: bool,
    waiting: VecDeque<Checkpoint>,
    last: Option<Instant>,
}

impl ConfirmedPositions {
    pub(crate) fn new(survives_restart: bool) -> Self {
        Self { survives_restart, waiting: VecDeque::new(), last: None }
    }

    /// The position to keep, once the broker has confirmed everything before one more, and so many rows are recorded.
    pub(crate) fn confirmed(&mut self, at: Checkpoint, rows_recorded: u64) -> Option<Checkpoint> {
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

/// Keeps positions, one at a time. Of those that come meanwhile only the latest is of use, and is the next.
pub(crate) struct CheckpointWriter<K, F> {
    keep: K,
    latest: Option<Checkpoint>,
    is_due: bool,
    under_way: Option<Pin<Box<F>>>,
}

impl<K, F> CheckpointWriter<K, F>
where
    K: Fn(Checkpoint) -> F,
    F: Future<Output = ()>,
{
    /// None yet.
    pub(crate) fn new(keep: K) -> Self {
        Self { keep, latest: None, is_due: false, under_way: None }
    }

    /// Has a position kept as soon as may be.
    pub(crate) fn note(&mut self, at: Checkpoint) {
        self.is_due |= self.latest != Some(at);
        self.latest = Some(at);
    }

    /// Keeps one that is due, if one is; tells whether. Safe to cancel: the next call goes on with it.
    async fn keep_one(&mut self) -> bool {
        if self.under_way.is_none() {
            let due = self.latest.filter(|_| self.is_due);
            self.under_way = due.map(|at| Box::pin((self.keep)(at)));
            self.is_due = false;
        }
        let Some(under_way) = &mut self.under_way else { return false };
        under_way.await;
        self.under_way = None;
        true
    }

    /// Keeps what is noted, and returns when one of them is kept. Runs beside the publishing. Safe to cancel.
    pub(crate) async fn follow(&mut self) {
        if !self.keep_one().await {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the latest is kept.
    pub(crate) async fn finish(mut self) {
        while self.keep_one().await {}
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
    async fn of_what_comes_while_one_is_kept_the_latest_follows() {
        let (answers, asked, kept) = (Semaphore::new(0), RefCell::default(), RefCell::default());
        let keep = |at: Checkpoint| {
            let (answers, asked, kept): (_, &RefCell<Vec<u64>>, &RefCell<Vec<u64>>) = (&answers, &asked, &kept);
            async move {
                asked.borrow_mut().push(at.chunk);
                answers.acquire().await.unwrap().forget();
                kept.borrow_mut().push(at.chunk);
            }
        };
        let mut checkpoints = CheckpointWriter::new(keep);
        assert!(checkpoints.follow().now_or_never().is_none(), "nothing is due");
        for chunk in 1..=3 {
            checkpoints.note(at(chunk));
            assert!(checkpoints.follow().now_or_never().is_none(), "there is no answer");
        }
        assert_eq!(*asked.borrow(), [1], "one at a time, and begun once");
        answers.add_permits(1);
        assert!(checkpoints.follow().now_or_never().is_some());
        assert!(checkpoints.follow().now_or_never().is_none());
        // What is under way already.
        checkpoints.note(at(3));
        answers.add_permits(1);
        checkpoints.finish().now_or_never().expect("it is kept");
        assert_eq!((asked.take(), kept.take()), (vec![1, 3], vec![1, 3]));
    }

    #[tokio::test]
    async fn the_last_one_is_waited_for() {
        let kept = RefCell::new(Vec::new());
        let mut checkpoints = CheckpointWriter::new(async |at: Checkpoint| kept.borrow_mut().push(at.chunk));
        checkpoints.note(at(1));
        checkpoints.note(at(2));
        checkpoints.finish().await;
        assert_eq!(*kept.borrow(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_broker_loses_with_its_process_is_passed_once_it_is_recorded() {
        let behind = |rows: u64| Checkpoint::first(Position { row: rows + 1, ..Position::START });
        let mut lasting = ConfirmedPositions::new(true);
        assert_eq!(lasting.confirmed(behind(100), 0), Some(behind(100)));
        let mut passing = ConfirmedPositions::new(false);
        assert_eq!(passing.confirmed(behind(100), 99), None);
        assert_eq!(passing.confirmed(behind(200), 250), Some(behind(200)));
        assert_eq!(passing.confirmed(behind(300), 400), None, "it was kept just now");
        tokio::time::advance(SHOWN_EVERY).await;
        assert_eq!(passing.confirmed(behind(400), 350), Some(behind(300)));
    }
}
