//! Bounds, in bytes, of the message bodies that a process holds.
//!
//! A broker counts messages, and a message may have a hundred bytes or some million. So there are two bounds. [`MemoryBudget`]
//! bounds what is in work: a delivery takes its decompressed size from the budget of its queue until it is settled; without room,
//! the next delivery stays compressed. [`MessageSizes`] bounds what is at hand: the prefetch of a consumer follows the size of
//! the latest messages. Decision 0023 has the reasons and the figures.
//!
//! Guarantees: a message larger than a whole budget is taken alone, so that no message is too large to be worked on; each lane
//! and the dead letters have their own budget, so that none waits for the memory of another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assay_transaction::Lane;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Route;

/// Decompressed bodies in work from a batch lane. A stage has several copies of each: decoded, encoded for the next stage, on its way.
pub(crate) const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The same for a realtime lane, and for the dead letters.
pub(crate) const REALTIME_BYTES: usize = 8 * 1024 * 1024;
/// Bodies at hand and not in work, as they came, of all consumers of a process.
pub(crate) const AT_HAND_BYTES: usize = 32 * 1024 * 1024;
/// Unconfirmed bodies, as they are sent.
pub(crate) const IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that may be taken. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    bytes: Arc<Semaphore>,
    all: u32,
}

/// Bytes of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct MemoryPermit(#[expect(dead_code, reason = "held for its drop alone")] Option<OwnedSemaphorePermit>);

impl MemoryBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        let all = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self { bytes: Arc::new(Semaphore::new(all as usize)), all }
    }

    pub(crate) fn of(route: Route) -> Self {
        Self::new(match route.lane {
            Lane::Batch => BATCH_BYTES,
            Lane::Realtime => REALTIME_BYTES,
        })
    }

    /// Takes that many bytes, or the whole budget if it is smaller; waits until they are free. Cancel-safe.
    pub(crate) async fn take(&self, bytes: usize) -> MemoryPermit {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all);
        // The semaphore is never closed.
        MemoryPermit(Arc::clone(&self.bytes).acquire_many_owned(wanted).await.ok())
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.all as usize - self.bytes.available_permits()
    }
}

/// The equal shares of a process's consumers in [`AT_HAND_BYTES`].
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefetchShares(Arc<AtomicUsize>);

/// One consumer's share. The others get it on drop.
#[derive(Debug)]
pub(crate) struct PrefetchShare(PrefetchShares);

impl PrefetchShares {
    pub(crate) fn join(&self) -> PrefetchShare {
        self.0.fetch_add(1, Ordering::Relaxed);
        PrefetchShare(self.clone())
    }
}

impl PrefetchShare {
    pub(crate) fn bytes(&self) -> usize {
        AT_HAND_BYTES / self.0.0.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for PrefetchShare {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sizes of the latest messages, as they came, with their headers.
#[derive(Debug, Default)]
pub(crate) struct MessageSizes(VecDeque<usize>);

impl MessageSizes {
    /// The assumed size before any message was seen.
    const UNKNOWN: usize = 1024 * 1024;
    /// So many messages predict the next ones.
    const ENOUGH: usize = 8;
    /// So many are remembered: after a large message, another one is expected for a while.
    const REMEMBERED: usize = 128;
    /// What a message takes in addition to body and headers.
    const OVERHEAD: usize = 1024;

    pub(crate) fn record(&mut self, bytes: usize) {
        if self.0.len() == Self::REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(bytes);
    }

    fn largest(&self) -> usize {
        let largest = self.0.iter().copied().max().unwrap_or_default();
        if self.0.len() < Self::ENOUGH { largest.max(Self::UNKNOWN) } else { largest }
    }

    /// How many messages of the expected size fit into that many bytes: at least one, at most `wanted`.
    pub(crate) fn prefetch(&self, wanted: u16, bytes: usize) -> u16 {
        let fit = bytes / (self.largest() + Self::OVERHEAD);
        u16::try_from(fit).unwrap_or(u16::MAX).clamp(1, wanted.max(1))
    }

    /// Another prefetch if the one in use is too large, or much too small: a change costs two round trips.
    pub(crate) fn change(&self, in_use: u16, wanted: u16, bytes: usize) -> Option<u16> {
        let right = self.prefetch(wanted, bytes);
        let is_too_large = right < in_use - in_use / 4;
        let is_too_small = right / 2 >= in_use || right == wanted && right / 5 * 4 >= in_use;
        (right != in_use && (is_too_large || is_too_small)).then_some(right)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    #[tokio::test]
    async fn no_more_is_taken_than_the_budget() {
        let budget = MemoryBudget::new(10);
        let first = budget.take(7).await;
        let _second = budget.take(3).await;
        assert_eq!(budget.taken(), 10);
        assert!(budget.take(1).now_or_never().is_none());
        drop(first);
        assert_eq!(budget.taken(), 3);
        let _third = budget.take(7).await;
    }

    #[tokio::test]
    async fn more_than_the_budget_is_taken_alone() {
        let budget = MemoryBudget::new(10);
        let one = budget.take(1).await;
        assert!(budget.take(usize::MAX).now_or_never().is_none());
        drop(one);
        let all = budget.take(11).await;
        assert_eq!(budget.taken(), 10);
        drop(all);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn consumers_have_equal_shares() {
        let shares = PrefetchShares::default();
        let (one, two) = (shares.join(), shares.join());
        assert_eq!(one.bytes(), AT_HAND_BYTES / 2);
        drop(two);
        assert_eq!(one.bytes(), AT_HAND_BYTES);
    }

    #[test]
    fn the_prefetch_follows_the_size_of_messages() {
        let cases = [
            // Sizes seen, wanted, prefetch in 16 MiB.
            (vec![], 10, 10),
            (vec![], 50, 15),
            (vec![10 * KIB; 7], 50, 15),
            (vec![10 * KIB; 8], 50, 50),
            (vec![KIB; 100], 5_000, 5_000),
            (vec![KIB; 100], u16::MAX, 8_192),
            ([vec![KIB; 100], vec![2 * MIB]].concat(), 50, 7),
            ([vec![2 * MIB], vec![KIB; 127]].concat(), 50, 7),
            ([vec![2 * MIB], vec![KIB; 128]].concat(), 50, 50),
            (vec![100 * MIB; 8], 50, 1),
            (vec![KIB; 8], 1, 1),
            (vec![KIB; 8], 0, 1),
        ];
        for (seen, wanted, expected) in cases {
            let mut sizes = MessageSizes::default();
            let last = seen.last().copied();
            let many = seen.len();
            for bytes in seen {
                sizes.record(bytes);
            }
            assert_eq!(sizes.prefetch(wanted, 16 * MIB), expected, "{many} up to {last:?}, {wanted} wanted");
        }
    }

    #[test]
    fn small_differences_change_nothing() {
        let mut sizes = MessageSizes::default();
        (0..8).for_each(|_| sizes.record(15 * KIB));
        // 64 fit into 1 MiB.
        for (in_use, wanted, expected) in [
            (64, 100, None),
            (80, 100, None),
            (33, 100, None),
            (32, 100, Some(64)),
            (90, 100, Some(64)),
            (50, 50, None),
            (45, 50, None),
            (40, 50, Some(50)),
            (50, 1, Some(1)),
            (1, 2, Some(2)),
        ] {
            assert_eq!(sizes.change(in_use, wanted, MIB), expected, "{in_use} in use, {wanted} wanted");
        }
    }

    proptest! {
        #[test]
        fn a_change_is_stable(seen in proptest::collection::vec(0_usize..MIB, 0..200), in_use in 1_u16..1_000, wanted in 1_u16..1_000) {
            let mut sizes = MessageSizes::default();
            for bytes in seen {
                sizes.record(bytes);
            }
            if let Some(right) = sizes.change(in_use, wanted, 4 * MIB) {
                prop_assert!((1..=wanted).contains(&right));
                prop_assert_eq!(sizes.change(right, wanted, 4 * MIB), None);
            }
        }
    }
}
