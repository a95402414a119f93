//! The budget of retries: they are at most a fifth of all requests, and ten a second beyond that, so that retries never become the
//! load. If it is used up, a retry waits; no row fails for it.
//!
//! What is not a retry: the halves of a bisection and the confirmation of a rejected row, which find the rows at fault; canaries; and
//! what the breaker held back, which begins one request at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::SymptomClass;
use crate::request::{ClientState, RequestExecutor};
use crate::{ScoreError, metrics};

/// Share of all requests.
const SHARE: f64 = 0.2;
/// Retries a second, however few requests there are.
const PER_SECOND: f64 = 10.0;
/// Most that are saved up, and how many there are at the start.
const SAVED: f64 = 100.0;

/// The budget of one process.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    savings: Mutex<Savings>,
    /// Held by the next retry; others queue in order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Savings {
    retries: f64,
    /// When the retries of each second were last added.
    at: Instant,
}

impl RequestExecutor<'_> {
    /// Waits until the budget of retries has one left. The confirmation that a row is at fault is none: like bisection, it is
    /// how such rows are found, and their number bounds it.
    pub(crate) async fn begin_retry(self, after: SymptomClass) -> Result<(), ScoreError> {
        let ClientState { counters, retry_budget, .. } = self.shared;
        counters.count_retry(after);
        if after == SymptomClass::Rejected {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ScoreError::Stopped),
            () = retry_budget.take() => Ok(()),
        }
    }
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        let savings = Mutex::new(Savings { retries: SAVED, at: Instant::now() });
        Self { savings, turn: tokio::sync::Mutex::default() }
    }

    /// Each request allows a part of a retry.
    pub(crate) fn count_request(&self) {
        self.change(|savings| savings.add(SHARE));
    }

    /// Waits until a retry is allowed. Safe to cancel.
    pub(crate) async fn take(&self) {
        let _turn = self.turn.lock().await;
        let Err(wait) = self.change(Savings::take) else { return };
        metrics::count_delayed_retry();
        tokio::time::sleep(wait).await;
        while let Err(wait) = self.change(Savings::take) {
            tokio::time::sleep(wait).await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Savings) -> T) -> T {
        let mut savings = self.savings.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(savings.at).as_secs_f64();
        savings.at = now;
        savings.add(passed * PER_SECOND);
        change(&mut savings)
    }
}

impl Savings {
    fn add(&mut self, retries: f64) {
        self.retries = (self.retries + retries).min(SAVED);
    }

    /// Takes one, or says how long it is until there is one.
    fn take(&mut self) -> Result<(), Duration> {
        if self.retries < 1.0 {
            // A little longer, as durations are cut off.
            return Err(Duration::from_secs_f64((1.0 - self.retries) / PER_SECOND) + Duration::from_millis(1));
        }
        self.retries -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries taken in so many seconds beside this many requests a second.
    async fn taken(budget: &RetryBudget, seconds: u32, requests: u32) -> u32 {
        let (end, mut taken) = (Instant::now() + Duration::from_secs(seconds.into()), 0);
        let mut request = tokio::time::interval(Duration::from_secs(1) / requests.max(1));
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return taken,
                () = budget.take() => taken += 1,
                _ = request.tick(), if requests > 0 => budget.count_request(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_fifth_of_the_requests_and_ten_a_second() {
        let budget = RetryBudget::new();
        assert_eq!(taken(&budget, 1, 0).await, 100 + 9, "the savings of the start come first");
        for (requests, expected) in [(0, 100), (100, 300), (500, 1_100)] {
            let found = taken(&budget, 10, requests).await;
            assert!(found.abs_diff(expected) <= expected / 50, "{found} beside {requests} requests a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn savings_are_bounded() {
        let budget = RetryBudget::new();
        for _ in 0..10_000 {
            budget.count_request();
        }
        tokio::time::sleep(Duration::from_hours(1)).await;
        let began = Instant::now();
        for _ in 0..100 {
            budget.take().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        budget.take().await;
        assert!(began.elapsed() > Duration::from_millis(50), "the next one waits");
    }
}
