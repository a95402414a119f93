//! What is counted of the ML API. The predictor is the only program that asks one, and its name stands in the names.

use std::time::Duration;

use assay_transaction::Lane;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::failure::ErrorClass;

const REQUESTS: &str = "assay_predictor_api_requests_total";
const DURATION: &str = "assay_predictor_api_request_duration_seconds";
const IN_FLIGHT: &str = "assay_predictor_api_requests_in_flight";
const LIMIT: &str = "assay_predictor_api_requests_limit";
const RETRIES: &str = "assay_predictor_retries_total";
const BISECTIONS: &str = "assay_predictor_bisections_total";
const CANARIES: &str = "assay_predictor_controls_total";
const OPEN: &str = "assay_predictor_circuit_open";

/// How a request ended that scored all of its rows.
const SUCCESS: &str = "success";

/// Says what the metrics are, and begins them at 0.
pub(crate) fn describe(limit: u16) {
    describe_counter!(REQUESTS, "Requests to the ML API, by what their answer means; each attempt is one.");
    describe_histogram!(DURATION, "From sending a request to the ML API to its answer, of whatever kind.");
    describe_gauge!(IN_FLIGHT, "Requests to the ML API that are under way.");
    describe_gauge!(LIMIT, "Requests to the ML API that may be under way at a time.");
    describe_counter!(RETRIES, "Requests repeated for rows that the ML API may have failed on, by the answer before.");
    describe_counter!(BISECTIONS, "Requests whose rows were halved to find the ones at fault.");
    describe_counter!(CANARIES, "Requests with a known good transaction, to tell rows at fault from a broken model.");
    describe_gauge!(OPEN, "1 while no rows are sent, as the ML API is away, broken or misconfigured.");
    for outcome in [ErrorClass::Unavailable, ErrorClass::Suspect, ErrorClass::Rejected, ErrorClass::Misconfigured] {
        counter!(REQUESTS, "outcome" => outcome.label()).absolute(0);
        counter!(RETRIES, "class" => outcome.label()).absolute(0);
    }
    counter!(REQUESTS, "outcome" => SUCCESS).absolute(0);
    counter!(BISECTIONS).absolute(0);
    counter!(CANARIES).absolute(0);
    gauge!(LIMIT).set(limit);
    set_breaker_open(false);
}

/// One request that is under way, from when it is sent until it has an answer or is given up.
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

/// An answer, after so long; none of the classes where it scored rows.
pub(crate) fn request_ended(lane: Lane, took: Duration, class: Option<ErrorClass>) {
    counter!(REQUESTS, "outcome" => class.map_or(SUCCESS, ErrorClass::label)).increment(1);
    histogram!(DURATION, "lane" => lane.as_str()).record(took);
}

pub(crate) fn retried(class: ErrorClass) {
    counter!(RETRIES, "class" => class.label()).increment(1);
}

pub(crate) fn bisected() {
    counter!(BISECTIONS).increment(1);
}

pub(crate) fn canary_sent() {
    counter!(CANARIES).increment(1);
}

pub(crate) fn set_breaker_open(is_open: bool) {
    gauge!(OPEN).set(u32::from(is_open));
}
