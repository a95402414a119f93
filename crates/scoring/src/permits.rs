//! The permits of a process bound its requests in flight, and share them between the lanes. Their number may change at any time: if it
//! falls, permits in use are taken back as they return.
//!
//! A lane that waits alone may use all permits. If both wait, a returned permit goes to
//!
//! - the realtime lane, while it has less than its reserve;
//! - else the realtime lane, if its request is full, or if there is no reserve because there is only one permit; but every
//!   tenth time the batch lane;
//! - else the batch lane: a live request that can still grow waits for one of its own lane to end.
//!
//! So a live transaction waits for the end of one request at most, and a stream of small live requests, each as slow as a
//! large one, does not take the batch lane's permits. See `docs/decisions/0013-two-lanes-one-fleet.md`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use assay_transaction::{Lane, Ratio};
use tokio::sync::oneshot;

/// If both lanes wait, every tenth permit goes to the batch lane.
const BATCH_TURN: u32 = 10;

#[derive(Debug, Clone)]
pub(crate) struct ApiPermits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// How many there are; more may be in use after it has fallen.
    limit: usize,
    used: usize,
    /// Share of the permits that go to the realtime lane first.
    reserve: Ratio,
    realtime_used: usize,
    realtime: VecDeque<Waiter>,
    batch: VecDeque<Waiter>,
    /// Turns of the realtime lane since the last one of the batch lane.
    turns: u32,
}

#[derive(Debug)]
struct Waiter {
    is_full: bool,
    granted: oneshot::Sender<ApiPermit>,
}

/// The right to one request in flight, while it is held.
#[derive(Debug)]
pub struct ApiPermit {
    permits: ApiPermits,
    lane: Lane,
}

impl ApiPermits {
    pub(crate) fn new(permits: usize, reserve: Ratio) -> Self {
        let (realtime, batch) = (VecDeque::new(), VecDeque::new());
        let state = State { limit: permits, used: 0, reserve, realtime_used: 0, realtime, batch, turns: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Changes how many there are.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.change(|state| state.limit = limit);
    }

    /// Waits for a permit. `is_full`: no more rows can join the request. Safe to cancel.
    pub(crate) async fn acquire(&self, lane: Lane, is_full: bool) -> ApiPermit {
        if let Some(permit) = self.take_free(lane) {
            return permit;
        }
        let (granted, grant) = oneshot::channel();
        self.change(|state| {
            state.waiting(lane).push_back(Waiter { is_full, granted });
        });
        match grant.await {
            Ok(permit) => permit,
            // A waiter leaves its queue with a permit, or because it was dropped.
            Err(_) => std::future::pending().await,
        }
    }

    /// A permit that is free and that nobody waits for.
    fn take_free(&self, lane: Lane) -> Option<ApiPermit> {
        let mut state = self.state();
        if !state.has_free() || Lane::ALL.into_iter().any(|lane| !state.waiting(lane).is_empty()) {
            return None;
        }
        state.grant(lane);
        Some(ApiPermit { permits: self.clone(), lane })
    }

    /// Changes the state, and grants the permits that are then free.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let mut grants = Vec::new();
        while let Some((lane, waiter)) = state.next() {
            grants.push((waiter, ApiPermit { permits: self.clone(), lane }));
        }
        // A permit whose waiter is gone comes back here.
        drop(state);
        for (waiter, permit) in grants {
            let _ = waiter.granted.send(permit);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_free(&self) -> bool {
        self.used < self.limit
    }

    /// Permits that go to the realtime lane first.
    fn reserved(&self) -> usize {
        match self.limit {
            0 | 1 => 0,
            limit => self.reserve.of(limit).clamp(1, limit - 1),
        }
    }

    fn waiting(&mut self, lane: Lane) -> &mut VecDeque<Waiter> {
        match lane {
            Lane::Batch => &mut self.batch,
            Lane::Realtime => &mut self.realtime,
        }
    }

    /// The next waiter to get a permit, if one is free.
    fn next(&mut self) -> Option<(Lane, Waiter)> {
        if !self.has_free() {
            return None;
        }
        for lane in Lane::ALL {
            let waiting = self.waiting(lane);
            while waiting.pop_front_if(|waiter| waiter.granted.is_closed()).is_some() {}
        }
        let lane = self.turn()?;
        let waiter = self.waiting(lane).pop_front()?;
        self.grant(lane);
        Some((lane, waiter))
    }

    fn grant(&mut self, lane: Lane) {
        self.used += 1;
        self.realtime_used += usize::from(lane == Lane::Realtime);
    }

    fn turn(&mut self) -> Option<Lane> {
        let (realtime, batch) = (self.realtime.front(), self.batch.front());
        let Some(realtime) = realtime else { return batch.map(|_| Lane::Batch) };
        if batch.is_none() || self.realtime_used < self.reserved() {
            return Some(Lane::Realtime);
        }
        if self.reserved() > 0 && !realtime.is_full {
            return Some(Lane::Batch);
        }
        self.turns = (self.turns + 1) % BATCH_TURN;
        Some(if self.turns == 0 { Lane::Batch } else { Lane::Realtime })
    }
}

impl Drop for ApiPermit {
    fn drop(&mut self) {
        let lane = self.lane;
        self.permits.change(|state| {
            state.used -= 1;
            state.realtime_used -= usize::from(lane == Lane::Realtime);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    const PART: bool = false;
    const FULL: bool = true;

    fn permits(permits: usize) -> ApiPermits {
        ApiPermits::new(permits, "0.25".parse().unwrap())
    }

    fn waiting(permits: &ApiPermits, lane: Lane, is_full: bool) -> Pin<Box<dyn Future<Output = ApiPermit> + '_>> {
        let mut waiting: Pin<Box<dyn Future<Output = ApiPermit> + '_>> = Box::pin(permits.acquire(lane, is_full));
        assert!(waiting.as_mut().now_or_never().is_none(), "a permit is free for {lane:?}");
        waiting
    }

    fn take(permits: &ApiPermits, lane: Lane) -> ApiPermit {
        permits.acquire(lane, FULL).now_or_never().expect("a permit is free")
    }

    #[test]
    fn the_reserve_is_a_share_and_at_least_one_of_two() {
        for (all, reserve) in [(1, 0), (2, 1), (5, 1), (8, 2), (100, 25)] {
            assert_eq!(permits(all).state().reserved(), reserve, "of {all}");
        }
        assert_eq!(ApiPermits::new(4, "1".parse().unwrap()).state().reserved(), 3, "one is left for the batch lane");
        assert_eq!(ApiPermits::new(4, "0".parse().unwrap()).state().reserved(), 1);
    }

    #[test]
    fn either_lane_may_use_idle_permits() {
        for lane in Lane::ALL {
            let permits = permits(5);
            let held: Vec<_> = (0..5).map(|_| take(&permits, lane)).collect();
            drop(waiting(&permits, lane, PART));
            drop(held);
            assert_eq!(permits.state().used, 0);
        }
    }

    #[test]
    fn a_returned_permit_goes_to_the_reserve_first_and_then_to_the_batch() {
        let permits = permits(5);
        let mut held: Vec<_> = (0..5).map(|_| take(&permits, Lane::Batch)).collect();
        let mut batch = waiting(&permits, Lane::Batch, FULL);
        let mut live = waiting(&permits, Lane::Realtime, PART);
        held.pop();
        let reserved = live.as_mut().now_or_never().expect("the live request goes first");
        let mut next = waiting(&permits, Lane::Realtime, PART);
        held.pop();
        assert!(next.as_mut().now_or_never().is_none(), "its reserve is used up, and it can still grow");
        held.push(batch.as_mut().now_or_never().expect("it is the turn of the batch lane"));
        let _batch = waiting(&permits, Lane::Batch, FULL);
        drop(reserved);
        assert!(next.as_mut().now_or_never().is_some(), "the reserve is free again");
    }

    /// The lanes served from two long queues, one permit at a time.
    fn served(all: usize, is_full: bool) -> Vec<Lane> {
        let permits = permits(all);
        let reserve = permits.state().reserved();
        let mut reserved: Vec<_> = (0..reserve).map(|_| take(&permits, Lane::Realtime)).collect();
        let mut held: Vec<_> = (reserve..all).map(|_| take(&permits, Lane::Batch)).collect();
        let mut lines: Vec<_> = (0..40).map(|_| waiting(&permits, Lane::Batch, FULL)).collect();
        lines.extend((0..40).map(|_| waiting(&permits, Lane::Realtime, is_full)));
        let mut served = Vec::new();
        for _ in 0..20 {
            held.pop();
            let granted = lines.iter_mut().enumerate().find_map(|(at, line)| Some((at, line.as_mut().now_or_never()?)));
            let (at, permit) = granted.expect("one is served");
            drop(lines.remove(at));
            served.push(permit.lane);
            held.push(permit);
        }
        reserved.clear();
        served
    }

    #[test]
    fn every_tenth_permit_is_the_batchs_if_live_requests_are_full_or_there_is_one_permit() {
        for (all, is_full, batches) in [(1, PART, 2), (1, FULL, 2), (5, FULL, 2), (5, PART, 20)] {
            let found = served(all, is_full).iter().filter(|lane| **lane == Lane::Batch).count();
            assert_eq!(found, batches, "of {all}, full: {is_full}");
        }
    }

    #[test]
    fn a_lower_limit_takes_permits_back_as_they_return() {
        let permits = permits(4);
        let mut held: Vec<_> = (0..4).map(|_| take(&permits, Lane::Batch)).collect();
        let mut next = waiting(&permits, Lane::Batch, FULL);
        permits.set_limit(2);
        held.truncate(2);
        assert!(next.as_mut().now_or_never().is_none(), "two returned, and are no longer there");
        held.pop();
        held.push(next.as_mut().now_or_never().expect("one of two is free"));
        let mut next = waiting(&permits, Lane::Batch, FULL);
        permits.set_limit(3);
        assert!(next.as_mut().now_or_never().is_some(), "a higher limit is granted at once");
    }

    #[test]
    fn the_reserve_follows_the_limit() {
        let permits = permits(8);
        let mut held: Vec<_> = (0..8).map(|_| take(&permits, Lane::Batch)).collect();
        let _batch = waiting(&permits, Lane::Batch, FULL);
        let mut live: Vec<_> = (0..2).map(|_| waiting(&permits, Lane::Realtime, PART)).collect();
        permits.set_limit(5);
        held.truncate(4);
        let _reserved = live[0].as_mut().now_or_never().expect("one of five is reserved");
        held.pop();
        assert!(live[1].as_mut().now_or_never().is_none(), "no more than that");
        permits.set_limit(1);
        assert_eq!(permits.state().reserved(), 0);
    }

    proptest::proptest! {
        #[test]
        fn no_more_are_granted_than_there_are(steps in proptest::collection::vec((0_u8..4, 1_usize..9), 1..80)) {
            let permits = permits(5);
            let (mut limit, mut held, mut lines) = (5, Vec::new(), Vec::new());
            for (step, number) in steps {
                let before = held.len();
                match step {
                    0 => lines.push(Box::pin(permits.acquire(Lane::Batch, FULL))),
                    1 => lines.push(Box::pin(permits.acquire(Lane::Realtime, number % 2 == 0))),
                    2 => drop(held.pop()),
                    _ => {
                        limit = number;
                        permits.set_limit(limit);
                    }
                }
                lines.retain_mut(|line| line.as_mut().now_or_never().map(|permit| held.push(permit)).is_none());
                proptest::prop_assert!(held.len() <= limit.max(before));
                proptest::prop_assert!(lines.is_empty() || held.len() >= limit, "one waits though one is free");
                proptest::prop_assert_eq!(permits.state().used, held.len());
            }
        }
    }

    #[test]
    fn a_dropped_waiter_takes_no_permit() {
        let permits = permits(1);
        let held = take(&permits, Lane::Batch);
        let gone = waiting(&permits, Lane::Realtime, FULL);
        let mut next = waiting(&permits, Lane::Batch, FULL);
        drop(gone);
        drop(held);
        drop(next.as_mut().now_or_never().expect("the next is served"));
        drop(next);
        // Granted, but never taken.
        let held = take(&permits, Lane::Batch);
        let granted = waiting(&permits, Lane::Realtime, FULL);
        drop(held);
        drop(granted);
        assert_eq!(permits.state().used, 0);
    }
}
