//! Rate and time left of a load, from what this process saw: rows before a resumed checkpoint say nothing about its speed.

use std::time::{Duration, Instant};

/// How long a rate remembers: about this much of the latest past.
const MEMORY: Duration = Duration::from_secs(30);
/// Observations nearer to each other are left out.
const MIN_STEP: Duration = Duration::from_millis(100);
/// A rate over less than this says nothing.
const SETTLED: f64 = 2.0;
/// Without any progress for this long, nothing is known about the rest.
const STALLED: Duration = Duration::from_secs(30);
/// A longer time left is no estimate.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;

/// A smoothed rate: a sum of progress over a sum of time, in which both fade.
#[derive(Debug, Clone, Default)]
pub struct RemainingTime {
    last: Option<(Instant, u64)>,
    moved_at: Option<Instant>,
    progress: f64,
    seconds: f64,
}

impl RemainingTime {
    /// Takes note of what is done, which counts from any number.
    pub fn observe(&mut self, at: Instant, done: u64) {
        let Some((then, before)) = self.last else {
            (self.last, self.moved_at) = (Some((at, done)), Some(at));
            return;
        };
        let step = at.saturating_duration_since(then);
        if step < MIN_STEP {
            return;
        }
        let more = done.saturating_sub(before);
        let fade = (-step.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.progress = self.progress * fade + as_float(more);
        self.seconds = self.seconds * fade + step.as_secs_f64();
        if more > 0 {
            self.moved_at = Some(at);
        }
        self.last = Some((at, done));
    }

    /// The rate; none before it has settled.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and far below the limit"
    )]
    pub fn per_second(&self) -> Option<u64> {
        (self.seconds >= SETTLED).then(|| (self.progress / self.seconds).round() as u64)
    }

    /// The time for the rest; none if it is not known.
    pub fn left(&self, at: Instant, rest: u64) -> Option<Duration> {
        let is_moving = self.moved_at.is_some_and(|moved| at.saturating_duration_since(moved) < STALLED);
        if !is_moving || self.seconds < SETTLED {
            return None;
        }
        let seconds = as_float(rest) * self.seconds / self.progress;
        (seconds < LONGEST).then(|| Duration::from_secs_f64(seconds))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After `seconds` of a rate that begins at `from`.
    fn after(seconds: u32, from: u64, rate: u64) -> (RemainingTime, Instant) {
        let (mut remaining, start) = (RemainingTime::default(), Instant::now());
        for second in 0..=seconds {
            remaining.observe(start + SECOND * second, from + rate * u64::from(second));
        }
        (remaining, start + SECOND * seconds)
    }

    fn whole_seconds(left: Option<Duration>) -> u128 {
        (left.unwrap().as_millis() + 500) / 1_000
    }

    #[test]
    fn the_time_left_follows_from_the_rate() {
        let (remaining, now) = after(60, 0, 1_000);
        assert_eq!(remaining.per_second(), Some(1_000));
        assert_eq!(whole_seconds(remaining.left(now, 90_000)), 90);
    }

    #[test]
    fn rows_before_a_restart_do_not_count() {
        let (remaining, now) = after(10, 1_000_000, 10);
        assert_eq!(remaining.per_second(), Some(10));
        assert_eq!(whole_seconds(remaining.left(now, 100)), 10);
    }

    #[test]
    fn a_new_rate_shows_within_a_minute() {
        let (mut remaining, now) = after(600, 0, 1_000);
        for second in 1..=60 {
            remaining.observe(now + SECOND * second, 600_000 + 10 * u64::from(second));
        }
        let rate = remaining.per_second().unwrap();
        assert!((10..200).contains(&rate), "{rate}");
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(RemainingTime::default().left(Instant::now(), 100), None, "nothing was seen");
        let (remaining, now) = after(1, 0, 1_000);
        assert_eq!((remaining.left(now, 100), remaining.per_second()), (None, None), "too little was seen");
        let (mut remaining, now) = after(10, 0, 1_000);
        assert!(remaining.left(now, 100).is_some());
        remaining.observe(now + STALLED, 10_000);
        assert_eq!(remaining.left(now + STALLED, 100), None, "nothing moves");
        let (remaining, now) = after(10, 0, 1);
        assert_eq!(remaining.left(now, 1_000_000_000), None, "years");
        let (remaining, now) = after(10, 0, 0);
        assert_eq!(remaining.left(now, 100), None, "nothing ever moved");
    }
}
