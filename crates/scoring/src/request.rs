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
use crate::breaker::{Cause, Circuit, Probe, Turn};
use crate::canary::{Control, Evidence, Tick};
use crate::failure::{Class, Sign};
use crate::health::{Health, HealthCheck};
use crate::http::{Http, Trouble};
use crate::metrics;
use crate::permits::{Permit, Permits};
use crate::policy::Policy;
use crate::proof::Controlled;
use crate::protocol::{self, RowAnswer};
use crate::row::{Outcome, Row, count_attempt};
use crate::split::{Part, SizeLimit};
use crate::stats::Counters;

/// How often a request may be cut off, with the API well in between, before the request itself is suspected: a row can
/// crash the process that scores it.
const MOST_CUTS: u32 = 5;

/// What all requests of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) health_check: HealthCheck,
    pub(crate) max_retries: u32,
    pub(crate) policy: Policy,
    pub(crate) permits: Permits,
    pub(crate) circuit: Circuit,
    pub(crate) evidence: Evidence,
    pub(crate) size_limit: SizeLimit,
    pub(crate) counters: Counters,
    /// Held by whoever asks for a control, so that one answer serves all who wait for it.
    pub(crate) control: Mutex<()>,
}

/// What became of a part.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The rows that are done.
    pub(crate) outcomes: Vec<Outcome>,
    /// What has to be asked for next; together with the outcomes, all rows of the part.
    pub(crate) halves: Option<[Part; 2]>,
}

/// An answer about some of the rows, or a refusal that they may be the reason of.
enum Asked {
    /// About the rows from `first` on: all of them, or the only one that was sent to find out whether the API scores again,
    /// and was scored.
    Answered {
        first: usize,
        rows: Vec<RowAnswer>,
        at: Tick,
    },
    Refused(Refusal),
}

/// How often the request for a part was cut off, or not answered in time by an API that is probed; and when and how it was last.
#[derive(Debug, Default)]
struct Cuts {
    count: u32,
    last: Option<(Sign, Tick)>,
}

/// A request that failed, and may have deserved it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    sign: Sign,
    /// When it was seen.
    pub(crate) at: Tick,
    /// How often the circuit had been opened by then.
    outages: u64,
}

/// What follows from a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It says nothing about the rows: they are asked for as if for the first time.
    Anew,
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
pub(crate) struct Inquiry<'a> {
    pub(crate) shared: &'a Shared,
    /// Whose permits are used.
    pub(crate) lane: Lane,
    /// A permit that was waited for before the call: the first request uses it.
    pub(crate) at_hand: &'a std::sync::Mutex<Option<Permit>>,
    pub(crate) stop: &'a CancellationToken,
}

impl Inquiry<'_> {
    /// Asks for a part until each of its rows has an outcome, or until it is to be halved.
    pub(crate) async fn settle(self, mut part: Part) -> Result<Settled, ScoreError> {
        let mut outcomes = Vec::with_capacity(part.rows.len());
        let (mut repeated, mut cuts) = (0, Cuts::default());
        loop {
            let asked = self.ask(&part, &mut cuts).await?;
            let refusal = match asked {
                Asked::Refused(refusal) => refusal,
                // A single row that was scored says nothing of the others, which are asked for as before.
                Asked::Answered { first, rows, .. } if rows.len() < part.rows.len() => {
                    let _ = take_scored(&mut part, first, rows, &mut outcomes);
                    continue;
                }
                Asked::Answered { first, rows, at } => {
                    let before = outcomes.len();
                    let Some(sign) = take_scored(&mut part, first, rows, &mut outcomes) else {
                        return Ok(Settled { outcomes, halves: None });
                    };
                    if outcomes.len() > before {
                        // What is left is another request, with all its repetitions.
                        count_attempt(&mut part.rows);
                        self.shared.counters.retry(sign.class());
                        repeated = 0;
                        self.pause(0).await?;
                        continue;
                    }
                    self.refusal(sign, at)
                }
            };
            cuts = Cuts::default();
            match self.judge(&part, refusal, repeated).await? {
                Verdict::Anew => repeated = 0,
                Verdict::Repeat => {
                    count_attempt(&mut part.rows);
                    self.shared.counters.retry(refusal.sign.class());
                    if refusal.sign.class() == Class::Suspect {
                        self.pause(repeated).await?;
                    }
                    repeated += 1;
                }
                Verdict::Halve => {
                    count_attempt(&mut part.rows);
                    self.shared.counters.bisection();
                    return Ok(Settled { outcomes, halves: Some(part.halve()) });
                }
                Verdict::Fail => {
                    count_attempt(&mut part.rows);
                    let failed = |row: Row| row.failed(failure(refusal.sign), reason(refusal.sign));
                    outcomes.extend(part.rows.into_iter().map(failed));
                    return Ok(Settled { outcomes, halves: None });
                }
            }
        }
    }

    /// What follows from a refusal, after the part was repeated so often.
    async fn judge(self, part: &Part, refusal: Refusal, repeated: u32) -> Result<Verdict, ScoreError> {
        let is_alone = part.is_alone();
        let verdict = if repeated < self.repetitions(part, refusal.sign) {
            Verdict::Repeat
        } else if is_alone {
            Verdict::Fail
        } else {
            Verdict::Halve
        };
        let needs_proof = match verdict {
            // Once for each row is enough: what follows are refusals after the model was seen to work.
            Verdict::Repeat => is_alone && repeated == 0,
            // Once for each request as it came; and smaller requests for what was too large are right whatever the model does.
            Verdict::Halve => !part.is_half && !refusal.sign.is_too_large(),
            Verdict::Fail | Verdict::Anew => false,
        };
        let stands = if needs_proof { self.is_proven(refusal, is_alone).await? } else { !self.is_overtaken(refusal) };
        Ok(if stands { verdict } else { Verdict::Anew })
    }

    /// Whether the API turned out to be away, or the model to be broken, since the refusal, which then means nothing.
    pub(crate) fn is_overtaken(self, refusal: Refusal) -> bool {
        let circuit = &self.shared.circuit;
        !circuit.is_closed() || circuit.outages() != refusal.outages
    }

    fn refusal(self, sign: Sign, at: Tick) -> Refusal {
        Refusal { sign, at, outages: self.shared.circuit.outages() }
    }

    /// How often a part is asked for again before more is concluded. A row that stands alone is asked for at least once
    /// more, after the model was seen to work.
    fn repetitions(self, part: &Part, sign: Sign) -> u32 {
        match sign.class() {
            Class::Suspect if part.is_alone() => self.shared.max_retries.max(1),
            Class::Suspect if !part.is_half => self.shared.max_retries,
            _ if part.is_alone() => 1,
            _ => 0,
        }
    }

    /// Sends a part, as often as it takes to get an answer that says something about its rows.
    async fn ask(self, part: &Part, cuts: &mut Cuts) -> Result<Asked, ScoreError> {
        let Shared { circuit, evidence, counters, .. } = self.shared;
        let (mut may_be_stale, mut probes) = (true, 0);
        loop {
            // Whoever waits at the circuit must not keep a permit from those who find out whether it can be closed.
            let at_hand = self.take_at_hand().filter(|_| circuit.is_closed());
            let (admission, permit) = if let Some(permit) = at_hand {
                (None, permit)
            } else {
                let admission = self.admission().await?;
                if admission.is_some() && cuts.count >= MOST_CUTS {
                    match self.tell_from_outage(cuts).await? {
                        Some(refusal) => return Ok(Asked::Refused(refusal)),
                        None => continue,
                    }
                }
                (admission, self.permit().await?)
            };
            if admission.is_none() && !circuit.is_closed() {
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
            let sent = evidence.tick();
            let answered = self.send(rows.iter().map(|row| (row.id, &row.entry.transaction)), permit).await;
            let at = evidence.tick();
            let trouble = match answered {
                Ok(answers) => {
                    let scored = rows.iter().zip(&answers).find(|(_, answer)| answer.is_ok());
                    if let Some((row, _)) = scored {
                        evidence.scored(sent, Control { id: row.id, transaction: row.entry.transaction.clone() });
                        if admission.is_some() {
                            circuit.close();
                        }
                        circuit.succeeded();
                    } else if let Some(Probe { cause, .. }) = &admission {
                        self.refused_again(*cause, rows_sign(&answers)).await?;
                        if !is_whole {
                            continue;
                        }
                    }
                    return Ok(Asked::Answered { first, rows: answers, at });
                }
                // Perhaps a connection that the server had closed while nothing was sent on it.
                Err(Trouble { sign: Sign::BrokenOff, .. }) if may_be_stale => {
                    may_be_stale = false;
                    counters.retry(Sign::BrokenOff.class());
                    continue;
                }
                Err(trouble) => trouble,
            };
            if is_whole && (trouble.sign.is_cut() || admission.is_some() && trouble.sign.is_time_out()) {
                *cuts = Cuts { count: cuts.count + 1, last: Some((trouble.sign, at)) };
            }
            match (&admission, Cause::of(trouble.sign)) {
                (Some(_), Some(cause)) => circuit.keep_open(cause, &trouble),
                // That something answers otherwise does not show that it scores.
                (Some(Probe { cause: Cause::Outage | Cause::Setting, .. }), None) if trouble.sign.is_time_out() => {
                    circuit.keep_open(Cause::Outage, &trouble);
                }
                // The circuit stays closed, so that a control can tell this request from an outage.
                (None, Some(_)) if cuts.count >= MOST_CUTS => {
                    return Ok(Asked::Refused(self.refusal(trouble.sign, at)));
                }
                (None, Some(cause)) => circuit.open(cause, &trouble),
                (_, None) => {
                    if let Some(Probe { cause, .. }) = &admission {
                        self.refused_again(*cause, trouble.sign).await?;
                    }
                    if !is_whole {
                        continue;
                    }
                    if trouble.sign.is_too_large() && !part.is_alone() {
                        self.shrink(part);
                    }
                    return Ok(Asked::Refused(self.refusal(trouble.sign, at)));
                }
            }
        }
    }

    /// Makes later requests smaller than one that was too large.
    fn shrink(self, part: &Part) {
        let too_large = protocol::write_request(part.rows.iter().map(|row| &row.entry.transaction)).len();
        if let Some(limit) = self.shared.size_limit.lower_below(too_large) {
            info!("ML API takes no request of {too_large} bytes: sending at most {limit} from now on");
        }
    }

    /// One exchange; `permit` is held while it is under way.
    pub(crate) async fn send<'b>(
        self,
        rows: impl Iterator<Item = (Uuid, &'b EncodedTransaction)> + Clone,
        permit: Permit,
    ) -> Result<Vec<RowAnswer>, Trouble> {
        let Shared { http, evidence, counters, .. } = self.shared;
        let ids: Vec<Uuid> = rows.clone().map(|(id, _)| id).collect();
        let body = protocol::write_request(rows.map(|(_, transaction)| transaction));
        counters.requests.add(1);
        let sent = Instant::now();
        let answered = {
            let (_under_way, _in_flight) = (evidence.begin(), metrics::InFlight::begin(self.lane));
            let answered = http.predict(body, protocol::longest_answer(ids.len())).await;
            drop(permit);
            answered
        };
        let took = sent.elapsed();
        let read = self.read(answered, &ids).await;
        let class = match &read {
            Ok(rows) => rows.iter().any(Result::is_err).then(|| rows_sign(rows).class()),
            Err(trouble) => Some(trouble.sign.class()),
        };
        metrics::answered(self.lane, took, class);
        read
    }

    /// What an answer says of the rows. Whether one that did not come in time speaks against them, `/health` tells, if only
    /// by answering at all.
    async fn read(self, answered: Result<Bytes, Trouble>, ids: &[Uuid]) -> Result<Vec<RowAnswer>, Trouble> {
        match answered {
            Ok(answer) => protocol::read_answer(&answer, ids).map_err(|why| Sign::Unreadable(why).into()),
            Err(Trouble { sign: Sign::TimedOutHealthy, .. }) => {
                let health = self.health().await;
                let sign = if health.lives() { Sign::TimedOutHealthy } else { Sign::TimedOutUnhealthy };
                Err(Trouble { sign, retry_after: health.retry_after() })
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn health(self) -> Health {
        let Shared { http, health_check, policy, circuit, .. } = self.shared;
        health_check.ask(http, policy.health_timeout, circuit.outages()).await
    }

    /// Waits until a request may go out.
    async fn admission(&self) -> Result<Admission<'_>, ScoreError> {
        let Shared { circuit, health_check, .. } = self.shared;
        loop {
            let probe = match circuit.turn(self.stop).await? {
                Turn::Closed => return Ok(None),
                Turn::Probe(probe) => probe,
            };
            if probe.cause != Cause::Outage || health_check.is_missing_in(circuit.outages()) {
                return Ok(Some(probe));
            }
            match self.health().await {
                Health::Well => circuit.close(),
                Health::Silent(trouble) => circuit.keep_open(Cause::Outage, &trouble),
                Health::Sick(trouble) | Health::NoAnswer(trouble)
                    if health_check.is_believed() || trouble.retry_after.is_some() =>
                {
                    circuit.keep_open(Cause::Outage, &trouble);
                }
                // It tells nothing, so that only a transaction can.
                Health::Sick(_) | Health::NoAnswer(_) | Health::NoCheck(_) => return Ok(Some(probe)),
            }
        }
    }

    /// After a probe with a waiting transaction that the API refused for what may be the transaction's own fault.
    async fn refused_again(self, cause: Cause, sign: Sign) -> Result<(), ScoreError> {
        let circuit = &self.shared.circuit;
        match cause {
            // Whoever judges the request lets us in again.
            Cause::Setting | Cause::Outage => circuit.close(),
            // All that wait may be at fault.
            Cause::BrokenModel => match self.control().await? {
                Controlled::Scored => circuit.close(),
                Controlled::Refused(_) => circuit.keep_open(cause, &sign.into()),
                Controlled::Away(cause, trouble) => circuit.keep_open(cause, &trouble),
            },
        }
        Ok(())
    }

    /// Whether it is the part that makes the API break off or stall, and no outage, where that happened again and again: what was
    /// scored before is asked for. Nothing is concluded before something was scored.
    async fn tell_from_outage(self, cuts: &mut Cuts) -> Result<Option<Refusal>, ScoreError> {
        let Shared { circuit, evidence, .. } = self.shared;
        let Cuts { last, .. } = std::mem::take(cuts);
        let (Some((sign, at)), Some(known_good)) = (last, evidence.known_good()) else { return Ok(None) };
        match self.ask_for(known_good).await? {
            Controlled::Scored | Controlled::Refused(_) => {
                circuit.close();
                Ok(Some(self.refusal(sign, at)))
            }
            Controlled::Away(cause, trouble) => {
                circuit.keep_open(cause, &trouble);
                Ok(None)
            }
        }
    }

    pub(crate) async fn permit(&self) -> Result<Permit, ScoreError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            permit = self.shared.permits.acquire(self.lane, false) => Ok(permit),
        }
    }

    fn take_at_hand(&self) -> Option<Permit> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn pause(self, step: u32) -> Result<(), ScoreError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            () = tokio::time::sleep(self.shared.policy.retry.delay(step)) => Ok(()),
        }
    }
}

/// Moves the rows from `first` on that were scored to the outcomes. What is wrong with the first of the others, where any are left.
fn take_scored(part: &mut Part, first: usize, answers: Vec<RowAnswer>, outcomes: &mut Vec<Outcome>) -> Option<Sign> {
    let sign = answers.iter().find_map(|answer| answer.as_ref().err()).map(|why| Sign::Incomplete(why));
    let rest = part.rows.split_off(first + answers.len());
    let asked = part.rows.split_off(first);
    for (row, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(prediction) => outcomes.push(row.predicted(prediction)),
            Err(_) => part.rows.push(row),
        }
    }
    part.rows.extend(rest);
    sign
}

pub(crate) fn rows_sign(rows: &[RowAnswer]) -> Sign {
    rows.iter()
        .find_map(|row| row.as_ref().err())
        .map_or(Sign::Incomplete("the answer lacks it"), |why| Sign::Incomplete(why))
}

fn failure(sign: Sign) -> FailureClass {
    match sign.class() {
        Class::Rejected => FailureClass::Rejected,
        Class::Suspect | Class::Unavailable | Class::Misconfigured => FailureClass::Suspect,
    }
}

/// For a person, in our own words; short by construction.
fn reason(sign: Sign) -> String {
    format!("ML API: {sign}, when asked for this transaction alone")
}
