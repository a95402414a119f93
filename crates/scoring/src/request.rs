//! What becomes of the rows of one part: asks for them, waits out what is not their fault, and says what is next.
//!
//! While the circuit is open, one waiting transaction at a time is asked for alone, to find out whether the API scores again,
//! and its answer is used: see `docs/decisions/0021-an-api-without-a-health-check.md`. The rule that keeps a broken model from
//! failing rows is in `proof`.

use std::sync::PoisonError;

use assay_transaction::{EncodedTransaction, FailureClass, Lane};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::ScoreError;
use crate::breaker::{CircuitBreaker, OpenReason, Probe, Turn};
use crate::canary::{Canary, SuccessTracker, Tick};
use crate::failure::{ErrorClass, Symptom};
use crate::health::{HealthCheck, HealthStatus};
use crate::http::{HttpClient, RequestError};
use crate::metrics;
use crate::permits::{RequestPermit, RequestPermits};
use crate::policy::Policy;
use crate::proof::CanaryResult;
use crate::protocol::{self, RowResult};
use crate::row::{PendingRow, RowOutcome, count_attempt};
use crate::split::{RowGroup, SizeLimit};
use crate::stats::ScorerCounters;

/// How often a request may be cut off, with the API well in between, before the request itself is suspected: a row can
/// crash the process that scores it.
const MAX_DISCONNECTS: u32 = 5;

/// What all requests of a process share.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) http: HttpClient,
    pub(crate) health_check: HealthCheck,
    pub(crate) max_retries: u32,
    pub(crate) policy: Policy,
    pub(crate) permits: RequestPermits,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) successes: SuccessTracker,
    pub(crate) size_limit: SizeLimit,
    pub(crate) counters: ScorerCounters,
    /// Held by whoever asks for a control, so that one answer serves all who wait for it.
    pub(crate) canary_lock: Mutex<()>,
}

/// What became of a part.
#[derive(Debug)]
pub(crate) struct GroupOutcome {
    /// The rows that are done.
    pub(crate) outcomes: Vec<RowOutcome>,
    /// What has to be asked for next; together with the outcomes, all rows of the part.
    pub(crate) halves: Option<[RowGroup; 2]>,
}

/// An answer about some of the rows, or a refusal that they may be the reason of.
enum GroupResponse {
    /// About the rows from `first` on: all of them, or the only one that was sent to find out whether the API scores again,
    /// and was scored.
    Answered {
        first: usize,
        rows: Vec<RowResult>,
        at: Tick,
    },
    Refused(FailedRequest),
}

/// How often the request for a part was cut off, or not answered in time by an API that is probed; and when and how it was last.
#[derive(Debug, Default)]
struct Disconnects {
    count: u32,
    last: Option<(Symptom, Tick)>,
}

/// A request that failed, and may have deserved it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailedRequest {
    symptom: Symptom,
    /// When it was seen.
    pub(crate) at: Tick,
    /// How often the circuit had been opened by then.
    outages: u64,
}

/// What follows from a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    /// It says nothing about the rows: they are asked for as if for the first time.
    StartOver,
    /// They are asked for again.
    Repeat,
    /// Both halves are asked for.
    Halve,
    /// The row is at fault.
    Fail,
}

/// Whether a request goes out in the ordinary way, or as the one that finds out whether the API is well again.
type Admission<'a> = Option<Probe<'a>>;

/// Asks for the parts of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestExecutor<'a> {
    pub(crate) shared: &'a ClientState,
    /// Whose permits are used.
    pub(crate) lane: Lane,
    /// A permit that was waited for before the call: the first request uses it.
    pub(crate) reserved_permit: &'a std::sync::Mutex<Option<RequestPermit>>,
    pub(crate) stop: &'a CancellationToken,
}

impl RequestExecutor<'_> {
    /// Asks for a part until each of its rows has an outcome, or until it is to be halved.
    pub(crate) async fn execute(self, mut part: RowGroup) -> Result<GroupOutcome, ScoreError> {
        let mut outcomes = Vec::with_capacity(part.rows.len());
        let (mut repeated, mut cuts) = (0, Disconnects::default());
        loop {
            let asked = self.request(&part, &mut cuts).await?;
            let refusal = match asked {
                GroupResponse::Refused(refusal) => refusal,
                // A single row that was scored says nothing of the others, which are asked for as before.
                GroupResponse::Answered { first, rows, .. } if rows.len() < part.rows.len() => {
                    let _ = take_scored(&mut part, first, rows, &mut outcomes);
                    continue;
                }
                GroupResponse::Answered { first, rows, at } => {
                    let before = outcomes.len();
                    let Some(symptom) = take_scored(&mut part, first, rows, &mut outcomes) else {
                        return Ok(GroupOutcome { outcomes, halves: None });
                    };
                    if outcomes.len() > before {
                        // What is left is another request, with all its repetitions.
                        count_attempt(&mut part.rows);
                        self.shared.counters.retry(symptom.class());
                        repeated = 0;
                        self.back_off(0).await?;
                        continue;
                    }
                    self.failed_request(symptom, at)
                }
            };
            cuts = Disconnects::default();
            match self.next_step(&part, refusal, repeated).await? {
                NextStep::StartOver => repeated = 0,
                NextStep::Repeat => {
                    count_attempt(&mut part.rows);
                    self.shared.counters.retry(refusal.symptom.class());
                    if refusal.symptom.class() == ErrorClass::Suspect {
                        self.back_off(repeated).await?;
                    }
                    repeated += 1;
                }
                NextStep::Halve => {
                    count_attempt(&mut part.rows);
                    self.shared.counters.bisection();
                    return Ok(GroupOutcome { outcomes, halves: Some(part.halve()) });
                }
                NextStep::Fail => {
                    count_attempt(&mut part.rows);
                    let failed =
                        |row: PendingRow| row.failed(failure_class(refusal.symptom), failure_reason(refusal.symptom));
                    outcomes.extend(part.rows.into_iter().map(failed));
                    return Ok(GroupOutcome { outcomes, halves: None });
                }
            }
        }
    }

    /// What follows from a refusal, after the part was repeated so often.
    async fn next_step(self, part: &RowGroup, refusal: FailedRequest, repeated: u32) -> Result<NextStep, ScoreError> {
        let is_single = part.is_single();
        let verdict = if repeated < self.max_repetitions(part, refusal.symptom) {
            NextStep::Repeat
        } else if is_single {
            NextStep::Fail
        } else {
            NextStep::Halve
        };
        let needs_proof = match verdict {
            // Once for each row is enough: what follows are refusals after the model was seen to work.
            NextStep::Repeat => is_single && repeated == 0,
            // Once for each request as it came; and smaller requests for what was too large are right whatever the model does.
            NextStep::Halve => !part.is_half && !refusal.symptom.is_too_large(),
            NextStep::Fail | NextStep::StartOver => false,
        };
        let stands =
            if needs_proof { self.is_model_proven(refusal, is_single).await? } else { !self.is_outdated(refusal) };
        Ok(if stands { verdict } else { NextStep::StartOver })
    }

    /// Whether the API turned out to be away, or the model to be broken, since the refusal, which then means nothing.
    pub(crate) fn is_outdated(self, refusal: FailedRequest) -> bool {
        let breaker = &self.shared.breaker;
        !breaker.is_closed() || breaker.outages() != refusal.outages
    }

    fn failed_request(self, symptom: Symptom, at: Tick) -> FailedRequest {
        FailedRequest { symptom, at, outages: self.shared.breaker.outages() }
    }

    /// How often a part is asked for again before more is concluded. A row that stands alone is asked for at least once
    /// more, after the model was seen to work.
    fn max_repetitions(self, part: &RowGroup, symptom: Symptom) -> u32 {
        match symptom.class() {
            ErrorClass::Suspect if part.is_single() => self.shared.max_retries.max(1),
            ErrorClass::Suspect if !part.is_half => self.shared.max_retries,
            _ if part.is_single() => 1,
            _ => 0,
        }
    }

    /// Sends a part, as often as it takes to get an answer that says something about its rows.
    async fn request(self, part: &RowGroup, cuts: &mut Disconnects) -> Result<GroupResponse, ScoreError> {
        let ClientState { breaker, successes, counters, .. } = self.shared;
        let (mut may_be_stale, mut probes) = (true, 0);
        loop {
            // Whoever waits at the circuit must not keep a permit from those who find out whether it can be closed.
            let reserved_permit = self.take_reserved_permit().filter(|_| breaker.is_closed());
            let (admission, permit) = if let Some(permit) = reserved_permit {
                (None, permit)
            } else {
                let admission = self.admit().await?;
                if admission.is_some() && cuts.count >= MAX_DISCONNECTS {
                    match self.distinguish_from_outage(cuts).await? {
                        Some(refusal) => return Ok(GroupResponse::Refused(refusal)),
                        None => continue,
                    }
                }
                (admission, self.acquire_permit().await?)
            };
            if admission.is_none() && !breaker.is_closed() {
                continue;
            }
            // One transaction finds out as much as many do. Another each time, as one may be at fault itself.
            let rows = match admission {
                Some(_) => {
                    let first = probes % part.rows.len();
                    probes += 1;
                    first..first + 1
                }
                None => 0..part.rows.len(),
            };
            let (first, rows) = (rows.start, &part.rows[rows]);
            let is_whole = rows.len() == part.rows.len();
            let sent = successes.tick();
            let answered = self.send(rows.iter().map(|row| (row.id, &row.entry.transaction)), permit).await;
            let at = successes.tick();
            let error = match answered {
                Ok(answers) => {
                    let scored = rows.iter().zip(&answers).find(|(_, answer)| answer.is_ok());
                    if let Some((row, _)) = scored {
                        successes.scored(sent, Canary { id: row.id, transaction: row.entry.transaction.clone() });
                        if admission.is_some() {
                            breaker.close();
                        }
                        breaker.record_success();
                    } else if let Some(Probe { cause, .. }) = &admission {
                        self.probe_refused(*cause, symptom_of_rows(&answers)).await?;
                        if !is_whole {
                            continue;
                        }
                    }
                    return Ok(GroupResponse::Answered { first, rows: answers, at });
                }
                // Perhaps a connection that the server had closed while nothing was sent on it.
                Err(RequestError { symptom: Symptom::ConnectionLost, .. }) if may_be_stale => {
                    may_be_stale = false;
                    counters.retry(Symptom::ConnectionLost.class());
                    continue;
                }
                Err(error) => error,
            };
            if is_whole && (error.symptom.is_disconnect() || admission.is_some() && error.symptom.is_timeout()) {
                *cuts = Disconnects { count: cuts.count + 1, last: Some((error.symptom, at)) };
            }
            match (&admission, OpenReason::of(error.symptom)) {
                (Some(_), Some(cause)) => breaker.keep_open(cause, &error),
                // That something answers otherwise does not show that it scores.
                (Some(Probe { cause: OpenReason::Outage | OpenReason::Misconfiguration, .. }), None)
                    if error.symptom.is_timeout() =>
                {
                    breaker.keep_open(OpenReason::Outage, &error);
                }
                // The circuit stays closed, so that a control can tell this request from an outage.
                (None, Some(_)) if cuts.count >= MAX_DISCONNECTS => {
                    return Ok(GroupResponse::Refused(self.failed_request(error.symptom, at)));
                }
                (None, Some(cause)) => breaker.open(cause, &error),
                (_, None) => {
                    if let Some(Probe { cause, .. }) = &admission {
                        self.probe_refused(*cause, error.symptom).await?;
                    }
                    if !is_whole {
                        continue;
                    }
                    if error.symptom.is_too_large() && !part.is_single() {
                        self.shrink_later_requests(part);
                    }
                    return Ok(GroupResponse::Refused(self.failed_request(error.symptom, at)));
                }
            }
        }
    }

    /// Makes later requests smaller than one that was too large.
    fn shrink_later_requests(self, part: &RowGroup) {
        let too_large = protocol::write_request(part.rows.iter().map(|row| &row.entry.transaction)).len();
        if let Some(limit) = self.shared.size_limit.lower_below(too_large) {
            info!("ML API takes no request of {too_large} bytes: sending at most {limit} from now on");
        }
    }

    /// One exchange; `permit` is held while it is under way.
    pub(crate) async fn send<'b>(
        self,
        rows: impl Iterator<Item = (Uuid, &'b EncodedTransaction)> + Clone,
        permit: RequestPermit,
    ) -> Result<Vec<RowResult>, RequestError> {
        let ClientState { http, successes, counters, .. } = self.shared;
        let ids: Vec<Uuid> = rows.clone().map(|(id, _)| id).collect();
        let body = protocol::write_request(rows.map(|(_, transaction)| transaction));
        counters.requests.add(1);
        let sent = Instant::now();
        let answered = {
            let (_under_way, _in_flight) = (successes.begin(), metrics::InFlightGauge::begin(self.lane));
            let answered = http.predict(body, protocol::max_response_bytes(ids.len())).await;
            drop(permit);
            answered
        };
        let took = sent.elapsed();
        let read = self.read(answered, &ids).await;
        let class = match &read {
            Ok(rows) => rows.iter().any(Result::is_err).then(|| symptom_of_rows(rows).class()),
            Err(error) => Some(error.symptom.class()),
        };
        metrics::request_ended(self.lane, took, class);
        read
    }

    /// What an answer says of the rows. Whether one that did not come in time speaks against them, `/health` tells, if only
    /// by answering at all.
    async fn read(self, answered: Result<Bytes, RequestError>, ids: &[Uuid]) -> Result<Vec<RowResult>, RequestError> {
        match answered {
            Ok(answer) => protocol::read_response(&answer, ids).map_err(|why| Symptom::Unreadable(why).into()),
            Err(RequestError { symptom: Symptom::TimedOutHealthy, .. }) => {
                let health = self.health().await;
                let symptom =
                    if health.is_responsive() { Symptom::TimedOutHealthy } else { Symptom::TimedOutUnhealthy };
                Err(RequestError { symptom, retry_after: health.retry_after() })
            }
            Err(error) => Err(error),
        }
    }

    async fn health(self) -> HealthStatus {
        let ClientState { http, health_check, policy, breaker, .. } = self.shared;
        health_check.ask(http, policy.health_timeout, breaker.outages()).await
    }

    /// Waits until a request may go out.
    async fn admit(&self) -> Result<Admission<'_>, ScoreError> {
        let ClientState { breaker, health_check, .. } = self.shared;
        loop {
            let probe = match breaker.admit(self.stop).await? {
                Turn::Closed => return Ok(None),
                Turn::Probe(probe) => probe,
            };
            if probe.cause != OpenReason::Outage || health_check.is_missing_in(breaker.outages()) {
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
                // It tells nothing, so that only a transaction can.
                HealthStatus::Unhealthy(_) | HealthStatus::NoAnswer(_) | HealthStatus::NoCheck(_) => {
                    return Ok(Some(probe));
                }
            }
        }
    }

    /// After a probe with a waiting transaction that the API refused for what may be the transaction's own fault.
    async fn probe_refused(self, cause: OpenReason, symptom: Symptom) -> Result<(), ScoreError> {
        let breaker = &self.shared.breaker;
        match cause {
            // Whoever judges the request lets us in again.
            OpenReason::Misconfiguration | OpenReason::Outage => breaker.close(),
            // All that wait may be at fault.
            OpenReason::BrokenModel => match self.run_canary().await? {
                CanaryResult::Scored => breaker.close(),
                CanaryResult::Refused(_) => breaker.keep_open(cause, &symptom.into()),
                CanaryResult::Away(cause, error) => breaker.keep_open(cause, &error),
            },
        }
        Ok(())
    }

    /// Whether it is the part that makes the API break off or stall, and no outage, where that happened again and again: what was
    /// scored before is asked for. Nothing is concluded before something was scored.
    async fn distinguish_from_outage(self, cuts: &mut Disconnects) -> Result<Option<FailedRequest>, ScoreError> {
        let ClientState { breaker, successes, .. } = self.shared;
        let Disconnects { last, .. } = std::mem::take(cuts);
        let (Some((symptom, at)), Some(last_good)) = (last, successes.last_good()) else { return Ok(None) };
        match self.send_canary(last_good).await? {
            CanaryResult::Scored | CanaryResult::Refused(_) => {
                breaker.close();
                Ok(Some(self.failed_request(symptom, at)))
            }
            CanaryResult::Away(cause, error) => {
                breaker.keep_open(cause, &error);
                Ok(None)
            }
        }
    }

    pub(crate) async fn acquire_permit(&self) -> Result<RequestPermit, ScoreError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            permit = self.shared.permits.acquire(self.lane, false) => Ok(permit),
        }
    }

    fn take_reserved_permit(&self) -> Option<RequestPermit> {
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

/// Moves the rows from `first` on that were scored to the outcomes. What is wrong with the first of the others, where any are left.
fn take_scored(
    part: &mut RowGroup,
    first: usize,
    answers: Vec<RowResult>,
    outcomes: &mut Vec<RowOutcome>,
) -> Option<Symptom> {
    let symptom = answers.iter().find_map(|answer| answer.as_ref().err()).map(|why| Symptom::Incomplete(why));
    let rest = part.rows.split_off(first + answers.len());
    let asked = part.rows.split_off(first);
    for (row, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(prediction) => outcomes.push(row.predicted(prediction)),
            Err(_) => part.rows.push(row),
        }
    }
    part.rows.extend(rest);
    symptom
}

pub(crate) fn symptom_of_rows(rows: &[RowResult]) -> Symptom {
    rows.iter()
        .find_map(|row| row.as_ref().err())
        .map_or(Symptom::Incomplete("the answer lacks it"), |why| Symptom::Incomplete(why))
}

fn failure_class(symptom: Symptom) -> FailureClass {
    match symptom.class() {
        ErrorClass::Rejected => FailureClass::Rejected,
        ErrorClass::Suspect | ErrorClass::Unavailable | ErrorClass::Misconfigured => FailureClass::Suspect,
    }
}

/// For a person, in our own words; short by construction.
fn failure_reason(symptom: Symptom) -> String {
    format!("ML API: {symptom}, when asked for this transaction alone")
}
