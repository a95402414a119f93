//! How a broken model is kept from failing rows: what shows that it worked after it refused some.
//!
//! The rule is in [`RequestExecutor::is_model_proven`]; it is written down, with its reasons, in
//! `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

use crate::ScoreError;
use crate::breaker::OpenReason;
use crate::canary::Canary;
use crate::failure::Symptom;
use crate::http::RequestError;
use crate::request::{ClientState, FailedRequest, RequestExecutor, symptom_of_rows};

/// What a control showed.
#[derive(Debug)]
pub(crate) enum CanaryResult {
    Scored,
    Refused(Symptom),
    /// The API is away.
    Away(OpenReason, RequestError),
}

impl RequestExecutor<'_> {
    /// Whether the model is known to have worked after the refusal, so that the rows may be at fault.
    ///
    /// The proof is a row that a later request scored: any request of this process, or, where none comes, a canary. While
    /// the model does not even score the control it is broken, and the circuit is opened. A process that has never seen a
    /// row scored may halve without proof, as that may find the first one; but it fails no row.
    pub(crate) async fn is_model_proven(self, refusal: FailedRequest, is_single: bool) -> Result<bool, ScoreError> {
        let ClientState { breaker, successes, policy, canary_lock, .. } = self.shared;
        if !successes.has_success_since(refusal.at) && breaker.is_closed() && successes.has_pending_requests() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ScoreError::Stopped),
                () = successes.wait_for_success_since(refusal.at) => {}
                () = tokio::time::sleep(policy.patience) => {}
            }
        }
        let _alone = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ScoreError::Stopped),
            alone = canary_lock.lock() => alone,
        };
        if self.is_outdated(refusal) {
            return Ok(false);
        }
        if successes.has_success_since(refusal.at) || !is_single && successes.last_good().is_none() {
            return Ok(true);
        }
        match self.run_canary().await? {
            CanaryResult::Scored => return Ok(true),
            CanaryResult::Refused(symptom) => breaker.open(OpenReason::BrokenModel, &symptom.into()),
            CanaryResult::Away(cause, error) => breaker.open(cause, &error),
        }
        Ok(false)
    }

    /// Asks for a transaction that was scored before and, where that is refused or there is none, for a made-up one.
    pub(crate) async fn run_canary(self) -> Result<CanaryResult, ScoreError> {
        let mut seen = CanaryResult::Refused(Symptom::Incomplete("no transaction to ask for"));
        for canary in self.shared.successes.last_good().into_iter().chain(Canary::made_up()) {
            seen = self.send_canary(canary).await?;
            if !matches!(seen, CanaryResult::Refused(_)) {
                break;
            }
        }
        Ok(seen)
    }

    /// Asks for one transaction that no row is waiting for.
    pub(crate) async fn send_canary(self, canary: Canary) -> Result<CanaryResult, ScoreError> {
        let ClientState { successes, breaker, counters, .. } = self.shared;
        let permit = self.acquire_permit().await?;
        counters.canary();
        let sent = successes.tick();
        Ok(match self.send(std::iter::once((canary.id, &canary.transaction)), permit).await {
            Ok(rows) if rows.iter().all(Result::is_ok) => {
                successes.scored(sent, canary);
                breaker.record_success();
                CanaryResult::Scored
            }
            Ok(rows) => CanaryResult::Refused(symptom_of_rows(&rows)),
            Err(error) => match OpenReason::of(error.symptom) {
                Some(cause) => CanaryResult::Away(cause, error),
                None => CanaryResult::Refused(error.symptom),
            },
        })
    }
}
