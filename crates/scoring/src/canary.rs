//! What shows that the model works: answers that scored a row, and when the requests for them were sent.
//!
//! A row is at fault only where others are scored at the same time; see `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.
//! Times are ticks of a counter, as only the order of events matters.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use assay_transaction::EncodedTransaction;
use tokio::sync::watch;
use uuid::Uuid;

/// A point in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

/// A transaction that the API is asked for to learn whether the model works.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    pub(crate) id: Uuid,
    pub(crate) transaction: EncodedTransaction,
}

/// What this process has seen the model do.
#[derive(Debug)]
pub(crate) struct SuccessTracker {
    clock: AtomicU64,
    /// When the newest request that scored a row was sent.
    proof: watch::Sender<Tick>,
    last_good: Mutex<Option<Canary>>,
    under_way: AtomicUsize,
}

/// Counts a request as under way until it is dropped.
#[derive(Debug)]
pub(crate) struct PendingRequest<'a>(&'a AtomicUsize);

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SuccessTracker {
    pub(crate) fn new() -> Self {
        Self {
            clock: AtomicU64::new(0),
            proof: watch::Sender::new(Tick(0)),
            last_good: Mutex::default(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// The next point in the order of events.
    pub(crate) fn tick(&self) -> Tick {
        Tick(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Notes that a request is under way.
    pub(crate) fn begin(&self) -> PendingRequest<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        PendingRequest(&self.under_way)
    }

    /// Whether requests are under way that may show soon that the model works.
    pub(crate) fn has_pending_requests(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Notes that a request of that time was answered and scored this transaction.
    pub(crate) fn scored(&self, sent: Tick, canary: Canary) {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = Some(canary);
        self.proof.send_if_modified(|proof| {
            let is_newer = *proof < sent;
            *proof = (*proof).max(sent);
            is_newer
        });
    }

    /// Whether a request that was sent after that time has scored a row.
    pub(crate) fn has_success_since(&self, time: Tick) -> bool {
        *self.proof.borrow() > time
    }

    /// Waits for such a request.
    pub(crate) async fn wait_for_success_since(&self, time: Tick) {
        // An error would mean that the sender is gone, but it is ours.
        let _ = self.proof.subscribe().wait_for(|proof| *proof > time).await;
    }

    /// The transaction that was scored last.
    pub(crate) fn last_good(&self) -> Option<Canary> {
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Canary {
    /// A plain transaction, for a process that has not seen one scored yet. Its id is new each time, as an API may refuse
    /// one that it knows.
    pub(crate) fn made_up() -> Option<Self> {
        let id = Uuid::new_v4();
        let json = format!(
            r#"{{"id":"{id}","description":"Assay connection check","amount":10.00,"timestamp":"2026-01-05T12:00:00Z","merchant":"Assay","operation_type":"card_payment","side":"debit"}}"#
        );
        let transaction = serde_json::from_str(&json).ok()?;
        Some(Self { id, transaction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_sent_later_is_proof() {
        let successes = SuccessTracker::new();
        let canary = Canary::made_up().unwrap();
        let (sent, refused, later) = (successes.tick(), successes.tick(), successes.tick());
        assert!(!successes.has_success_since(refused) && successes.last_good().is_none());
        successes.scored(sent, canary.clone());
        assert!(!successes.has_success_since(refused));
        successes.scored(later, canary.clone());
        assert!(successes.has_success_since(refused));
        successes.scored(sent, canary.clone());
        assert!(successes.has_success_since(refused), "an answer that comes late takes nothing back");
        assert_eq!(successes.last_good().unwrap().id, canary.id);
    }

    #[test]
    fn the_made_up_transaction_is_one() {
        let canary = Canary::made_up().unwrap();
        assert_eq!(canary.transaction.decode().unwrap().id, canary.id);
        assert_ne!(Canary::made_up().unwrap().id, canary.id);
    }

    #[test]
    fn counts_what_is_under_way() {
        let successes = SuccessTracker::new();
        let request = successes.begin();
        assert!(successes.has_pending_requests());
        drop(request);
        assert!(!successes.has_pending_requests());
    }
}
