//! How many requests to the ML API may be in flight: as many as it serves at a time, between 1 and `API_MAX_WORKERS`.
//!
//! The `controller` decides it from the latency and the outcome of each attempt (not of a request with its retries), made
//! comparable by `latency`; `simulation` shows how it fares. [`ConcurrencyLimit`] sets the number of [permits](crate::permits) to it, shows it as a metric, and logs why
//! it fell.

mod controller;
mod latency;
#[cfg(test)]
mod simulation;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::info;

pub(crate) use controller::AttemptOutcome;
use controller::{Attempt, Controller, FallReason, LEAST_AFTER_TIMEOUT, SLOT_SECONDS};

use crate::api::http::RequestError;
use crate::api::protocol::RowResult;
use crate::breaker::OpenReason;
use crate::failure::Symptom;
use crate::metrics;
use crate::options::ConcurrencyMode;
use crate::permits::ApiPermits;

/// Shortest time between two log lines.
const QUIET_TIME: Duration = Duration::from_mins(1);

/// Bounds the attempts in flight of one process, through its permits.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    permits: ApiPermits,
    max: usize,
    /// `None` if the limit is fixed.
    adaptive: Option<Mutex<Adaptive>>,
}

#[derive(Debug)]
struct Adaptive {
    controller: Controller,
    logged: Option<Instant>,
}

/// An attempt in flight, until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct AttemptInFlight<'a> {
    limit: &'a ConcurrencyLimit,
    attempt: Option<Attempt>,
}

impl ConcurrencyLimit {
    /// Sets how many of the permits, `max`, there are at first.
    pub(crate) fn new(mode: ConcurrencyMode, max: usize, permits: ApiPermits) -> Self {
        let adaptive = match mode {
            ConcurrencyMode::Fixed => None,
            ConcurrencyMode::Adaptive => Some(Adaptive { controller: Controller::new(max), logged: None }),
        };
        let limit = adaptive.as_ref().map_or(max, |adaptive| adaptive.controller.limit());
        permits.set_limit(limit);
        metrics::set_limit(limit);
        Self { permits, max: max.max(1), adaptive: adaptive.map(Mutex::new) }
    }

    /// Counts an attempt as in flight.
    pub(crate) fn begin(&self) -> AttemptInFlight<'_> {
        AttemptInFlight { limit: self, attempt: self.change(|controller| (controller.begin(), None)) }
    }

    /// Begins with one attempt at a time again, after the breaker opened.
    pub(crate) fn restart(&self, reason: OpenReason) {
        self.change(|controller| ((), controller.restart(reason)));
    }

    /// The fewest attempts at a time that time-outs leave, with an API that works.
    pub(crate) fn least_after_timeouts(&self) -> usize {
        match self.adaptive {
            None => self.max,
            Some(_) => self.max.min(LEAST_AFTER_TIMEOUT),
        }
    }

    /// Changes the controller, and what follows from its limit. `None` if the limit is fixed.
    fn change<T>(&self, change: impl FnOnce(&mut Controller) -> (T, Option<FallReason>)) -> Option<T> {
        // Each change is complete before anything in it can panic.
        let mut adaptive = self.adaptive.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let before = adaptive.controller.limit();
        let (result, fall) = change(&mut adaptive.controller);
        let limit = adaptive.controller.limit();
        if limit != before {
            self.permits.set_limit(limit);
            metrics::set_limit(limit);
        }
        if let Some(reason) = fall {
            adaptive.log(limit, reason);
        }
        Some(result)
    }
}

impl AttemptOutcome {
    /// What an attempt tells of the API's load.
    pub(crate) fn of(results: &Result<Vec<RowResult>, RequestError>, took: Duration) -> Self {
        match results {
            Ok(rows) if rows.iter().any(Result::is_ok) => {
                Self::Scored { rows: rows.len(), seconds: took.as_secs_f64() }
            }
            Err(RequestError { symptom: Symptom::TimedOutHealthy, .. }) => Self::TimedOut,
            Ok(_) | Err(_) => Self::Other,
        }
    }
}

impl Adaptive {
    fn log(&mut self, limit: usize, reason: FallReason) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= QUIET_TIME) {
            self.logged = Some(Instant::now());
            info!("requests to the ML API at a time are limited to {limit}: {reason}");
        }
    }
}

impl AttemptInFlight<'_> {
    pub(crate) fn end(mut self, outcome: AttemptOutcome) {
        self.end_as(outcome);
    }

    fn end_as(&mut self, outcome: AttemptOutcome) {
        if let Some(attempt) = self.attempt.take() {
            self.limit.change(|controller| ((), controller.end(attempt, outcome, slot())));
        }
    }
}

/// The slot of time, the same in all processes.
fn slot() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / SLOT_SECONDS
}

impl Drop for AttemptInFlight<'_> {
    fn drop(&mut self) {
        self.end_as(AttemptOutcome::Other);
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::{Lane, Ratio};
    use futures_util::FutureExt as _;

    use super::*;

    /// Permits that are free at once.
    fn free(permits: &ApiPermits) -> usize {
        let taken: Vec<_> = std::iter::from_fn(|| permits.acquire(Lane::Batch, true).now_or_never()).collect();
        taken.len()
    }

    fn score(limit: &ConcurrencyLimit, attempts: usize) {
        let begun: Vec<_> = (0..attempts).map(|_| limit.begin()).collect();
        for attempt in begun {
            attempt.end(AttemptOutcome::Scored { rows: 1, seconds: 0.01 });
        }
    }

    #[test]
    fn the_permits_follow_the_limit() {
        let permits = ApiPermits::new(5, Ratio::QUARTER);
        let limit = ConcurrencyLimit::new(ConcurrencyMode::Adaptive, 5, permits.clone());
        assert_eq!((free(&permits), limit.least_after_timeouts()), (1, 2));
        for (attempts, expected) in [(1, 2), (2, 4), (4, 5), (5, 5)] {
            score(&limit, attempts);
            assert_eq!(free(&permits), expected);
        }
        limit.restart(OpenReason::Outage);
        assert_eq!(free(&permits), 1);
        for _ in 0..10 {
            drop(limit.begin());
        }
        assert_eq!(free(&permits), 1, "an attempt that is dropped tells nothing");
        score(&limit, 1);
        assert_eq!(free(&permits), 2);
    }

    #[test]
    fn a_fixed_limit_stays() {
        let permits = ApiPermits::new(5, Ratio::QUARTER);
        let limit = ConcurrencyLimit::new(ConcurrencyMode::Fixed, 5, permits.clone());
        limit.restart(OpenReason::Outage);
        limit.begin().end(AttemptOutcome::TimedOut);
        assert_eq!((free(&permits), limit.least_after_timeouts()), (5, 5));
    }
}
