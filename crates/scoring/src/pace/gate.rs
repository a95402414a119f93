//! What the gate knows, and whom it lets go. Clock-free: callers pass the time since the start.

use std::time::Duration;

use assay_connect::retry::random_part;
use assay_transaction::Lane;

use super::LONGEST_PACED_HOLD;
use crate::metrics;
use crate::pacing::{LearnedRate, TokenBucket};

/// How long the first request after a hold goes alone, at most.
pub(super) const FIRST_ALONE: Duration = Duration::from_secs(1);
/// Over which time processes come back after a hold: a tenth of it, within these.
pub(super) const RETURN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// If both lanes wait, the batch lane gets a turn after so many of the realtime lane.
const LIVE_TURNS: u32 = 9;
/// Short holds are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) learned: LearnedRate,
    /// The share of `API_RATE_LIMIT`, in transactions a second.
    pub(super) share: Option<f64>,
    pub(super) bucket: TokenBucket,
    pub(super) hold_end: Duration,
    /// Counts the holds.
    pub(super) holds: u64,
    pub(super) first: FirstAfterHold,
    /// Refusals since the last success.
    pub(super) refusals: u32,
    pub(super) last_success: Option<Duration>,
    /// Whether a request had a response since a neighbour's circuit was heeded last.
    pub(super) heeds_circuits: bool,
    pub(super) last_sent: Option<Duration>,
    last_rows: f64,
    /// By lane.
    pub(super) waiting: [usize; 2],
    live_turns: u32,
    last_logged: Option<Duration>,
}

/// The first request after a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstAfterHold {
    /// It may go.
    Due,
    /// It went at this time, alone.
    Sent(Duration),
    /// It had a response.
    Over,
}

/// A refusal by rate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// Of a request of this process.
    Here,
    /// Of one of a process that has this rate since.
    Elsewhere(f64),
}

/// What a request waits for.
pub(super) enum Wait {
    Until(Duration),
    Change,
}

impl Gate {
    pub(super) fn new(share: Option<f64>) -> Self {
        Self {
            learned: LearnedRate::unknown(),
            share,
            bucket: TokenBucket::default(),
            hold_end: Duration::ZERO,
            holds: 0,
            first: FirstAfterHold::Over,
            refusals: 0,
            last_success: None,
            heeds_circuits: true,
            last_sent: None,
            last_rows: 1.0,
            waiting: [0; 2],
            live_turns: 0,
            last_logged: None,
        }
    }

    /// Lets a request go, or says what it waits for. Returns whether it is the first after a hold.
    pub(super) fn admit(&mut self, now: Duration, rows: f64, lane: Lane) -> Result<bool, Wait> {
        if now < self.hold_end {
            return Err(Wait::Until(self.hold_end));
        }
        if !self.is_turn_of(lane) {
            return Err(Wait::Change);
        }
        if let FirstAfterHold::Sent(sent) = self.first
            && now < sent + FIRST_ALONE
        {
            return Err(Wait::Until(sent + FIRST_ALONE));
        }
        self.take_tokens(now, rows)?;
        (self.last_rows, self.last_sent) = (rows, Some(now));
        self.live_turns = match lane {
            Lane::Realtime if self.waiting[index(Lane::Batch)] > 0 => self.live_turns + 1,
            Lane::Realtime => self.live_turns,
            Lane::Batch => 0,
        };
        let is_first = self.first == FirstAfterHold::Due;
        self.first = if is_first { FirstAfterHold::Sent(now) } else { FirstAfterHold::Over };
        Ok(is_first)
    }

    fn is_turn_of(&self, lane: Lane) -> bool {
        let is_batchs = self.live_turns >= LIVE_TURNS;
        match lane {
            Lane::Realtime => !is_batchs || self.waiting[index(Lane::Batch)] == 0,
            Lane::Batch => is_batchs || self.waiting[index(Lane::Realtime)] == 0,
        }
    }

    fn take_tokens(&mut self, now: Duration, rows: f64) -> Result<(), Wait> {
        let Some(rate) = self.rate() else { return Ok(()) };
        self.bucket.take(now, rate, rows).map_err(|wait| {
            // The share is not the API's own limit, and says nothing of it.
            if self.learned.rate() == Some(rate) {
                self.learned.limited(now);
            }
            Wait::Until(now + wait)
        })
    }

    /// Transactions a second.
    pub(super) fn rate(&self) -> Option<f64> {
        [self.share, self.learned.rate()].into_iter().flatten().reduce(f64::min)
    }

    /// Sends nothing for so long, perhaps as a request was refused by rate. Returns the rate that this measured.
    pub(super) fn hold(&mut self, now: Duration, hold: Duration, refusal: Option<Refusal>) -> Option<f64> {
        let end = now + hold;
        if now < self.hold_end {
            self.hold_end = self.hold_end.max(end);
            return None;
        }
        let measured = match refusal {
            Some(Refusal::Here) => self.learned.refused(now, hold, None),
            Some(Refusal::Elsewhere(rate)) => self.learned.refused(now, hold, Some(rate)),
            None => None,
        };
        self.holds += 1;
        self.first = FirstAfterHold::Due;
        self.hold_end = end + random_part((hold / 10).clamp(RETURN.0, RETURN.1));
        if let Some(rate) = self.rate() {
            let late = random_part(Duration::from_secs(1)).as_secs_f64();
            self.bucket.restart(self.hold_end, rate, self.last_rows, late);
        }
        if let Some(rate) = self.learned.rate() {
            metrics::set_rate("learned", rate);
        }
        metrics::set_hold(hold);
        measured
    }

    /// Whether a hold is worth a line in the log: a long one, or the first for a while.
    pub(super) fn is_logged(&mut self, now: Duration, hold: Duration) -> bool {
        let is_logged = hold > LONGEST_PACED_HOLD || self.last_logged.is_none_or(|logged| now >= logged + LOG_INTERVAL);
        if is_logged {
            self.last_logged = Some(now);
        }
        is_logged
    }
}

pub(super) const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Batch => 0,
        Lane::Realtime => 1,
    }
}
