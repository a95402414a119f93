//! Settling in steps. RabbitMQ sends a message for each one that is settled, and nobody knows how large that will be: after a
//! thousand small ones were settled at once, a thousand large ones could be on their way. So a few are settled, what comes in their
//! place is looked at, and then the next few.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Settlement;

/// How long what is settled waits for what comes in its place: the queue may be empty.
const PATIENCE: Duration = Duration::from_millis(5);
/// What a message that comes may have, at the most that is usual.
const LARGE: usize = 2 * 1024 * 1024;

/// Settlements that RabbitMQ does not know of yet, by tag.
#[derive(Debug, Default)]
pub(super) struct Owed {
    settlements: BTreeMap<u64, Settlement>,
    /// How many messages may be on their way in place of those that were settled.
    unseen: usize,
    until: Option<Instant>,
}

impl Owed {
    pub(super) fn add(&mut self, settled: impl IntoIterator<Item = (u64, Settlement)>) {
        self.settlements.extend(settled);
    }

    /// A message has come.
    pub(super) fn arrived(&mut self) {
        self.unseen = self.unseen.saturating_sub(1);
    }

    /// What can be settled now, where messages that are on their way may take so many bytes; the lowest tags first.
    pub(super) fn due(&mut self, bytes: usize, now: Instant) -> Vec<(u64, Settlement)> {
        if self.until.is_some_and(|until| until <= now) {
            self.unseen = 0;
        }
        let room = (bytes / LARGE).max(1).saturating_sub(self.unseen);
        let due: Vec<_> = std::iter::from_fn(|| self.settlements.pop_first()).take(room).collect();
        if !due.is_empty() {
            self.unseen += due.len();
            self.until = Some(now + PATIENCE);
        }
        due
    }

    /// Everything: nothing comes in place of it.
    pub(super) fn all(&mut self) -> Vec<(u64, Settlement)> {
        self.unseen = 0;
        std::mem::take(&mut self.settlements).into_iter().collect()
    }

    /// Waits until more can be settled though nothing has come. Never ends where nothing is to be settled.
    pub(super) async fn nothing_came(&self) {
        match self.until {
            Some(until) if !self.settlements.is_empty() => tokio::time::sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(due: &[(u64, Settlement)]) -> Vec<u64> {
        due.iter().map(|(tag, _)| *tag).collect()
    }

    fn owed(tags: impl IntoIterator<Item = u64>) -> Owed {
        let mut owed = Owed::default();
        owed.add(tags.into_iter().map(|tag| (tag, Settlement::Ack)));
        owed
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_settled_than_may_come_at_once() {
        let mut owed = owed([5, 3, 1, 4, 2]);
        let bytes = 3 * LARGE;
        let now = Instant::now();
        assert_eq!(tags(&owed.due(bytes, now)), [1, 2, 3]);
        assert!(owed.due(bytes, now).is_empty());
        owed.arrived();
        assert_eq!(tags(&owed.due(bytes, now)), [4]);
        // The queue is empty.
        owed.nothing_came().await;
        assert_eq!(tags(&owed.due(bytes, Instant::now())), [5]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_is_always_settled_and_all_at_the_end() {
        let mut owed = owed(1..=5);
        let now = Instant::now();
        assert_eq!(tags(&owed.due(0, now)), [1]);
        assert_eq!(tags(&owed.all()), [2, 3, 4, 5]);
        owed.add([(6, Settlement::Release)]);
        assert_eq!(owed.due(0, now), [(6, Settlement::Release)]);
    }
}
