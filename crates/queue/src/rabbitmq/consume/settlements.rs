//! Settling in steps, to bound what RabbitMQ sends. It sends a message for each one that is settled: after settling a thousand
//! small ones at once, a thousand large ones could be on their way. So a few are settled, their replacements are awaited, and then
//! the next few are settled.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Settlement;
use crate::consume::wait_until;

/// Longest wait for replacements: the queue may be empty.
const REPLACEMENT_WAIT: Duration = Duration::from_millis(5);
/// The assumed size of a large message.
const LARGE_MESSAGE: usize = 2 * 1024 * 1024;

/// Settlements not yet sent to RabbitMQ, by tag.
#[derive(Debug, Default)]
pub(super) struct PendingSettlements {
    settlements: BTreeMap<u64, Settlement>,
    /// Messages that may be on their way in place of settled ones.
    replacements: usize,
    until: Option<Instant>,
}

impl PendingSettlements {
    pub(super) fn add(&mut self, settled: impl IntoIterator<Item = (u64, Settlement)>) {
        self.settlements.extend(settled);
    }

    pub(super) fn received(&mut self) {
        self.replacements = self.replacements.saturating_sub(1);
    }

    /// Takes what can be settled now, lowest tags first, if messages on their way may have `bytes`.
    pub(super) fn take_due(&mut self, bytes: usize, now: Instant) -> Vec<(u64, Settlement)> {
        if self.until.is_some_and(|until| until <= now) {
            self.replacements = 0;
        }
        let room = (bytes / LARGE_MESSAGE).max(1).saturating_sub(self.replacements);
        let due: Vec<_> = std::iter::from_fn(|| self.settlements.pop_first()).take(room).collect();
        if !due.is_empty() {
            self.replacements += due.len();
            self.until = Some(now + REPLACEMENT_WAIT);
        }
        due
    }

    /// Takes everything, if no replacements follow.
    pub(super) fn take_all(&mut self) -> Vec<(u64, Settlement)> {
        self.replacements = 0;
        std::mem::take(&mut self.settlements).into_iter().collect()
    }

    /// Waits until more can be settled although no replacement arrived. Never ends without settlements.
    pub(super) async fn wait_for_replacements(&self) {
        wait_until(self.until.filter(|_| !self.settlements.is_empty())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(due: &[(u64, Settlement)]) -> Vec<u64> {
        due.iter().map(|(tag, _)| *tag).collect()
    }

    fn pending(tags: impl IntoIterator<Item = u64>) -> PendingSettlements {
        let mut pending = PendingSettlements::default();
        pending.add(tags.into_iter().map(|tag| (tag, Settlement::Ack)));
        pending
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_settled_than_may_come_at_once() {
        let mut pending = pending([5, 3, 1, 4, 2]);
        let bytes = 3 * LARGE_MESSAGE;
        let now = Instant::now();
        assert_eq!(tags(&pending.take_due(bytes, now)), [1, 2, 3]);
        assert!(pending.take_due(bytes, now).is_empty());
        pending.received();
        assert_eq!(tags(&pending.take_due(bytes, now)), [4]);
        // The queue is empty.
        pending.wait_for_replacements().await;
        assert_eq!(tags(&pending.take_due(bytes, Instant::now())), [5]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_is_always_settled_and_all_at_the_end() {
        let mut pending = pending(1..=5);
        let now = Instant::now();
        assert_eq!(tags(&pending.take_due(0, now)), [1]);
        assert_eq!(tags(&pending.take_all()), [2, 3, 4, 5]);
        pending.add([(6, Settlement::Release)]);
        assert_eq!(pending.take_due(0, now), [(6, Settlement::Release)]);
    }
}
