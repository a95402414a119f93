//! How long to wait for what. Apart from the settings, so that tests can be quick.

use std::time::Duration;

use rand::Rng as _;

/// The waits of a scorer.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Between repetitions of a request that the API failed on.
    pub(crate) retry: Backoff,
    /// Between questions after the health of an API that is away.
    pub(crate) outage: Backoff,
    /// Between requests to an API that refuses everything, until somebody repairs it.
    pub(crate) repair: Backoff,
    /// How long other requests under way are given to show that the model works, before it is asked.
    pub(crate) patience: Duration,
    /// How long `GET /health` may take.
    pub(crate) health_timeout: Duration,
    /// The longest that a `Retry-After` is believed.
    pub(crate) longest_retry_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let (millis, seconds) = (Duration::from_millis, Duration::from_secs);
        Self {
            retry: Backoff { first: millis(200), longest: seconds(5) },
            outage: Backoff { first: millis(500), longest: seconds(30) },
            repair: Backoff { first: seconds(2), longest: seconds(30) },
            patience: millis(100),
            health_timeout: seconds(5),
            longest_retry_after: Duration::from_hours(1),
        }
    }
}

/// Waits that double from the first to the longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The wait before the repetition of this number, from 0, with jitter: between its half and the whole, so that
    /// processes that failed together do not come back together.
    pub(crate) fn delay(&self, step: u32) -> Duration {
        let whole = self.first.saturating_mul(1_u32 << step.min(20)).min(self.longest);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        for (step, whole) in [(0, 100), (1, 200), (3, 800), (4, 1000), (u32::MAX, 1000)] {
            let delay = backoff.delay(step).as_millis();
            assert!((whole / 2..=whole).contains(&delay), "{step}: {delay}");
        }
    }
}
