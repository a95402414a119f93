//! How soon a connection that was lost is made again: at once, unless it is lost again and again for the same cause.

use std::time::Duration;

use tracing::error;

/// A connection that lived as long as this was a good one.
const SETTLED: Duration = Duration::from_secs(10);
/// So many losses in a row are no reason to wait: RabbitMQ may be restarting, and an operator closing connections.
const FREE: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The losses of one connection.
#[derive(Default)]
pub(super) struct Losses {
    cause: String,
    in_a_row: u32,
}

impl Losses {
    /// How long to wait after a loss, before the first try to connect again. It logs once that it waits.
    pub(super) fn pause(&mut self, server: &str, cause: &str, lived: Duration) -> Duration {
        if lived >= SETTLED || cause != self.cause {
            cause.clone_into(&mut self.cause);
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        let Some(doublings) = self.in_a_row.checked_sub(FREE + 1) else { return Duration::ZERO };
        if doublings == 0 {
            error!(
                "the connection to RabbitMQ at {server} is lost again and again ({cause}); from now on it is made again after \
                 1 to 60 s: see the log of RabbitMQ, and what was published to the queues of this program last"
            );
        }
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_and_longer_for_the_same_cause_alone() {
        let moment = Duration::from_millis(80);
        let mut losses = Losses::default();
        let mut pause = |cause, lived| losses.pause("here", cause, lived).as_secs();
        let same: Vec<_> = (0..10).map(|_| pause("parse error", moment)).collect();
        assert_eq!(same, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause("restarting", moment), 0);
        for _ in 0..5 {
            assert_eq!(pause("restarting", SETTLED), 0, "each was a good one");
        }
        assert_eq!([pause("restarting", moment), pause("restarting", moment)], [0, 1]);
    }
}
