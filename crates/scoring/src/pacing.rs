//! How many transactions a second to send: a token bucket, and the rate that an API was seen to allow. Pure: callers pass the
//! time, which only counts forward.
//!
//! [`LearnedRate`] knows nothing until the API refuses for the first time. From then on
//!
//! - **a refusal measures**: what was accepted since the refusal before, over the time in between, is the rate that the API
//!   allows, as its allowance was used up both times. It is the rate from here on. The first one measures from the first accepted
//!   request on, or from the last time that nothing was accepted for a while, as an idle process shows nothing;
//! - **the rate grows** while requests wait for it, by 1 % a second and faster the longer nothing is refused, more slowly if a refusal
//!   costs a long pause;
//! - a refusal that measured nothing, as there was too little to send, lowers the rate a little.
//!
//! All processes hear of a refusal and measure at the same time, so their rates add up to what the API allows, with no number that
//! they have to agree on. A refused process tells its rate, and the others move a step towards it, which evens the shares out. Decision 0040 has the
//! reasons and a simulation; `tests` repeats it.

use std::time::Duration;

/// How much faster a rate is each second at first, as a share of it.
const GROWTH: f64 = 0.01;
/// By how much that rises with each second of growth.
const GROWTH_RISE: f64 = 0.001;
/// The most that one step of growth covers, in seconds: what waits longer waits for something else.
const LONGEST_STEP: f64 = 0.5;
/// What a rate keeps of itself at a refusal, at least: the measure of a short time may be far off.
const LEAST_KEPT: f64 = 0.3;
/// What a rate keeps of itself at a refusal that measured nothing.
const KEPT_UNMEASURED: f64 = 0.85;
/// How far a rate moves towards the one of the process that was refused.
const EVENING: f64 = 0.2;
/// How many times as much or as little as its own rate a process believes.
const CREDIBLE: f64 = 10.0;
/// Without requests that wait for the rate, for so long, what was accepted is no measure of what is allowed. Before there is a
/// rate: without accepted requests.
const LONGEST_GAP: Duration = Duration::from_secs(2);
/// Before the first refusal, what was accepted in one or two of these is the measure.
const WINDOW: Duration = Duration::from_secs(5);
/// The measure lasts so long at least, as a burst of accepted requests is no rate.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// The lowest rate. Growth brings any rate back.
const LOWEST: f64 = 1.0;
/// The highest rate of another process that is believed: more than an API serves.
const HIGHEST_TOLD: f64 = 1e7;
/// The longest share of a second that unused tokens are kept for: it covers what a busy process is late.
const BURST_SECONDS: f64 = 0.25;
/// The longest wait until tokens are looked at again, as the rate may change meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The rate that an API allows this process, as far as it is known.
#[derive(Debug)]
pub(crate) struct LearnedRate {
    rate: Option<f64>,
    /// When the measure began, and what was accepted since.
    began: Duration,
    accepted: f64,
    /// The window before, and the last accepted request, until the rate is known.
    before: Option<(Duration, f64)>,
    last_accepted: Duration,
    /// When requests last waited for the rate.
    limited: Duration,
    /// Whether they did all the time.
    is_measured: bool,
    /// Seconds of growth since the refusal.
    growing: f64,
    /// How much more slowly than usual the rate grows.
    caution: f64,
}

impl LearnedRate {
    pub(crate) fn unknown() -> Self {
        let zero = Duration::ZERO;
        Self {
            rate: None,
            began: zero,
            accepted: 0.0,
            before: None,
            last_accepted: zero,
            limited: zero,
            is_measured: false,
            growing: 0.0,
            caution: 1.0,
        }
    }

    /// Transactions a second; `None` if nothing was refused yet.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// So many transactions were let through.
    pub(crate) fn accepted(&mut self, now: Duration, rows: f64) {
        if self.rate.is_none() {
            let is_first = self.accepted == 0.0 || self.was_idle(now);
            if is_first || now.saturating_sub(self.began) > WINDOW {
                self.before = (!is_first).then_some((self.began, self.accepted));
                (self.began, self.accepted) = (now, 0.0);
            }
            self.last_accepted = self.last_accepted.max(now);
        }
        self.accepted += rows;
    }

    /// A request waits for the rate, which therefore grows.
    pub(crate) fn limited(&mut self, now: Duration) {
        let Some(rate) = &mut self.rate else { return };
        let waited = now.saturating_sub(self.limited);
        if waited > LONGEST_GAP {
            self.is_measured = false;
        }
        let step = waited.as_secs_f64().min(LONGEST_STEP);
        *rate *= 1.0 + step * (GROWTH + GROWTH_RISE * self.growing) / self.caution;
        self.growing += step;
        self.limited = self.limited.max(now);
    }

    /// The API has refused a request of this process, or of another that then had the rate `told`. Nothing is sent for the time
    /// of `hold`. Returns the new rate if it was measured.
    pub(crate) fn refused(&mut self, now: Duration, hold: Duration, told: Option<f64>) -> Option<f64> {
        let is_measured = self.accepted > 0.0
            && match self.rate {
                None => !self.was_idle(now),
                Some(_) => self.is_measured && !self.has_gap(now),
            };
        let (measured, told) = (self.measure(now), told.filter(|told| (LOWEST..=HIGHEST_TOLD).contains(told)));
        let rate = match (self.rate, told) {
            (None, _) if is_measured => Some(measured),
            (None, told) => told,
            (Some(rate), _) if is_measured => Some(measured.clamp(LEAST_KEPT * rate, rate)),
            // It was another that sent too much.
            (Some(rate), Some(_)) => Some(rate),
            // Its first request after the last hold was refused, which says nothing of the rate.
            (Some(rate), None) if self.accepted == 0.0 => Some(rate),
            (Some(rate), None) => Some(KEPT_UNMEASURED * rate),
        };
        self.rate = rate.map(|rate| {
            let other = told.map_or(rate, |told| told.clamp(rate / CREDIBLE, rate * CREDIBLE));
            (rate + EVENING * (other - rate)).max(LOWEST)
        });
        *self = Self {
            rate: self.rate,
            began: now,
            limited: now + hold,
            is_measured: true,
            caution: hold.as_secs_f64().clamp(1.0, 10.0),
            ..Self::unknown()
        };
        self.rate.filter(|_| is_measured)
    }

    fn has_gap(&self, now: Duration) -> bool {
        now.saturating_sub(self.limited) > LONGEST_GAP
    }

    /// Whether nothing was accepted for a while, before there is a rate.
    fn was_idle(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_accepted) > LONGEST_GAP
    }

    /// What was accepted a second.
    fn measure(&self, now: Duration) -> f64 {
        let (began, before) = self.before.unwrap_or((self.began, 0.0));
        let shortest = if self.rate.is_none() { SHORTEST_WINDOW } else { Duration::from_millis(1) };
        (self.accepted + before) / now.saturating_sub(began).max(shortest).as_secs_f64()
    }
}

/// Tokens for transactions, which come at a rate that the caller knows. A request larger than the bucket takes more than there are, and later
/// ones wait longer.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    tokens: f64,
    filled: Duration,
}

impl TokenBucket {
    /// Takes the tokens of so many transactions; the error is how long to wait until there may be enough.
    pub(crate) fn take(&mut self, now: Duration, rate: f64, rows: f64) -> Result<(), Duration> {
        let (needed, burst) = (rows.min(burst(rate)), burst(rate));
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + rate * passed).min(burst);
        self.filled = self.filled.max(now);
        if rate > 0.0 && self.tokens >= needed && self.filled <= now {
            self.tokens -= rows;
            return Ok(());
        }
        let missing = Duration::try_from_secs_f64((needed - self.tokens).max(0.0) / rate).unwrap_or(LONGEST_WAIT);
        let wait = self.filled.saturating_sub(now).saturating_add(missing);
        // Timers are no more exact than this.
        Err(wait.clamp(Duration::from_millis(1), LONGEST_WAIT))
    }

    /// Gives back what was taken for nothing.
    pub(crate) fn give_back(&mut self, rows: f64) {
        self.tokens += rows;
    }

    /// Begins again after a hold: a part `late` of the time that a request of so many transactions takes at this rate has yet to
    /// pass, so that processes with the same rate do not send at the same time.
    pub(crate) fn restart(&mut self, at: Duration, rate: f64, rows: f64, late: f64) {
        *self = Self { tokens: rows.min(burst(rate)) - late * rows, filled: at };
    }
}

fn burst(rate: f64) -> f64 {
    // A request of one transaction is let through at any rate.
    (BURST_SECONDS * rate).max(1.0)
}

#[cfg(test)]
mod tests;
