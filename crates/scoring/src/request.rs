//! Requests one group of rows until each row has an outcome or the group is halved; waits out what is not their fault.
//!
//! While the breaker is open, one waiting transaction at a time is sent alone, to find out whether the API scores again, and
//! its response is used: see `docs/decisions/0021-an-api-without-a-health-check.md`. The rule that keeps a broken model from
//! failing rows is in [`canary`](crate::canary).

use std::sync::PoisonError;

use assay_transaction::{EncodedTransaction, FailureClass, Lane};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::ScoreError;
use crate::api::health::{HealthCheck, HealthStatus};
use crate::api::http::{HttpClient, RequestError};
use crate::api::protocol::{Protocol, RowResult};
use crate::attempt::symptom_of_rows;
use crate::breaker::{CircuitBreaker, OpenReason, Probe};
use crate::canary::{Canary, CanaryResult, SuccessTracker, Tick};
use crate::concurrency::ConcurrencyLimit;
use crate::failure::{Symptom, SymptomClass};
use crate::metrics::ScorerCounters;
use crate::model_version::ModelVersions;
use crate::options::Policy;
use crate::pace::Pace;
use crate::permits::{ApiPermit, ApiPermits};
use crate::provenance::Provenance;
use crate::retry_budget::RetryBudget;
use crate::scale::ScaleCheck;
use crate::split::{FinishedRow, PendingRow, RowGroup, SizeLimit};

/// How often a request may lose its connection, with the API healthy in between, before the request itself is suspected: a
/// row can crash the process that scores it.
const MAX_DISCONNECTS: u32 = 5;

/// What all requests of a process share.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) http: HttpClient,
    pub(crate) protocol: Protocol,
    pub(crate) health_check: HealthCheck,
    pub(crate) max_retries: u32,
    pub(crate) policy: Policy,
    pub(crate) permits: ApiPermits,
    pub(crate) concurrency: ConcurrencyLimit,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) pace: Pace,
    pub(crate) successes: SuccessTracker,
    pub(crate) size_limit: SizeLimit,
    pub(crate) scale: ScaleCheck,
    pub(crate) model_versions: ModelVersions,
    pub(crate) provenance: Provenance,
    /// Whether a transaction could ever be written as inputs of the model.
    pub(crate) inputs_fit: watch::Sender<bool>,
    pub(crate) counters: ScorerCounters,
    /// Held while a canary is sent, so that its result serves all that wait for one.
    pub(crate) canary_lock: Mutex<()>,
}

impl ClientState {
    /// Opens the breaker, and lets requests begin one at a time once it is closed again.
    pub(crate) fn open_breaker(&self, reason: OpenReason, error: &RequestError) {
        if self.breaker.open(reason, error) {
            self.concurrency.restart(reason);
        }
    }
}

/// The result of a group. The finished rows and the halves are together all rows of the group.
#[derive(Debug)]
pub(crate) struct GroupOutcome {
    pub(crate) finished: Vec<FinishedRow>,
    /// What to request next.
    pub(crate) halves: Option<[RowGroup; 2]>,
}

/// A response that says something about the rows of a group.
enum GroupResponse {
    /// About the rows from `first` on: all of them, or the single one that was sent as a probe and scored.
    Answered {
        first: usize,
        rows: Vec<RowResult>,
        at: Tick,
    },
    Failed(FailedRequest),
    /// It was not sent, as its body is larger than the limit.
    TooLarge,
}

/// How often the request of a group lost its connection, or timed out while the API is probed; and the last time.
#[derive(Debug, Default)]
struct Disconnects {
    count: u32,
    last: Option<(Symptom, Tick)>,
}

/// A failed request whose rows may be at fault.
#[derive(Debug)]
pub(crate) struct FailedRequest {
    symptom: Symptom,
    /// When it was seen.
    pub(crate) at: Tick,
    /// How often the breaker had opened by then.
    outages: u64,
}

/// What to do after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    /// It says nothing about the rows: request them as if for the first time.
    StartOver,
    Retry,
    /// Request both halves.
    Halve,
    /// The row is at fault.
    Fail,
}

/// Requests the groups of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestExecutor<'a> {
    pub(crate) shared: &'a ClientState,
    /// The transactions of the call, by position.
    pub(crate) transactions: &'a [EncodedTransaction],
    /// Whose permits are used.
    pub(crate) lane: Lane,
    /// A permit acquired before the call, for the first request.
    pub(crate) reserved_permit: &'a std::sync::Mutex<Option<ApiPermit>>,
    pub(crate) stop: &'a CancellationToken,
}

impl<'a> RequestExecutor<'a> {
    pub(crate) fn transaction(self, row: &PendingRow) -> &'a EncodedTransaction {
        &self.transactions[row.position]
    }

    /// Requests a group until each of its rows has an outcome, or until it is to be halved.
    pub(crate) async fn execute(self, mut group: RowGroup) -> Result<GroupOutcome, ScoreError> {
        let mut finished = Vec::with_capacity(group.rows.len());
        let (mut retries, mut disconnects) = (0, Disconnects::default());
        loop {
            let failed = match self.request(&group, &mut disconnects).await? {
                GroupResponse::Failed(failed) => failed,
                GroupResponse::TooLarge => return Ok(GroupOutcome { finished, halves: Some(group.split()) }),
                // A single scored row says nothing of the others, which are requested as before.
                GroupResponse::Answered { first, rows, .. } if rows.len() < group.rows.len() => {
                    let _ = take_scored(&mut group, first, rows, &mut finished);
                    continue;
                }
                GroupResponse::Answered { first, rows, at } => {
                    let before = finished.len();
                    let Some(symptom) = take_scored(&mut group, first, rows, &mut finished) else {
                        return Ok(GroupOutcome { finished, halves: None });
                    };
                    if finished.len() > before {
                        // What is left is another request, with retries of its own.
                        group.count_attempt();
                        retries = 0;
                        self.back_off(0).await?;
                        self.begin_retry(symptom.class()).await?;
                        continue;
                    }
                    self.failed_request(symptom, at)
                }
            };
            disconnects = Disconnects::default();
            match self.next_step(&group, &failed, retries).await? {
                NextStep::StartOver => retries = 0,
                NextStep::Retry => {
                    group.count_attempt();
                    if failed.symptom.class() == SymptomClass::Suspect {
                        self.back_off(retries).await?;
                    }
                    self.begin_retry(failed.symptom.class()).await?;
                    retries += 1;
                }
                NextStep::Halve => {
                    group.count_attempt();
                    self.shared.counters.count_bisection();
                    return Ok(GroupOutcome { finished, halves: Some(group.halve()) });
                }
                NextStep::Fail => {
                    group.count_attempt();
                    let (class, reason) = (failure_class(&failed.symptom), failure_reason(&failed.symptom));
                    let attempts = group.attempts;
                    let fail = |row: PendingRow| row.failed(class.clone(), reason.clone(), attempts);
                    finished.extend(group.rows.into_iter().map(fail));
                    return Ok(GroupOutcome { finished, halves: None });
                }
            }
        }
    }

    /// What to do about a failed request, after so many retries.
    async fn next_step(self, group: &RowGroup, failed: &FailedRequest, retries: u32) -> Result<NextStep, ScoreError> {
        let is_single = group.is_single();
        let step = if retries < self.max_retries(group, &failed.symptom) {
            NextStep::Retry
        } else if is_single {
            NextStep::Fail
        } else {
            NextStep::Halve
        };
        let needs_proof = match step {
            // Once for each row is enough: what follows are failures after the model was seen to work.
            NextStep::Retry => is_single && retries == 0,
            // Once for each request as it came; smaller requests for what was too large are right whatever the model does.
            NextStep::Halve => !group.is_half && !failed.symptom.is_too_large(),
            NextStep::Fail | NextStep::StartOver => false,
        };
        let holds =
            if needs_proof { self.is_model_proven(failed, is_single).await? } else { !self.is_outdated(failed) };
        Ok(if holds { step } else { NextStep::StartOver })
    }

    /// Whether the breaker has opened since the failure, which then says nothing about the rows.
    pub(crate) fn is_outdated(self, failed: &FailedRequest) -> bool {
        let breaker = &self.shared.breaker;
        !breaker.is_closed() || breaker.outages() != failed.outages
    }

    fn failed_request(self, symptom: Symptom, at: Tick) -> FailedRequest {
        FailedRequest { symptom, at, outages: self.shared.breaker.outages() }
    }

    /// Retries of a group before it is halved or fails. A single row is retried at least once, after the model was seen to
    /// work.
    fn max_retries(self, group: &RowGroup, symptom: &Symptom) -> u32 {
        match symptom.class() {
            SymptomClass::Suspect if group.is_single() => self.shared.max_retries.max(1),
            SymptomClass::Suspect if !group.is_half => self.shared.max_retries,
            _ if group.is_single() => 1,
            _ => 0,
        }
    }

    /// Sends a group until a response says something about its rows.
    async fn request(self, group: &RowGroup, disconnects: &mut Disconnects) -> Result<GroupResponse, ScoreError> {
        let ClientState { breaker, pace, successes, .. } = self.shared;
        let (mut may_be_stale, mut probes) = (true, 0);
        loop {
            // A request that waits at the breaker, or for the end of a hold, must not keep a permit from the probe.
            let reserved_permit = self.take_reserved_permit().filter(|_| breaker.is_closed() && !pace.is_held());
            let probe = if reserved_permit.is_some() { None } else { self.admit().await? };
            if probe.is_some() && disconnects.count >= MAX_DISCONNECTS {
                match self.distinguish_from_outage(disconnects).await? {
                    Some(failed) => return Ok(GroupResponse::Failed(failed)),
                    None => continue,
                }
            }
            if let Some(Probe { reason, .. }) = probe
                && !self.does_scale_fit(reason).await?
            {
                continue;
            }
            let size = if probe.is_some() { 1 } else { group.rows.len() };
            let mut admission = pace.admit(size, self.lane, self.stop).await?;
            let permit = match reserved_permit {
                Some(permit) => permit,
                None => self.acquire_permit().await?,
            };
            if probe.is_none() && !breaker.is_closed() || admission.is_overtaken() {
                admission.withdraw();
                continue;
            }
            if probe.is_none() && self.is_too_large(group) {
                admission.withdraw();
                return Ok(GroupResponse::TooLarge);
            }
            // A probe is one transaction, another each time, as one may be at fault itself.
            let rows = match probe {
                Some(_) => {
                    let first = probes % group.rows.len();
                    probes += 1;
                    first..first + 1
                }
                None => 0..group.rows.len(),
            };
            let (first, rows) = (rows.start, &group.rows[rows]);
            let is_whole = rows.len() == group.rows.len();
            let sent = successes.tick();
            admission.mark_sent();
            let response = self.send(rows.iter().map(|row| (row.id, self.transaction(row))), sent, permit).await;
            let at = successes.tick();
            let is_asked_too_often = admission.end(response.as_ref().map(|_| ()));
            let error = match response {
                Ok(results) => {
                    let scored = rows.iter().zip(&results).find(|(_, result)| result.is_ok());
                    if let Some((row, _)) = scored {
                        successes.record(sent, || Canary { id: row.id, transaction: self.transaction(row).detached() });
                        if probe.is_some() {
                            breaker.close();
                        }
                        breaker.record_success();
                    } else if let Some(Probe { reason, .. }) = &probe {
                        self.probe_refused(*reason, symptom_of_rows(&results)).await?;
                        if !is_whole {
                            continue;
                        }
                    }
                    return Ok(GroupResponse::Answered { first, rows: results, at });
                }
                // Perhaps an idle connection that the server had closed.
                Err(RequestError { symptom: Symptom::ConnectionLost, .. }) if may_be_stale => {
                    may_be_stale = false;
                    self.begin_retry(Symptom::ConnectionLost.class()).await?;
                    continue;
                }
                Err(error) => error,
            };
            if is_whole && (error.symptom.is_disconnect() || probe.is_some() && error.symptom.is_timeout()) {
                *disconnects = Disconnects { count: disconnects.count + 1, last: Some((error.symptom.clone(), at)) };
            }
            match (&probe, OpenReason::of(&error.symptom)) {
                (Some(_), Some(reason)) => breaker.keep_open(reason, &error),
                // A responsive health check does not show that the API scores.
                (Some(Probe { reason: OpenReason::Outage | OpenReason::Misconfiguration, .. }), None)
                    if error.symptom.is_timeout() =>
                {
                    breaker.keep_open(OpenReason::Outage, &error);
                }
                // The breaker stays closed, so that a canary can tell this request from an outage.
                (None, Some(_)) if disconnects.count >= MAX_DISCONNECTS => {
                    return Ok(GroupResponse::Failed(self.failed_request(error.symptom, at)));
                }
                (None, Some(_)) if is_asked_too_often => {}
                (None, Some(reason)) => self.shared.open_breaker(reason, &error),
                (_, None) => {
                    if let Some(Probe { reason, .. }) = &probe {
                        self.probe_refused(*reason, error.symptom.clone()).await?;
                    }
                    if !is_whole {
                        continue;
                    }
                    if error.symptom.is_too_large() && !group.is_single() {
                        self.shrink_later_requests(group);
                    }
                    return Ok(GroupResponse::Failed(self.failed_request(error.symptom, at)));
                }
            }
        }
    }

    /// Waits until a request may go out: in the ordinary way (`None`), or as a probe.
    async fn admit(&self) -> Result<Option<Probe<'_>>, ScoreError> {
        let ClientState { breaker, health_check, scale, .. } = self.shared;
        loop {
            let Some(probe) = breaker.admit(self.stop).await? else { return Ok(None) };
            let needs_transaction = probe.reason != OpenReason::Outage || scale.is_refuted();
            if needs_transaction || health_check.is_missing_in(breaker.outages()) {
                return Ok(Some(probe));
            }
            match self.health().await {
                HealthStatus::Healthy => breaker.close(),
                HealthStatus::Unreachable(error) => breaker.keep_open(OpenReason::Outage, &error),
                HealthStatus::Unhealthy(error) | HealthStatus::NoAnswer(error)
                    if health_check.is_trusted() || error.retry_after.is_some() =>
                {
                    breaker.keep_open(OpenReason::Outage, &error);
                }
                // It proves nothing; only a transaction can.
                HealthStatus::Unhealthy(_) | HealthStatus::NoAnswer(_) | HealthStatus::NoCheck(_) => {
                    return Ok(Some(probe));
                }
            }
        }
    }

    /// After a probe that the API refused, perhaps through the transaction's own fault.
    async fn probe_refused(self, reason: OpenReason, symptom: Symptom) -> Result<(), ScoreError> {
        let breaker = &self.shared.breaker;
        match reason {
            // An API that judges the request accepts requests again.
            OpenReason::Misconfiguration | OpenReason::Outage => breaker.close(),
            // All waiting transactions may be at fault.
            OpenReason::BrokenModel => match self.run_canaries().await? {
                CanaryResult::Scored => breaker.close(),
                CanaryResult::Refused(_) => breaker.keep_open(reason, &symptom.into()),
                CanaryResult::Unavailable(reason, error) => breaker.keep_open(reason, &error),
            },
        }
        Ok(())
    }

    /// After repeated disconnects or time-outs: whether the group causes them, or an outage does. The last scored
    /// transaction is sent to find out; without one, nothing is concluded.
    async fn distinguish_from_outage(self, disconnects: &mut Disconnects) -> Result<Option<FailedRequest>, ScoreError> {
        let ClientState { breaker, successes, .. } = self.shared;
        let Disconnects { last, .. } = std::mem::take(disconnects);
        let (Some((symptom, at)), Some(last_good)) = (last, successes.last_good()) else { return Ok(None) };
        match self.send_canary(last_good).await? {
            CanaryResult::Scored | CanaryResult::Refused(_) => {
                breaker.close();
                Ok(Some(self.failed_request(symptom, at)))
            }
            CanaryResult::Unavailable(reason, error) => {
                breaker.keep_open(reason, &error);
                Ok(None)
            }
        }
    }

    pub(crate) async fn acquire_permit(&self) -> Result<ApiPermit, ScoreError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            permit = self.shared.permits.acquire(self.lane, false) => Ok(permit),
        }
    }

    fn take_reserved_permit(&self) -> Option<ApiPermit> {
        self.reserved_permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn back_off(self, step: u32) -> Result<(), ScoreError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            () = tokio::time::sleep(self.shared.policy.retry.delay(step)) => Ok(()),
        }
    }
}

/// Moves the scored ones of the rows from `first` on to the finished rows. Returns the symptom of the first that was not
/// scored.
fn take_scored(
    group: &mut RowGroup,
    first: usize,
    results: Vec<RowResult>,
    finished: &mut Vec<FinishedRow>,
) -> Option<Symptom> {
    let symptom = results.iter().find_map(|result| result.as_ref().err()).cloned().map(Symptom::Incomplete);
    let mut results = results.into_iter();
    let rest = group.rows.split_off(first);
    for row in rest {
        match results.next() {
            Some(Ok(prediction)) => finished.push(row.predicted(prediction)),
            Some(Err(_)) | None => group.rows.push(row),
        }
    }
    symptom
}

fn failure_class(symptom: &Symptom) -> FailureClass {
    match symptom.class() {
        SymptomClass::Rejected => FailureClass::Rejected,
        SymptomClass::Suspect | SymptomClass::Unavailable | SymptomClass::Misconfigured => FailureClass::Suspect,
    }
}

/// In our own words, as the API's may repeat the transaction; short by construction.
fn failure_reason(symptom: &Symptom) -> String {
    format!("ML API: {symptom}, for this transaction alone")
}
