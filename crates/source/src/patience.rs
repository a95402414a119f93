//! How long an S3 that is away is waited for.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Pauses between attempts, until nothing has gone well for too long.
pub(crate) struct Patience {
    longest: Duration,
    pauses: ExponentialBackoff,
    /// When the first attempt failed since something went well.
    since: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(longest: Duration) -> Self {
        let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
        Self { longest, pauses: pauses.without_max_times().with_jitter().build(), since: None }
    }

    /// Something went well.
    pub(crate) fn restore(&mut self) {
        if self.since.is_some() {
            *self = Self::new(self.longest);
        }
    }

    /// Whether an attempt has failed since something went well.
    pub(crate) fn is_tried(&self) -> bool {
        self.since.is_some()
    }

    /// An attempt failed: how long to pause before the next one, the last of which is made when the time is up.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.longest.saturating_sub(since.elapsed());
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        Some(pause.min(left)).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_time_is_up() {
        let mut patience = Patience::new(Duration::from_hours(1));
        let pauses: Vec<_> = (0..20).map_while(|_| patience.pause()).collect();
        assert_eq!(pauses.len(), 20);
        assert!(pauses[0] < Duration::from_secs(1), "{pauses:?}");
        assert!(pauses[19] >= LONGEST_PAUSE, "{pauses:?}");
        assert!(patience.is_tried());
        patience.restore();
        assert!(!patience.is_tried());
        assert!(patience.pause().unwrap() < Duration::from_secs(1));
        assert_eq!(Patience::new(Duration::ZERO).pause(), None);
    }
}
