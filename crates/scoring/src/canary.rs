//! What keeps a broken model from failing rows: a row is at fault only if the model is seen to score others at the time.
//!
//! [`SuccessTracker`] remembers what was scored and when; if nothing was, a canary is sent: a transaction that no row
//! waits for. The rule and its reasons are in `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use assay_transaction::EncodedTransaction;
use tokio::sync::watch;
use uuid::Uuid;

use crate::ScoreError;
use crate::api::http::RequestError;
use crate::attempt::symptom_of_rows;
use crate::breaker::OpenReason;
use crate::failure::Symptom;
use crate::request::{ClientState, FailedRequest, RequestExecutor};

/// How many events a scored transaction is kept for, as a copy of it costs more than the record of a success.
const KEPT_FOR: u64 = 1_000;

/// A transaction that is sent to learn whether the model works.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    pub(crate) id: Uuid,
    pub(crate) transaction: EncodedTransaction,
}

/// What a canary showed.
#[derive(Debug)]
pub(crate) enum CanaryResult {
    Scored,
    Refused(Symptom),
    /// The API is unavailable or misconfigured.
    Unavailable(OpenReason, RequestError),
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

impl RequestExecutor<'_> {
    /// Whether the model is known to have worked after this failure, so that the rows may be at fault.
    ///
    /// The proof is a row scored by a later request of this process or, failing that, by a canary. If the model does not
    /// even score the canary, it is broken, and the breaker opens. A process that has never seen a row scored may halve
    /// without proof, as that may find the first one; but it fails no row.
    pub(crate) async fn is_model_proven(self, failed: &FailedRequest, is_single: bool) -> Result<bool, ScoreError> {
        let ClientState { breaker, successes, policy, canary_lock, .. } = self.shared;
        if !successes.has_success_since(failed.at) && breaker.is_closed() && successes.has_pending_requests() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ScoreError::Stopped),
                () = successes.wait_for_success_since(failed.at) => {}
                () = tokio::time::sleep(policy.canary_delay) => {}
            }
        }
        let _alone = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ScoreError::Stopped),
            alone = canary_lock.lock() => alone,
        };
        if self.is_outdated(failed) {
            return Ok(false);
        }
        if successes.has_success_since(failed.at) || !is_single && successes.last_good().is_none() {
            return Ok(true);
        }
        match self.run_canaries().await? {
            CanaryResult::Scored => return Ok(true),
            CanaryResult::Refused(symptom) => self.shared.open_breaker(OpenReason::BrokenModel, &symptom.into()),
            CanaryResult::Unavailable(reason, error) => self.shared.open_breaker(reason, &error),
        }
        Ok(false)
    }

    /// Sends a transaction that was scored lately and, if it is refused or there is none, a made-up one.
    pub(crate) async fn run_canaries(self) -> Result<CanaryResult, ScoreError> {
        let mut result = CanaryResult::Refused(Symptom::Incomplete("no transaction to send".into()));
        for canary in self.shared.successes.last_good().into_iter().chain(Canary::made_up()) {
            result = self.send_canary(canary).await?;
            if !matches!(result, CanaryResult::Refused(_)) {
                break;
            }
        }
        Ok(result)
    }

    /// Sends one as soon as the pace allows; again if the API was only asked too often, which says nothing about the model.
    pub(crate) async fn send_canary(self, canary: Canary) -> Result<CanaryResult, ScoreError> {
        let ClientState { successes, breaker, pace, counters, .. } = self.shared;
        let (sent, response) = loop {
            let mut admission = pace.admit(1, self.lane, self.stop).await?;
            let permit = self.acquire_permit().await?;
            if admission.is_overtaken() {
                admission.withdraw();
                continue;
            }
            counters.count_canary();
            let sent = successes.tick();
            admission.mark_sent();
            let response = self.send(std::iter::once((canary.id, &canary.transaction)), sent, permit).await;
            let is_asked_too_often = admission.end(response.as_ref().map(|_| ()));
            if !is_asked_too_often {
                break (sent, response);
            }
        };
        Ok(match response {
            Ok(rows) if rows.iter().all(Result::is_ok) => {
                successes.record(sent, || canary);
                breaker.record_success();
                CanaryResult::Scored
            }
            Ok(rows) => CanaryResult::Refused(symptom_of_rows(&rows)),
            Err(error) => match OpenReason::of(&error.symptom) {
                Some(reason) => CanaryResult::Unavailable(reason, error),
                None => CanaryResult::Refused(error.symptom),
            },
        })
    }
}

/// A point in the order of events, which is all that matters here; counted, not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

/// The successes of this process: when the model scored a row last, and which.
#[derive(Debug)]
pub(crate) struct SuccessTracker {
    clock: AtomicU64,
    /// When the newest request that scored a row was sent.
    newest: watch::Sender<Tick>,
    /// A transaction that was scored, and when it was sent.
    last_good: Mutex<Option<(Tick, Canary)>>,
    pending: AtomicUsize,
}

/// Counts a request as pending until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightCount<'a>(&'a AtomicUsize);

impl Drop for InFlightCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SuccessTracker {
    pub(crate) fn new() -> Self {
        Self {
            clock: AtomicU64::new(0),
            newest: watch::Sender::new(Tick(0)),
            last_good: Mutex::default(),
            pending: AtomicUsize::new(0),
        }
    }

    /// The next point in the order of events.
    pub(crate) fn tick(&self) -> Tick {
        Tick(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    pub(crate) fn begin_request(&self) -> InFlightCount<'_> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlightCount(&self.pending)
    }

    /// Whether a pending request may soon show that the model works.
    pub(crate) fn has_pending_requests(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// Records that a request sent at this time scored this transaction, which is kept if the last one is old.
    pub(crate) fn record(&self, sent: Tick, scored: impl FnOnce() -> Canary) {
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        if last_good.as_ref().is_none_or(|(kept, _)| kept.0 + KEPT_FOR <= sent.0) {
            *last_good = Some((sent, scored()));
        }
        drop(last_good);
        self.newest.send_if_modified(|newest| {
            let is_newer = *newest < sent;
            *newest = (*newest).max(sent);
            is_newer
        });
    }

    /// Whether a request sent after this time has scored a row.
    pub(crate) fn has_success_since(&self, time: Tick) -> bool {
        *self.newest.borrow() > time
    }

    /// Whether this process has ever seen a row scored.
    pub(crate) fn has_any_success(&self) -> bool {
        self.has_success_since(Tick(0))
    }

    pub(crate) async fn wait_for_success_since(&self, time: Tick) {
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > time).await;
    }

    /// A transaction that was scored lately.
    pub(crate) fn last_good(&self) -> Option<Canary> {
        let last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        last_good.as_ref().map(|(_, canary)| canary.clone())
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
        successes.record(sent, || canary.clone());
        assert!(!successes.has_success_since(refused));
        successes.record(later, || canary.clone());
        assert!(successes.has_success_since(refused));
        successes.record(sent, || canary.clone());
        assert!(successes.has_success_since(refused), "a late response takes nothing back");
        assert_eq!(successes.last_good().unwrap().id, canary.id);
    }

    #[test]
    fn a_scored_transaction_is_kept_until_it_is_old() {
        let successes = SuccessTracker::new();
        let kept = |sent: u64| {
            let canary = Canary::made_up().unwrap();
            successes.record(Tick(sent), || canary.clone());
            successes.last_good().unwrap().id == canary.id
        };
        let first = 7;
        assert!(kept(first) && !kept(first + 1) && !kept(first - 1) && !kept(first + KEPT_FOR - 1));
        assert!(kept(first + KEPT_FOR) && !kept(first + KEPT_FOR + 1));
    }

    #[test]
    fn the_made_up_transaction_is_one() {
        let canary = Canary::made_up().unwrap();
        assert_eq!(canary.transaction.decode().unwrap().id, canary.id);
        assert_ne!(Canary::made_up().unwrap().id, canary.id);
    }

    #[test]
    fn pending_requests_are_counted() {
        let successes = SuccessTracker::new();
        let request = successes.begin_request();
        assert!(successes.has_pending_requests());
        drop(request);
        assert!(!successes.has_pending_requests());
    }
}
