//! What becomes of the rows of one part: asks for them, waits out what is not their fault, and says what is next.
//!
//! The rule that keeps a broken model from failing rows is in [`Inquiry::is_proven`]; it is written down, with its reasons, in
//! `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

use std::sync::PoisonError;

use assay_transaction::{FailureClass, Lane};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::ScoreError;
use crate::bisect::{Part, SizeLimit};
use crate::circuit::{Cause, Circuit, Probe, Turn};
use crate::class::{Class, Sign};
use crate::evidence::{Control, Evidence, Tick};
use crate::http::{Http, Trouble, lives};
use crate::metrics;
use crate::permits::{Permit, Permits};
use crate::policy::Policy;
use crate::protocol::{self, RowAnswer};
use crate::row::{Outcome, Row, count_attempt};
use crate::stats::Counters;

/// How often a request may be cut off, with the API well in between, before the request itself is suspected: a row can
/// crash the process that scores it.
const MOST_CUTS: u32 = 5;

/// What all requests of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) http: Http,
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
    Answered { rows: Vec<RowAnswer>, at: Tick },
    Refused(Refusal),
}

/// A request that failed, and may have deserved it.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    sign: Sign,
    /// When it was seen.
    at: Tick,
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

/// What a control showed.
enum Controlled {
    Scored,
    Refused(Sign),
    /// The API is away.
    Away(Cause, Trouble),
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
        let mut repeated = 0;
        loop {
            let refusal = match self.ask(&part).await? {
                Asked::Refused(refusal) => refusal,
                Asked::Answered { rows, at } => {
                    let before = outcomes.len();
                    let Some(sign) = take_scored(&mut part, rows, &mut outcomes) else {
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
    fn is_overtaken(self, refusal: Refusal) -> bool {
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
    async fn ask(self, part: &Part) -> Result<Asked, ScoreError> {
        let Shared { circuit, evidence, counters, .. } = self.shared;
        let ids: Vec<Uuid> = part.rows.iter().map(|row| row.id).collect();
        let body = protocol::write_request(part.rows.iter().map(|row| &row.entry.transaction));
        let (mut may_be_stale, mut cuts) = (true, 0);
        loop {
            // Whoever waits at the circuit must not keep a permit from those who find out whether it can be closed.
            let at_hand = self.take_at_hand().filter(|_| circuit.is_closed());
            let (admission, permit) = match at_hand {
                Some(permit) => (None, permit),
                None => (self.admission().await?, self.permit().await?),
            };
            if admission.is_none() && !circuit.is_closed() {
                continue;
            }
            let sent = evidence.tick();
            let answered = self.send(body.clone(), &ids, permit).await;
            let at = evidence.tick();
            let trouble = match answered {
                Ok(rows) => {
                    if let Some((row, _)) = part.rows.iter().zip(&rows).find(|(_, answer)| answer.is_ok()) {
                        evidence.scored(sent, Control { id: row.id, transaction: row.entry.transaction.clone() });
                        if admission.is_some() {
                            circuit.close();
                        }
                        circuit.succeeded();
                    } else if let Some(Probe { cause, .. }) = admission {
                        self.still_refused(cause, rows_sign(&rows));
                    }
                    return Ok(Asked::Answered { rows, at });
                }
                // Perhaps a connection that the server had closed while nothing was sent on it.
                Err(Trouble { sign: Sign::BrokenOff, .. }) if may_be_stale => {
                    may_be_stale = false;
                    counters.retry(Sign::BrokenOff.class());
                    continue;
                }
                Err(trouble) => trouble,
            };
            cuts += u32::from(trouble.sign.is_cut());
            match Cause::of(trouble.sign) {
                Some(cause) if admission.is_some() => circuit.keep_open(cause, &trouble),
                // The circuit stays closed, so that a control can tell this request from an outage.
                Some(_) if cuts >= MOST_CUTS => return Ok(Asked::Refused(self.refusal(trouble.sign, at))),
                Some(cause) => circuit.open(cause, &trouble),
                None => {
                    if let Some(Probe { cause, .. }) = admission {
                        self.still_refused(cause, trouble.sign);
                    }
                    if trouble.sign.is_too_large() && !part.is_alone() {
                        self.shrink(body.len());
                    }
                    return Ok(Asked::Refused(self.refusal(trouble.sign, at)));
                }
            }
        }
    }

    /// Makes later requests smaller than one that was too large.
    fn shrink(self, too_large: usize) {
        if let Some(limit) = self.shared.size_limit.lower_below(too_large) {
            info!("ML API takes no request of {too_large} bytes: sending at most {limit} from now on");
        }
    }

    /// After a probe with a real request that the API refused for what may be the request's own fault.
    fn still_refused(self, cause: Cause, sign: Sign) {
        match cause {
            // Whoever judges the request lets us in again.
            Cause::Setting | Cause::Outage => self.shared.circuit.close(),
            Cause::BrokenModel => self.shared.circuit.keep_open(cause, &sign.into()),
        }
    }

    /// One exchange; `permit` is held while it is under way.
    async fn send(self, body: Bytes, ids: &[Uuid], permit: Permit) -> Result<Vec<RowAnswer>, Trouble> {
        let Shared { http, evidence, counters, .. } = self.shared;
        counters.requests.add(1);
        let sent = Instant::now();
        let answered = {
            let (_under_way, _in_flight) = (evidence.begin(), metrics::InFlight::begin(self.lane));
            let answered = http.predict(body, protocol::longest_answer(ids.len())).await;
            drop(permit);
            answered
        };
        let took = sent.elapsed();
        let read = self.read(answered, ids).await;
        let class = match &read {
            Ok(rows) => rows.iter().any(Result::is_err).then(|| rows_sign(rows).class()),
            Err(trouble) => Some(trouble.sign.class()),
        };
        metrics::answered(self.lane, took, class);
        read
    }

    /// What an answer says of the rows. Whether one that did not come in time speaks against them, `/health` tells.
    async fn read(self, answered: Result<Bytes, Trouble>, ids: &[Uuid]) -> Result<Vec<RowAnswer>, Trouble> {
        let Shared { http, policy, .. } = self.shared;
        match answered {
            Ok(answer) => protocol::read_answer(&answer, ids).map_err(|why| Sign::Unreadable(why).into()),
            Err(Trouble { sign: Sign::TimedOutHealthy, .. }) => {
                let health = http.health(policy.health_timeout).await;
                let sign = if lives(health) { Sign::TimedOutHealthy } else { Sign::TimedOutUnhealthy };
                Err(Trouble { sign, retry_after: health.err().and_then(|trouble| trouble.retry_after) })
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Waits until a request may go out.
    async fn admission(&self) -> Result<Admission<'_>, ScoreError> {
        let Shared { circuit, http, policy, evidence, .. } = self.shared;
        loop {
            let probe = match circuit.turn(self.stop).await? {
                Turn::Closed => return Ok(None),
                Turn::Probe(probe) => probe,
            };
            match probe.cause {
                Cause::Outage => {
                    let health = http.health(policy.health_timeout).await;
                    match health {
                        Err(trouble) if !lives(health) => circuit.keep_open(Cause::Outage, &trouble),
                        _ => circuit.close(),
                    }
                }
                // A made-up transaction would be scored as if it were a real one, and a real one is at hand.
                Cause::Setting if evidence.known_good().is_none() => return Ok(Some(probe)),
                Cause::Setting | Cause::BrokenModel => match self.control().await? {
                    Controlled::Scored => circuit.close(),
                    // It may have become a bad one meanwhile.
                    Controlled::Refused(_) => return Ok(Some(probe)),
                    Controlled::Away(cause, trouble) => circuit.keep_open(cause, &trouble),
                },
            }
        }
    }

    /// Whether the model is known to have worked after the refusal, so that the rows may be at fault.
    ///
    /// The proof is a row that a later request scored: any request of this process, or, where none comes, a control. While
    /// the model does not even score the control it is broken, and the circuit is opened. A process that has never seen a
    /// row scored may halve without proof, as that may find the first one; but it fails no row.
    async fn is_proven(self, refusal: Refusal, is_alone: bool) -> Result<bool, ScoreError> {
        let Shared { circuit, evidence, policy, control, .. } = self.shared;
        if !evidence.proves_since(refusal.at) && circuit.is_closed() && evidence.is_something_under_way() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ScoreError::Stopped),
                () = evidence.proof_since(refusal.at) => {}
                () = tokio::time::sleep(policy.patience) => {}
            }
        }
        let _alone = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ScoreError::Stopped),
            alone = control.lock() => alone,
        };
        if self.is_overtaken(refusal) {
            return Ok(false);
        }
        if evidence.proves_since(refusal.at) || !is_alone && evidence.known_good().is_none() {
            return Ok(true);
        }
        match self.control().await? {
            Controlled::Scored => return Ok(true),
            Controlled::Refused(sign) => circuit.open(Cause::BrokenModel, &sign.into()),
            Controlled::Away(cause, trouble) => circuit.open(cause, &trouble),
        }
        Ok(false)
    }

    /// Asks for a transaction that was scored before and, where that is refused or there is none, for a made-up one.
    async fn control(self) -> Result<Controlled, ScoreError> {
        let evidence = &self.shared.evidence;
        let mut seen = Sign::Incomplete("no transaction to ask for");
        for control in evidence.known_good().into_iter().chain(Control::made_up()) {
            let permit = self.permit().await?;
            self.shared.counters.control();
            let sent = evidence.tick();
            let body = protocol::write_request(std::iter::once(&control.transaction));
            seen = match self.send(body, &[control.id], permit).await {
                Ok(rows) if rows.iter().all(Result::is_ok) => {
                    evidence.scored(sent, control);
                    self.shared.circuit.succeeded();
                    return Ok(Controlled::Scored);
                }
                Ok(rows) => rows_sign(&rows),
                Err(trouble) => match Cause::of(trouble.sign) {
                    Some(cause) => return Ok(Controlled::Away(cause, trouble)),
                    None => trouble.sign,
                },
            };
        }
        Ok(Controlled::Refused(seen))
    }

    async fn permit(&self) -> Result<Permit, ScoreError> {
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

/// Moves the rows that were scored to the outcomes. What is wrong with the first of the others, where any are left.
fn take_scored(part: &mut Part, answers: Vec<RowAnswer>, outcomes: &mut Vec<Outcome>) -> Option<Sign> {
    let sign = answers.iter().find_map(|answer| answer.as_ref().err()).map(|why| Sign::Incomplete(why));
    let rows = std::mem::take(&mut part.rows);
    for (row, answer) in rows.into_iter().zip(answers) {
        match answer {
            Ok(prediction) => outcomes.push(row.predicted(prediction)),
            Err(_) => part.rows.push(row),
        }
    }
    sign
}

fn rows_sign(rows: &[RowAnswer]) -> Sign {
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
