//! The control law of adaptive concurrency. It knows no clock, no lock and no socket: it hears of attempts that begin and end, and
//! says how many may be in flight.
//!
//! - **Rounds.** It decides once a round: as many attempts as the limit, all begun under that limit.
//! - **Slow start.** From 1, the limit doubles each round, until requests wait or the limit before the breaker last opened is reached.
//! - **Growth.** After that it grows by 1 a round, if the limit was reached and requests do not wait in the ML API.
//! - **Trials.** A longer latency has two causes: more requests than the API serves at a time, or a slower model, where fewer
//!   requests would help nobody. If requests seem to wait, the limit is halved for a round, and both rounds are compared. If the
//!   latency falls with the limit, requests did wait, and the new limit is what the API serves at a time and a little more. If not, the
//!   limit is what it was.
//! - **Common trials.** At fixed times all processes of a fleet begin a trial at once, as none of them alone can make a wait
//!   disappear that all of them cause. Only then is learnt what a request takes without a wait, which may be more than it was.
//! - **Outages.** The limit begins at 1 again, and what it was, less a tenth, is approached slowly. If the API rejects
//!   all requests, or the model fails on all, it begins at 1 too, but this says nothing of the load: it doubles up to what it was.
//!
//! The reasons and figures are in `docs/decisions/0039-as-many-requests-as-the-api-serves.md`.

use std::fmt;
use std::time::Duration;

use super::latency::{Baseline, Samples, as_f64};
use crate::breaker::OpenReason;

/// A wait in the ML API that is too short to matter, in seconds: a limit that is a little too high costs nobody anything, and
/// latencies on a fast network scatter by as much.
const TOLERATED_WAIT: f64 = 0.010;
/// A longer wait is tolerated if it is less than this share of the latency.
const TOLERATED_SHARE: f64 = 0.125;
/// A settled limit falls only if the wait is so many times what is tolerated, so that it rests between growth and fall.
const HYSTERESIS: f64 = 2.0;
/// What a time-out or an outage leaves of the limit.
const BACK_OFF: f64 = 0.9;
/// Time-outs of the rows' own making, with a healthy API, leave at least these: with one, a single row could hold up all others.
pub(super) const LEAST_AFTER_TIMEOUT: usize = 2;
/// Fewest attempts of a trial.
const TRIAL_ATTEMPTS: usize = 4;
/// Fewest rounds before another trial: after one that lowered the limit, and at most, after ever more that did not.
const TRIAL_PAUSE: (u32, u32) = (8, 64);
/// Length of a slot of time, in seconds. Common trials begin with the first attempt that ends in a slot.
pub(super) const SLOT_SECONDS: u64 = 20;
/// Fewest rounds between common trials.
const ROUNDS_BETWEEN_COMMON_TRIALS: f64 = 64.0;
/// Rounds after a trial without growth, as the API's queue is shorter than it will be.
const SETTLING_ROUNDS: u32 = 1;
/// Most rounds for each step of growth, after the API refused work at the next one again and again.
const LONGEST_PATIENCE: u32 = 256;

/// An attempt in flight, as the controller knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    epoch: u64,
    is_full: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum AttemptOutcome {
    /// Rows were scored. Failures are often quicker or slower, and so tell nothing of the load.
    Scored { rows: usize, seconds: f64 },
    /// No response in time.
    TimedOut,
    /// Anything else. What means that the API is not available, opens the breaker: see [`Controller::restart`].
    Other,
}

/// Why the limit fell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FallReason {
    /// Requests waited in the API: with half as many, each took this share of the time.
    Waiting { share: f64 },
    /// No response in time.
    TimedOut,
    /// The API was not available.
    Outage,
    /// It rejected or failed on all requests, whatever their number.
    NothingScored,
}

impl fmt::Display for FallReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { share } => {
                write!(
                    formatter,
                    "requests wait there: with half as many, each took {:.0} % of the time",
                    100.0 * share
                )
            }
            Self::TimedOut => formatter.write_str("no response within API_TIMEOUT"),
            Self::Outage => formatter.write_str("after an outage they begin one at a time"),
            Self::NothingScored => formatter.write_str("after nothing was scored they begin one at a time"),
        }
    }
}

/// What the limit does next.
#[derive(Debug)]
enum Phase {
    SlowStart,
    Settled,
    /// With half of the limit.
    Trial(Box<Trial>),
}

/// A trial in progress.
#[derive(Debug)]
struct Trial {
    /// The limit before it.
    limit: f64,
    /// A round at that limit; empty if there was none.
    before: Samples,
    was_slow_start: bool,
    /// Whether the whole fleet makes it.
    is_common: bool,
    /// Whether what was sent before it has left the API. A common trial begins with a round that does not count, as the others' requests
    /// take longer to leave.
    is_drained: bool,
}

/// How many attempts may be in flight.
#[derive(Debug)]
pub(crate) struct Controller {
    max: f64,
    limit: f64,
    phase: Phase,
    /// Slow start ends here.
    threshold: f64,
    /// The limit at the last time-out or outage. Each step of growth to it and beyond takes `patience` rounds.
    wall: f64,
    patience: u32,
    baseline: Baseline,
    in_flight: usize,
    /// Changes with the limit, so that what began under another limit does not count.
    epoch: u64,
    round: Samples,
    /// The last round that reached the limit, at this limit or one less.
    last_full: Samples,
    /// The latency of the last round, in seconds.
    latency: f64,
    slot: u64,
    /// Whether an attempt of the round reached the limit.
    is_full: bool,
    /// Rounds since the last trial, and how many there are between two.
    since_trial: u32,
    trial_pause: u32,
    /// Rounds at this limit.
    rounds: u32,
}

impl Controller {
    /// Between 1 and `max` attempts at a time; begins with 1.
    pub(crate) fn new(max: usize) -> Self {
        let max = as_f64(max.max(1));
        Self {
            max,
            limit: 1.0,
            phase: Phase::SlowStart,
            threshold: max,
            wall: f64::INFINITY,
            patience: 1,
            baseline: Baseline::default(),
            in_flight: 0,
            epoch: 0,
            round: Samples::default(),
            last_full: Samples::default(),
            latency: 0.0,
            slot: 0,
            is_full: false,
            since_trial: TRIAL_PAUSE.0,
            trial_pause: TRIAL_PAUSE.0,
            rounds: 0,
        }
    }

    /// Most attempts at a time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    pub(crate) fn begin(&mut self) -> Attempt {
        self.in_flight += 1;
        Attempt { epoch: self.epoch, is_full: self.in_flight >= self.limit() }
    }

    /// Ends an attempt, in this slot of time; returns why the limit fell if it did.
    pub(crate) fn end(&mut self, attempt: Attempt, outcome: AttemptOutcome, slot: u64) -> Option<FallReason> {
        self.in_flight = self.in_flight.saturating_sub(1);
        if slot != std::mem::replace(&mut self.slot, slot) && slot.is_multiple_of(self.slots_between_trials()) {
            self.begin_common_trial();
        }
        if attempt.epoch != self.epoch {
            return None;
        }
        match outcome {
            AttemptOutcome::Other => None,
            AttemptOutcome::TimedOut => self.back_off(),
            AttemptOutcome::Scored { rows, seconds } => {
                self.is_full |= attempt.is_full;
                self.round.add(self.baseline.sample(rows, seconds));
                self.end_round()
            }
        }
    }

    /// Begins at 1 again, after the breaker opened for this reason.
    pub(crate) fn restart(&mut self, reason: OpenReason) -> Option<FallReason> {
        let before = self.reached();
        let phase = std::mem::replace(&mut self.phase, Phase::SlowStart);
        self.set_limit(1.0);
        // One at a time is no load that an outage could tell something about.
        if before < 2.0 {
            return None;
        }
        if reason != OpenReason::Outage {
            self.threshold = match phase {
                Phase::SlowStart => self.threshold,
                Phase::Trial(trial) if trial.was_slow_start => self.threshold,
                Phase::Settled | Phase::Trial(_) => before,
            };
            return Some(FallReason::NothingScored);
        }
        // What came before the last doubling was not refused.
        self.threshold = before * if matches!(phase, Phase::SlowStart) { 0.5 } else { BACK_OFF };
        self.meet_wall(before);
        Some(FallReason::Outage)
    }

    /// After a time-out. Further ones of attempts that began before this do not count.
    fn back_off(&mut self) -> Option<FallReason> {
        let (before, least) = (self.reached(), as_f64(LEAST_AFTER_TIMEOUT));
        if before <= least {
            return None;
        }
        self.meet_wall(before);
        self.phase = Phase::Settled;
        self.set_limit((before * BACK_OFF).max(least));
        Some(FallReason::TimedOut)
    }

    /// The limit, trials aside.
    fn reached(&self) -> f64 {
        if let Phase::Trial(trial) = &self.phase { trial.limit } else { self.limit }
    }

    /// After the API did not serve `limit` at a time. If that was so before, the next attempt to get there takes longer.
    fn meet_wall(&mut self, limit: f64) {
        let is_known = limit + 1.0 >= self.wall;
        self.patience = if is_known { (4 * self.patience).min(LONGEST_PATIENCE) } else { 4 };
        self.wall = limit;
    }

    fn set_limit(&mut self, limit: f64) {
        self.limit = limit.clamp(1.0, self.max);
        self.epoch += 1;
        self.last_full = Samples::default();
        self.begin_round();
        self.rounds = 0;
    }

    fn begin_round(&mut self) {
        self.round = Samples::default();
        self.is_full = false;
    }

    fn end_round(&mut self) -> Option<FallReason> {
        let limit = self.limit();
        if let Phase::Trial(trial) = &mut self.phase {
            if self.round.len() < limit.max(TRIAL_ATTEMPTS) {
                return None;
            }
            if std::mem::replace(&mut trial.is_drained, true) {
                return self.end_trial();
            }
            self.set_limit(self.limit);
            return None;
        }
        if self.round.len() < limit {
            return None;
        }
        self.latency = self.round.seconds();
        let is_slow_start = matches!(self.phase, Phase::SlowStart);
        self.baseline.follow(&self.round, !is_slow_start);
        // Fewer requests than allowed say nothing of the limit.
        if self.is_full {
            self.since_trial = self.since_trial.saturating_add(1);
            self.rounds = self.rounds.saturating_add(1);
            let waits = self.round.wait() / self.tolerated(&self.round);
            let seems_too_high = waits > HYSTERESIS || waits > 1.0 && is_slow_start;
            let round = std::mem::take(&mut self.round);
            if seems_too_high && self.since_trial >= self.trial_pause {
                self.begin_trial(round, is_slow_start, false);
            } else {
                self.last_full = round;
                if waits <= 1.0 && self.since_trial > SETTLING_ROUNDS {
                    self.grow(is_slow_start);
                }
            }
        }
        self.begin_round();
        None
    }

    /// How long requests may wait without a reason to lower the limit, in seconds.
    fn tolerated(&self, round: &Samples) -> f64 {
        TOLERATED_WAIT.max(round.seconds() * TOLERATED_SHARE.max(1.0 / self.reached()))
    }

    fn grow(&mut self, is_slow_start: bool) {
        if is_slow_start && self.limit < self.threshold {
            return self.set_limit((2.0 * self.limit).min(self.threshold));
        }
        let next = self.limit + 1.0;
        if next >= self.wall && self.rounds < self.patience {
            return;
        }
        if self.limit >= self.wall {
            self.patience = (self.patience / 2).max(1);
        }
        self.phase = Phase::Settled;
        // What began with one less is no different.
        self.limit = next.min(self.max);
        self.rounds = 0;
    }

    /// Slots between common trials: more of them if latencies are long, so that trials cost little.
    fn slots_between_trials(&self) -> u64 {
        let seconds = Duration::try_from_secs_f64(ROUNDS_BETWEEN_COMMON_TRIALS * self.latency).unwrap_or_default();
        seconds.as_secs().div_ceil(SLOT_SECONDS).max(1).next_power_of_two()
    }

    /// Begins a trial with the rest of the fleet, even if there is no round to compare it with.
    fn begin_common_trial(&mut self) {
        if self.latency <= TOLERATED_WAIT {
            return;
        }
        let before = std::mem::take(&mut self.last_full);
        match &mut self.phase {
            Phase::Trial(trial) => {
                (trial.is_common, trial.is_drained) = (true, false);
                self.set_limit(self.limit);
            }
            phase => {
                let was_slow_start = matches!(phase, Phase::SlowStart);
                self.begin_trial(before, was_slow_start, true);
            }
        }
    }

    fn begin_trial(&mut self, before: Samples, was_slow_start: bool, is_common: bool) {
        let limit = self.limit;
        if limit >= 2.0 {
            self.phase =
                Phase::Trial(Box::new(Trial { limit, before, was_slow_start, is_common, is_drained: !is_common }));
            self.set_limit((limit / 2.0).floor());
        }
    }

    fn end_trial(&mut self) -> Option<FallReason> {
        let Phase::Trial(trial) = std::mem::replace(&mut self.phase, Phase::Settled) else { return None };
        let Trial { limit, before, was_slow_start, is_common, .. } = *trial;
        let trial = std::mem::take(&mut self.round);
        self.limit = limit;
        let bound = if was_slow_start || is_common { 1.0 } else { HYSTERESIS };
        let wait = before.wait_beyond(&trial);
        self.since_trial = 0;
        // Two rounds that do not differ scatter less as one.
        match (is_common, wait > 0.0) {
            (true, true) => self.baseline.relearn(&trial),
            (true, false) => self.baseline.relearn(&trial.clone().with(&before)),
            (false, true) => self.baseline.follow(&trial, true),
            // The model may be slower, but others may keep the API busy as well.
            (false, false) => self.baseline.approach(&trial.clone().with(&before)),
        }
        if wait > bound * self.tolerated(&before) {
            self.trial_pause = TRIAL_PAUSE.0;
            let share = trial.ratio() / before.ratio();
            let served = limit * share;
            self.set_limit((served + (served * TOLERATED_SHARE).max(1.0)).clamp((limit / 2.0).floor(), limit));
            return (self.limit < limit).then_some(FallReason::Waiting { share });
        }
        self.trial_pause = (2 * self.trial_pause).min(TRIAL_PAUSE.1);
        if was_slow_start {
            self.phase = Phase::SlowStart;
        }
        self.set_limit(limit);
        None
    }
}

#[cfg(test)]
mod tests;
