//! The gate that each request passes before it takes a permit: holds of the fleet, the share of `API_RATE_LIMIT`, and the rate that
//! the API was seen to allow (`pacing`).
//!
//! [`request`](crate::request) asks for admission and tells the response. What other predictors must know is in [`Pace::holds`], and
//! what they tell comes through [`Pace::heed`]; the predictor carries both over the broker. The
//! [`breaker`](crate::breaker) has the outages: a refusal by rate (429, a short pause, scored transactions before it) opens no circuit.
//!
//! Guarantees: no request goes out during a hold, except what was under way; after it one request goes first, alone. Live transactions
//! go before the others, which get every tenth turn. A neighbour's opened circuit stops no process that scores. See
//! `docs/decisions/0040-the-pace-of-a-fleet.md`.

mod gate;

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assay_transaction::Lane;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::gate::{FirstAfterHold, Gate, RETURN, Refusal, Wait, index};
use crate::api::http::RequestError;
use crate::failure::Symptom;
use crate::options::Policy;
use crate::{ScoreError, metrics};

/// The longest pause of an API that is only asked too often; one that asks for more is unavailable.
const LONGEST_PACED_HOLD: Duration = Duration::from_secs(10);
/// So many refusals without a success in between, and the API is unavailable.
const MAX_REFUSALS: u32 = 4;
/// A process that scored so lately ignores the opened circuit of another.
const SCORED_LATELY: Duration = Duration::from_secs(5);
/// The longest pause for the opened circuit of another, which then has to be seen here too.
const LONGEST_CIRCUIT_HOLD: Duration = Duration::from_secs(5);
/// A process is busy for so long after a request.
const BUSY: Duration = Duration::from_secs(5);

/// A pause that the ML API asked this process for, and that others must know of.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiHold {
    /// When it ends.
    pub until: Instant,
    /// What was seen, in our own words.
    pub reason: String,
    /// Transactions a second that this process sends from then on, if that was measured.
    pub rate: Option<f64>,
}

/// A pause that another process of the fleet tells of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ToldHold {
    /// The API said when to come back.
    RetryAfter {
        /// How long it lasts.
        hold: Duration,
        /// Transactions a second that the refused process sends from then on.
        rate: Option<f64>,
    },
    /// Its circuit opened.
    Circuit {
        /// How long it waits for its probe.
        hold: Duration,
    },
}

/// How fast this process may send to the ML API.
#[derive(Debug)]
pub struct Pace {
    endpoint: String,
    limit: Option<NonZeroU32>,
    policy: Policy,
    began: Instant,
    gate: Mutex<Gate>,
    /// Sent when what waits should look again.
    changed: watch::Sender<()>,
    /// Held by the first waiter of each lane.
    turns: [tokio::sync::Mutex<()>; 2],
    holds: watch::Sender<Option<ApiHold>>,
}

/// The right to send one request. Dropped before it is sent, it was never given: its tokens are there again, and if it was the
/// first after a hold, another goes first.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    pace: &'a Pace,
    rows: f64,
    /// The number of holds by then.
    holds: u64,
    is_first: bool,
    is_sent: bool,
}

/// Counts a request as waiting.
struct Waiting<'a>(&'a Pace, Lane);

impl Pace {
    pub(crate) fn new(endpoint: &str, limit: Option<NonZeroU32>, policy: &Policy) -> Self {
        metrics::set_hold(Duration::ZERO);
        Self {
            endpoint: endpoint.to_owned(),
            limit,
            policy: policy.clone(),
            began: Instant::now(),
            gate: Mutex::new(Gate::new(limit.map(|limit| f64::from(limit.get())))),
            changed: watch::Sender::new(()),
            turns: Default::default(),
            holds: watch::Sender::new(None),
        }
    }

    /// The address of the ML API, without credentials.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `API_RATE_LIMIT`: transactions a second of the whole fleet.
    pub fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    /// Sets the share of this process in `API_RATE_LIMIT`, in transactions a second. It has all of it before.
    pub fn set_share(&self, rows_per_second: f64) {
        let before = self.gate().share.replace(rows_per_second);
        if before != Some(rows_per_second) {
            metrics::set_rate("share", rows_per_second);
            self.changed.send_replace(());
        }
    }

    /// Transactions a second that this process may send at present, if anything limits them.
    pub fn rate(&self) -> Option<f64> {
        self.gate().rate()
    }

    /// Whether this process has sent anything in the last seconds, or waits to.
    pub fn is_busy(&self) -> bool {
        let gate = self.gate();
        gate.waiting != [0; 2] || gate.last_sent.is_some_and(|sent| self.now() <= sent + BUSY)
    }

    /// The latest pause that the API asked this process for.
    pub fn holds(&self) -> watch::Receiver<Option<ApiHold>> {
        self.holds.subscribe()
    }

    /// How long nothing is sent from now on.
    pub fn held_for(&self) -> Duration {
        self.gate().hold_end.saturating_sub(self.now())
    }

    /// Waits until no pause lasts. Safe to cancel.
    pub async fn wait_out_hold(&self) {
        loop {
            let held = self.held_for();
            if held.is_zero() {
                return;
            }
            tokio::time::sleep(held).await;
        }
    }

    /// Whether requests go out, now or in a moment; else why not.
    pub(crate) fn health(&self) -> Result<(), String> {
        match self.held_for() {
            held if held <= LONGEST_PACED_HOLD => Ok(()),
            held => Err(format!("the ML API asked the fleet for a pause, which lasts {} s more", held.as_secs())),
        }
    }

    /// Takes a pause that another process tells of. Returns how long it is from now, or `None` if this process goes on.
    pub fn heed(&self, told: ToldHold) -> Option<Duration> {
        let now = self.now();
        let mut gate = self.gate();
        let hold = match told {
            ToldHold::RetryAfter { hold, rate } => {
                let hold = hold.min(self.policy.longest_retry_after);
                gate.hold(now, hold, rate.map(Refusal::Elsewhere));
                hold
            }
            ToldHold::Circuit { hold } => {
                let scores = gate.last_success.is_some_and(|success| now <= success + SCORED_LATELY);
                if scores || !std::mem::take(&mut gate.heeds_circuits) {
                    return None;
                }
                let hold = hold.min(LONGEST_CIRCUIT_HOLD);
                gate.hold(now, hold, None);
                hold
            }
        };
        drop(gate);
        self.changed.send_replace(());
        Some(hold)
    }

    /// Waits until a request of so many transactions may go out.
    pub(crate) async fn admit(
        &self,
        rows: usize,
        lane: Lane,
        stop: &CancellationToken,
    ) -> Result<Admission<'_>, ScoreError> {
        #[expect(clippy::cast_precision_loss, reason = "requests have few transactions")]
        let rows = rows as f64;
        if self.gate().waiting == [0; 2]
            && let Ok(admission) = self.try_admit(rows, lane)
        {
            return Ok(admission);
        }
        let _waiting = Waiting::begin(self, lane);
        let _turn = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(ScoreError::Stopped),
            turn = self.turns[index(lane)].lock() => turn,
        };
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let until = match self.try_admit(rows, lane) {
                Ok(admission) => return Ok(admission),
                Err(Wait::Until(time)) => Some(self.began + time),
                Err(Wait::Change) => None,
            };
            let wait = async {
                match until {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ScoreError::Stopped),
                // An error would mean that the sender is gone, but `self` holds it.
                _ = changed.changed() => {}
                () = wait => {}
            }
        }
    }

    fn try_admit(&self, rows: f64, lane: Lane) -> Result<Admission<'_>, Wait> {
        let mut gate = self.gate();
        let is_first = gate.admit(self.now(), rows, lane)?;
        let (holds, do_both_wait) = (gate.holds, gate.waiting.iter().all(|waiting| *waiting > 0));
        drop(gate);
        if is_first {
            metrics::set_hold(Duration::ZERO);
        }
        if do_both_wait {
            self.changed.send_replace(());
        }
        Ok(Admission { pace: self, rows, holds, is_first, is_sent: false })
    }

    /// Whether a hold lasts, or the first request after it has no response yet: a permit would be kept from others.
    pub(crate) fn is_held(&self) -> bool {
        let gate = self.gate();
        self.now() < gate.hold_end || gate.first != FirstAfterHold::Over
    }

    /// The API refused a request, or said when to come back. Returns whether it is only asked too often.
    fn refused(&self, holds_before: u64, error: &RequestError) -> bool {
        let is_by_rate = error.symptom.is_too_often();
        if !is_by_rate && error.retry_after.is_none() {
            return false;
        }
        let now = self.now();
        let mut gate = self.gate();
        let asked = error.retry_after.unwrap_or_default().min(self.policy.longest_retry_after);
        let hold = asked.max(self.policy.retry.delay(gate.refusals));
        let is_paced =
            is_by_rate && hold <= LONGEST_PACED_HOLD && gate.last_success.is_some() && gate.refusals < MAX_REFUSALS;
        // Those under way when a hold began say no more than it does.
        let is_news = holds_before == gate.holds && now >= gate.hold_end;
        let is_longer = now + hold > gate.hold_end + hold / 10 + RETURN.0;
        let rate = gate.hold(now, hold, (is_by_rate && is_news).then_some(Refusal::Here));
        if is_news {
            gate.refusals += 1;
        }
        let is_logged = (is_news || is_longer) && gate.is_logged(now, hold);
        drop(gate);
        self.changed.send_replace(());
        if is_news || is_longer {
            let reason = error.symptom.to_string();
            self.log_own(is_logged, hold, &reason);
            self.holds.send_replace(Some(ApiHold { until: Instant::now() + hold, reason, rate }));
        }
        is_paced
    }

    fn log_own(&self, is_logged: bool, hold: Duration, reason: &str) {
        let (endpoint, seconds) = (&self.endpoint, hold.as_secs_f64());
        if is_logged {
            info!("ML API at {endpoint} asks for a pause of {seconds:.1} s ({reason}): the fleet holds");
        } else {
            debug!("ML API at {endpoint} asks for a pause of {seconds:.1} s ({reason}): the fleet holds");
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing under the lock can leave the gate half-changed.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// Whether a hold began since, so that the request must not go out.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.pace.gate().holds != self.holds
    }

    /// The request goes out now.
    pub(crate) fn mark_sent(&mut self) {
        self.is_sent = true;
    }

    /// The request is not sent.
    pub(crate) fn withdraw(self) {
        debug_assert!(!self.is_sent);
    }

    /// The request had this response. Returns whether the API is only asked too often, and works otherwise.
    pub(crate) fn end(mut self, response: Result<(), &RequestError>) -> bool {
        self.mark_sent();
        let pace = self.pace;
        let mut gate = pace.gate();
        gate.heeds_circuits = true;
        match response {
            Err(error) if error.symptom.is_too_often() || error.retry_after.is_some() => {
                drop(gate);
                return pace.refused(self.holds, error);
            }
            Err(RequestError { symptom: Symptom::Status { .. }, .. }) => gate.learned.accepted(pace.now(), self.rows),
            Err(_) => {}
            Ok(()) => {
                let now = pace.now();
                gate.learned.accepted(now, self.rows);
                (gate.last_success, gate.refusals) = (Some(now), 0);
            }
        }
        false
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_sent && !self.is_first {
            return;
        }
        let mut gate = self.pace.gate();
        // A hold begins with other tokens, and another first request.
        if gate.holds != self.holds {
            return;
        }
        if !self.is_sent {
            gate.bucket.give_back(self.rows);
        }
        // Others may have gone meanwhile, if it took long.
        if self.is_first && matches!(gate.first, FirstAfterHold::Sent(_)) {
            gate.first = if self.is_sent { FirstAfterHold::Over } else { FirstAfterHold::Due };
        }
        drop(gate);
        self.pace.changed.send_replace(());
    }
}

impl<'a> Waiting<'a> {
    fn begin(pace: &'a Pace, lane: Lane) -> Self {
        pace.gate().waiting[index(lane)] += 1;
        Self(pace, lane)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.gate().waiting[index(self.1)] -= 1;
        self.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests;
