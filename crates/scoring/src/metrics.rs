//! Metrics and counters of the ML API's client. Only the predictor has one, hence `assay_predictor_…`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assay_transaction::Lane;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::failure::SymptomClass;

const REQUESTS: &str = "assay_predictor_api_requests_total";
const DURATION: &str = "assay_predictor_api_request_duration_seconds";
const IN_FLIGHT: &str = "assay_predictor_api_requests_in_flight";
const LIMIT: &str = "assay_predictor_api_requests_limit";
const RETRIES: &str = "assay_predictor_retries_total";
const RETRIES_DELAYED: &str = "assay_predictor_retries_delayed_total";
const BISECTIONS: &str = "assay_predictor_bisections_total";
const CANARIES: &str = "assay_predictor_controls_total";
const MODEL_CHANGES: &str = "assay_predictor_model_changes_total";
const OPEN: &str = "assay_predictor_circuit_open";
const HOLD: &str = "assay_predictor_api_hold_seconds";
const RATE: &str = "assay_predictor_api_rate_rows_per_second";

/// The outcome of a request that scored all of its rows.
const SUCCESS: &str = "success";

/// Describes the metrics, and starts them at 0.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests to the ML API by outcome; each attempt counts.");
    describe_histogram!(DURATION, "Time from sending a request to the ML API to its response, whatever it is.");
    describe_gauge!(IN_FLIGHT, "Requests to the ML API in flight.");
    describe_gauge!(LIMIT, "Most requests to the ML API in flight at a time, at present.");
    describe_counter!(
        RETRIES,
        "Requests repeated for rows that the ML API may have failed on, by the previous outcome."
    );
    describe_counter!(RETRIES_DELAYED, "Retries that waited, as retries were a fifth of all requests.");
    describe_counter!(BISECTIONS, "Requests whose rows were halved to find the ones at fault.");
    describe_counter!(CANARIES, "Requests with a known good transaction, to tell rows at fault from a broken model.");
    describe_counter!(MODEL_CHANGES, "Model versions that the ML API scored with after another one.");
    describe_gauge!(OPEN, "1 while no rows are sent because the ML API is unavailable, broken or misconfigured.");
    describe_gauge!(
        HOLD,
        "How long a pause lasts that the ML API asked the fleet for; 0 once it is over and requests go out again."
    );
    describe_gauge!(
        RATE,
        "Transactions a second that this predictor may send: its share of API_RATE_LIMIT, and what the ML API was seen to allow."
    );
    for class in [SymptomClass::Unavailable, SymptomClass::Suspect, SymptomClass::Rejected, SymptomClass::Misconfigured]
    {
        counter!(REQUESTS, "outcome" => class.label()).absolute(0);
        counter!(RETRIES, "class" => class.label()).absolute(0);
    }
    counter!(REQUESTS, "outcome" => SUCCESS).absolute(0);
    counter!(BISECTIONS).absolute(0);
    counter!(CANARIES).absolute(0);
    counter!(MODEL_CHANGES).absolute(0);
    counter!(RETRIES_DELAYED).absolute(0);
    set_breaker_open(false);
}

/// The most requests in flight at a time, from now on.
pub(crate) fn set_limit(limit: usize) {
    gauge!(LIMIT).set(u32::try_from(limit).unwrap_or(u32::MAX));
}

/// Counts a retry that waits for the budget of retries.
pub(crate) fn count_delayed_retry() {
    counter!(RETRIES_DELAYED).increment(1);
}

/// Counts a model version that was not seen before, after another one.
pub(crate) fn count_model_change() {
    counter!(MODEL_CHANGES).increment(1);
}

pub(crate) fn set_breaker_open(is_open: bool) {
    gauge!(OPEN).set(u32::from(is_open));
}

pub(crate) fn set_hold(hold: Duration) {
    gauge!(HOLD).set(hold);
}

/// `kind`: `share` or `learned`.
pub(crate) fn set_rate(kind: &'static str, rows_per_second: f64) {
    gauge!(RATE, "kind" => kind).set(rows_per_second);
}

/// Counts a request as in flight until it is dropped.
pub(crate) struct InFlightGauge(Lane);

impl InFlightGauge {
    pub(crate) fn begin(lane: Lane) -> Self {
        gauge!(IN_FLIGHT, "lane" => lane.as_str()).increment(1);
        Self(lane)
    }
}

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "lane" => self.0.as_str()).decrement(1);
    }
}

/// Records a response; `class` is `None` if all rows were scored.
pub(crate) fn record_response(lane: Lane, took: Duration, class: Option<SymptomClass>) {
    counter!(REQUESTS, "outcome" => class.map_or(SUCCESS, SymptomClass::label)).increment(1);
    histogram!(DURATION, "lane" => lane.as_str()).record(took);
}

/// Counts since the scorer was made. A chunk that is delivered twice counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScorerStats {
    /// Requests to score, whatever their outcome, canaries included.
    pub requests: u64,
    /// Requests repeated after a failure, or to confirm that a row is at fault.
    pub retries: u64,
    /// Requests whose rows were halved.
    pub bisections: u64,
    /// Requests with a known good transaction, to tell rows at fault from a broken model.
    pub canaries: u64,
    /// How often the API turned from ready to unavailable or misconfigured.
    pub outages: u64,
    /// Transactions scored.
    pub scored: u64,
    /// Transactions that could not be scored.
    pub failed: u64,
}

/// The counters behind [`ScorerStats`].
#[derive(Debug, Default)]
pub(crate) struct ScorerCounters {
    pub(crate) requests: AtomicCount,
    pub(crate) retries: AtomicCount,
    pub(crate) bisections: AtomicCount,
    pub(crate) canaries: AtomicCount,
    pub(crate) scored: AtomicCount,
    pub(crate) failed: AtomicCount,
}

impl ScorerCounters {
    pub(crate) fn count_retry(&self, after: SymptomClass) {
        self.retries.add(1);
        counter!(RETRIES, "class" => after.label()).increment(1);
    }

    pub(crate) fn count_bisection(&self) {
        self.bisections.add(1);
        counter!(BISECTIONS).increment(1);
    }

    pub(crate) fn count_canary(&self) {
        self.canaries.add(1);
        counter!(CANARIES).increment(1);
    }
}

#[derive(Debug, Default)]
pub(crate) struct AtomicCount(AtomicU64);

impl AtomicCount {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
