//! The control law of adaptive concurrency. It knows no clock, no lock and no socket: it hears of attempts that begin and end, and
//! says how many may be in flight.
//!
//! - **Rounds.** It decides once a round: as many attempts as the limit, all begun under that limit.
//! - **Slow start.** From 1, the limit doubles each round, until requests wait or the limit before the last outage is reached.
//! - **Growth.** After that it grows by 1 a round, if the limit was reached and requests do not wait in the ML API.
//! - **Trials.** A longer latency has two causes: more requests than the API serves at a time, or a slower model, where fewer
//!   requests would help nobody. If requests seem to wait, the limit is halved for a round, and both rounds are compared. If the
//!   latency falls with the limit, requests did wait, and the new limit is what the API serves at a time and a little more. If not, the
//!   limit is what it was, and the new latency is what later ones are compared with.
//! - **Outages.** The limit begins at 1 again, and what it was, less a tenth, is approached slowly.
//!
//! The reasons and figures are in `docs/decisions/0039-as-many-requests-as-the-api-serves.md`.

use std::fmt;

use super::latency::{Baseline, Samples, as_f64};

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
/// Fewest rounds between trials: after one that lowered the limit, and at most, after ever more that did not.
const TRIAL_PAUSE: (u32, u32) = (8, 64);
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
    /// The breaker opened.
    Outage,
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
        }
    }
}

/// What the limit does next.
#[derive(Debug)]
enum Phase {
    SlowStart,
    Settled,
    /// With half of the limit. `before` is the round that made requests seem to wait.
    Trial {
        limit: f64,
        before: Box<Samples>,
        was_slow_start: bool,
    },
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

    /// Ends an attempt; returns why the limit fell if it did.
    pub(crate) fn end(&mut self, attempt: Attempt, outcome: AttemptOutcome) -> Option<FallReason> {
        self.in_flight = self.in_flight.saturating_sub(1);
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

    /// Begins at 1 again, after the breaker opened.
    pub(crate) fn restart(&mut self) -> Option<FallReason> {
        let before = self.reached();
        // What came before the last doubling was not refused.
        let kept = if matches!(self.phase, Phase::SlowStart) { 0.5 } else { BACK_OFF };
        self.phase = Phase::SlowStart;
        self.set_limit(1.0);
        // One at a time is no load that an outage could tell something about.
        if before < 2.0 {
            return None;
        }
        self.threshold = before * kept;
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
        if let Phase::Trial { limit, .. } = self.phase { limit } else { self.limit }
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
        self.begin_round();
        self.rounds = 0;
    }

    fn begin_round(&mut self) {
        self.round = Samples::default();
        self.is_full = false;
    }

    fn end_round(&mut self) -> Option<FallReason> {
        if matches!(self.phase, Phase::Trial { .. }) {
            let is_over = self.round.len() >= self.limit().max(TRIAL_ATTEMPTS);
            return if is_over { self.end_trial() } else { None };
        }
        if self.round.len() < self.limit() {
            return None;
        }
        let is_slow_start = matches!(self.phase, Phase::SlowStart);
        self.baseline.follow(&self.round, !is_slow_start);
        // Fewer requests than allowed say nothing of the limit.
        if self.is_full {
            self.since_trial = self.since_trial.saturating_add(1);
            self.rounds = self.rounds.saturating_add(1);
            let waits = self.round.wait() / self.tolerated(&self.round);
            let seems_too_high = waits > HYSTERESIS || waits > 1.0 && is_slow_start;
            if seems_too_high && self.since_trial >= self.trial_pause
                || waits > 1.0 && self.since_trial >= TRIAL_PAUSE.1
            {
                self.begin_trial(is_slow_start);
            } else if waits <= 1.0 {
                self.grow(is_slow_start);
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

    fn begin_trial(&mut self, was_slow_start: bool) {
        if self.limit < 2.0 {
            return;
        }
        let (limit, before) = (self.limit, Box::new(std::mem::take(&mut self.round)));
        self.phase = Phase::Trial { limit, before, was_slow_start };
        self.set_limit((limit / 2.0).floor());
    }

    fn end_trial(&mut self) -> Option<FallReason> {
        let Phase::Trial { limit, before, was_slow_start } = std::mem::replace(&mut self.phase, Phase::Settled) else {
            return None;
        };
        let trial = std::mem::take(&mut self.round);
        self.limit = limit;
        let bound = if was_slow_start { 1.0 } else { HYSTERESIS };
        let wait = before.wait_beyond(&trial);
        self.since_trial = 0;
        if wait > bound * self.tolerated(&before) {
            self.trial_pause = TRIAL_PAUSE.0;
            self.baseline.relearn(&trial);
            let share = trial.ratio() / before.ratio();
            let served = limit * share;
            self.set_limit((served + (served * TOLERATED_SHARE).max(1.0)).clamp((limit / 2.0).floor(), limit));
            return (self.limit < limit).then_some(FallReason::Waiting { share });
        }
        // If they do not differ, both together scatter less.
        self.baseline.relearn(&if wait > 0.0 { trial } else { before.with(&trial) });
        self.trial_pause = (2 * self.trial_pause).min(TRIAL_PAUSE.1);
        if was_slow_start {
            self.phase = Phase::SlowStart;
        }
        self.set_limit(limit);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers a round of as many attempts as allowed, each after so many seconds.
    fn round(controller: &mut Controller, seconds: f64) -> Option<FallReason> {
        let attempts: Vec<_> = (0..controller.limit()).map(|_| controller.begin()).collect();
        let outcome = AttemptOutcome::Scored { rows: 100, seconds };
        attempts.into_iter().filter_map(|attempt| controller.end(attempt, outcome)).last()
    }

    /// The limits of so many rounds with the same latency.
    fn limits(controller: &mut Controller, rounds: usize) -> Vec<usize> {
        let limit = |_| {
            round(controller, 0.020);
            controller.limit()
        };
        (0..rounds).map(limit).collect()
    }

    #[test]
    fn slow_start_doubles_up_to_the_ceiling() {
        for (max, expected) in [(1, &[1, 1, 1][..]), (5, &[2, 4, 5, 5]), (32, &[2, 4, 8, 16, 32, 32])] {
            let mut controller = Controller::new(max);
            assert_eq!(controller.limit(), 1);
            assert_eq!(limits(&mut controller, expected.len()), expected, "of {max}");
        }
    }

    #[test]
    fn a_limit_that_is_not_reached_does_not_grow() {
        let mut controller = Controller::new(32);
        assert_eq!(limits(&mut controller, 2), [2, 4]);
        for _ in 0..100 {
            let attempt = controller.begin();
            controller.end(attempt, AttemptOutcome::Scored { rows: 1, seconds: 0.020 });
        }
        assert_eq!(controller.limit(), 4);
    }

    #[test]
    fn a_trial_tells_a_wait_from_a_slower_model() {
        /// The latency at this limit, and at half of it; the limit that follows.
        const CASES: [(f64, f64, usize); 4] =
            [(0.080, 0.040, 9), (0.080, 0.080, 16), (0.080, 0.070, 16), (2.0, 1.0, 9)];
        for (all, half, expected) in CASES {
            let mut controller = Controller::new(16);
            assert_eq!(limits(&mut controller, 4), [2, 4, 8, 16]);
            round(&mut controller, 0.020);
            assert_eq!((round(&mut controller, all), controller.limit()), (None, 8), "a trial begins");
            let fell = round(&mut controller, half);
            assert_eq!(controller.limit(), expected, "{all} s, and with half as many {half} s");
            let share = (expected < 16).then_some(FallReason::Waiting { share: half / all });
            assert_eq!(fell.map(|reason| reason.to_string()), share.map(|reason| reason.to_string()));
        }
    }

    #[test]
    fn a_short_wait_is_tolerated() {
        let mut controller = Controller::new(16);
        for _ in 0..5 {
            assert_eq!(round(&mut controller, 0.001), None);
        }
        for _ in 0..200 {
            assert_eq!((round(&mut controller, 0.010), controller.limit()), (None, 16));
        }
    }

    #[test]
    fn a_time_out_takes_a_tenth_once_a_round() {
        let mut controller = Controller::new(32);
        limits(&mut controller, 5);
        let attempts: Vec<_> = (0..32).map(|_| controller.begin()).collect();
        let fell: Vec<_> =
            attempts.into_iter().filter_map(|attempt| controller.end(attempt, AttemptOutcome::TimedOut)).collect();
        assert_eq!((fell, controller.limit()), (vec![FallReason::TimedOut], 28));
        for _ in 0..200 {
            let attempt = controller.begin();
            controller.end(attempt, AttemptOutcome::TimedOut);
        }
        assert_eq!(controller.limit(), LEAST_AFTER_TIMEOUT, "others are not held up by a row that times out");
    }

    #[test]
    fn after_an_outage_it_starts_over_and_approaches_the_last_limit_slowly() {
        let mut controller = Controller::new(32);
        limits(&mut controller, 5);
        round(&mut controller, 0.020);
        let in_flight = controller.begin();
        assert_eq!((controller.restart(), controller.limit()), (Some(FallReason::Outage), 1));
        assert_eq!(
            controller.end(in_flight, AttemptOutcome::Scored { rows: 1, seconds: 9.0 }),
            None,
            "it began before"
        );
        assert_eq!(limits(&mut controller, 5), [2, 4, 8, 16, 28]);
        assert_eq!(limits(&mut controller, 8), [29, 30, 31, 31, 31, 31, 32, 32]);
    }

    #[test]
    fn a_limit_that_is_refused_again_and_again_is_approached_ever_more_slowly() {
        let mut controller = Controller::new(32);
        for patience in [4, 16, 64, 256, 256] {
            let mut rounds = 0;
            while controller.limit() < 16 {
                round(&mut controller, 0.020);
                rounds += 1;
            }
            controller.restart();
            assert_eq!(controller.patience, patience, "after {rounds} rounds");
        }
        limits(&mut controller, 1_000);
        assert_eq!((controller.limit(), controller.patience), (32, 1), "but not for good");
    }

    #[test]
    fn during_slow_start_an_outage_leaves_half() {
        let mut controller = Controller::new(32);
        assert_eq!(limits(&mut controller, 4), [2, 4, 8, 16]);
        controller.restart();
        assert_eq!(limits(&mut controller, 5), [2, 4, 8, 9, 10]);
        controller.restart();
        assert_eq!((controller.restart(), controller.limit()), (None, 1), "nothing is left to take away");
        assert_eq!(limits(&mut controller, 4), [2, 4, 8, 9]);
    }

    #[test]
    fn a_reason_says_what_was_seen() {
        let cases = [
            (FallReason::Waiting { share: 0.5 }, "each took 50 % of the time"),
            (FallReason::TimedOut, "API_TIMEOUT"),
            (FallReason::Outage, "one at a time"),
        ];
        for (reason, expected) in cases {
            assert!(reason.to_string().contains(expected), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn the_limit_is_within_its_bounds_whatever_happens(
            max in 1_usize..40,
            steps in proptest::collection::vec((0_u8..20, 1_usize..500, 0.0_f64..3.0), 0..800),
        ) {
            let mut controller = Controller::new(max);
            let mut in_flight = Vec::new();
            for (step, rows, seconds) in steps {
                let fell = match (step, in_flight.pop()) {
                    (0, attempt) => {
                        in_flight.extend(attempt);
                        controller.restart()
                    }
                    (1, Some(attempt)) => controller.end(attempt, AttemptOutcome::TimedOut),
                    (2, Some(attempt)) => controller.end(attempt, AttemptOutcome::Other),
                    (3..12, Some(attempt)) => controller.end(attempt, AttemptOutcome::Scored { rows, seconds }),
                    (_, attempt) => {
                        in_flight.extend(attempt);
                        in_flight.push(controller.begin());
                        None
                    }
                };
                prop_assert!((1..=max).contains(&controller.limit()));
                prop_assert_eq!(controller.in_flight, in_flight.len());
                if let Some(FallReason::TimedOut) = fell {
                    prop_assert!(controller.limit() < max);
                }
            }
        }
    }
}
