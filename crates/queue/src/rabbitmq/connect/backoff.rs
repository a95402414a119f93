//! The pause before reconnecting: none, unless the connection is lost repeatedly for the same cause.

use std::time::Duration;

use assay_connect::RetryPolicy;
use tracing::error;

/// A connection that lasted this long was good.
const GOOD: Duration = Duration::from_secs(10);
/// Losses in a row without a pause, if the client could not read something.
const FREE_UNREADABLE: u32 = 2;
/// The same for any other cause: RabbitMQ may be restarting, or an operator closing connections.
const FREE: u32 = 10;
/// The pauses double only if the client could not read something: RabbitMQ sends it again on each connection.
const PAUSES: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_mins(1));

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectionLoss {
    pub(super) cause: String,
    /// Whether the client could not read what RabbitMQ sent.
    pub(super) is_unreadable: bool,
}

impl From<&str> for ConnectionLoss {
    fn from(cause: &str) -> Self {
        Self { cause: cause.to_owned(), is_unreadable: false }
    }
}

#[derive(Default)]
pub(super) struct ReconnectBackoff {
    latest: Option<ConnectionLoss>,
    in_a_row: u32,
}

impl ReconnectBackoff {
    /// The pause after a loss. Logs once when pauses begin.
    pub(super) fn pause(&mut self, server: &str, loss: &ConnectionLoss, lived: Duration) -> Duration {
        if lived >= GOOD || self.latest.as_ref() != Some(loss) {
            self.latest = Some(loss.clone());
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        let free = if loss.is_unreadable { FREE_UNREADABLE } else { FREE };
        let Some(doublings) = self.in_a_row.checked_sub(free + 1) else { return Duration::ZERO };
        if !loss.is_unreadable {
            return PAUSES.initial;
        }
        if doublings == 0 {
            error!(
                "the connection to RabbitMQ at {server} is lost repeatedly, as it sends unreadable data ({}); reconnecting after 1 \
                 to 60 s from now on: check the latest messages in the queues of this program",
                loss.cause
            );
        }
        PAUSES.longest_delay(doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_for_unreadable_data_alone() {
        let moment = Duration::from_millis(80);
        let unreadable = ConnectionLoss { cause: "parse error".to_owned(), is_unreadable: true };
        let (cut, restarting) = (ConnectionLoss::from("connection reset"), ConnectionLoss::from("restarting"));
        let mut losses = ReconnectBackoff::default();
        let mut pause = |loss, lived| losses.pause("here", loss, lived).as_secs();
        let same: Vec<_> = (0..10).map(|_| pause(&unreadable, moment)).collect();
        assert_eq!(same, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        let same: Vec<_> = (0..13).map(|_| pause(&cut, moment)).collect();
        assert_eq!(same, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        for loss in [&restarting, &cut, &restarting] {
            assert_eq!(pause(loss, moment), 0, "another cause");
        }
        for _ in 0..20 {
            assert_eq!(pause(&restarting, GOOD), 0, "each was a good one");
        }
    }
}
