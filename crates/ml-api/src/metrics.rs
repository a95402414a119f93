//! The `/metrics` endpoint, in Prometheus' text format.
//!
//! It uses a few atomics instead of the process-wide recorder: `assay run` serves the model inside a process with metrics of
//! its own, and a recorder's histograms grow until they are scraped, which may never happen.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

/// The statuses of `/predict`; all others are counted as `other`.
const STATUSES: [(StatusCode, &str); 5] = [
    (StatusCode::OK, "200"),
    (StatusCode::BAD_REQUEST, "400"),
    (StatusCode::PAYLOAD_TOO_LARGE, "413"),
    (StatusCode::UNPROCESSABLE_ENTITY, "422"),
    (StatusCode::INTERNAL_SERVER_ERROR, "500"),
];

/// Upper bounds of the latency buckets, in microseconds and as written.
const BUCKETS: [(u64, &str); 14] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// Counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [AtomicU64; STATUSES.len()],
    other_requests: AtomicU64,
    fraud: AtomicU64,
    legitimate: AtomicU64,
    /// Not cumulative; the last one has no upper bound.
    latency: [AtomicU64; BUCKETS.len() + 1],
    latency_micros: AtomicU64,
}

impl Metrics {
    /// Counts a request to `/predict` and its duration.
    pub(crate) fn record_request(&self, status: StatusCode, took: Duration) {
        let position = STATUSES.iter().position(|(known, _)| *known == status);
        add(position.map_or(&self.other_requests, |position| &self.requests[position]), 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.latency[BUCKETS.partition_point(|(bound, _)| *bound < micros)], 1);
        add(&self.latency_micros, micros);
    }

    /// Counts scored transactions.
    pub(crate) fn record_transactions(&self, scored: u64, fraud: u64) {
        add(&self.fraud, fraud);
        add(&self.legitimate, scored - fraud);
    }

    /// All metrics as text.
    pub(crate) fn render(&self, model_version: &str) -> String {
        let mut text = String::with_capacity(4_096);
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, model_version);
        text
    }

    fn write(&self, text: &mut String, model_version: &str) -> std::fmt::Result {
        writeln!(text, "# HELP assay_ml_api_requests_total Requests to /predict by the status of the response.")?;
        writeln!(text, "# TYPE assay_ml_api_requests_total counter")?;
        let statuses = STATUSES.iter().map(|(_, status)| *status).zip(&self.requests);
        for (status, count) in statuses.chain([("other", &self.other_requests)]) {
            writeln!(text, "assay_ml_api_requests_total{{status=\"{status}\"}} {}", get(count))?;
        }
        writeln!(text, "# HELP assay_ml_api_transactions_total Scored transactions by prediction.")?;
        writeln!(text, "# TYPE assay_ml_api_transactions_total counter")?;
        for (prediction, count) in [("fraud", &self.fraud), ("legitimate", &self.legitimate)] {
            writeln!(text, "assay_ml_api_transactions_total{{prediction=\"{prediction}\"}} {}", get(count))?;
        }
        let name = "assay_ml_api_request_duration_seconds";
        writeln!(text, "# HELP {name} From the end of the request's body to the response.")?;
        writeln!(text, "# TYPE {name} histogram")?;
        let mut count = 0;
        for (bound, bucket) in BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]).zip(&self.latency) {
            count += get(bucket);
            writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
        }
        let micros = get(&self.latency_micros);
        writeln!(text, "{name}_sum {}.{:06}", micros / 1_000_000, micros % 1_000_000)?;
        writeln!(text, "{name}_count {count}")?;
        writeln!(text, "# HELP assay_ml_api_model_info The model that scores.")?;
        writeln!(text, "# TYPE assay_ml_api_model_info gauge")?;
        let version = model_version.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        writeln!(text, "assay_ml_api_model_info{{version=\"{version}\"}} 1")
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rendered_in_prometheus_format() {
        let metrics = Metrics::default();
        metrics.record_request(StatusCode::OK, Duration::from_millis(1));
        metrics.record_request(StatusCode::OK, Duration::from_micros(1_001));
        metrics.record_request(StatusCode::UNPROCESSABLE_ENTITY, Duration::from_mins(1));
        metrics.record_request(StatusCode::IM_A_TEAPOT, Duration::ZERO);
        metrics.record_transactions(100, 3);
        let text = metrics.render("a\"b");
        for line in [
            "assay_ml_api_requests_total{status=\"200\"} 2",
            "assay_ml_api_requests_total{status=\"422\"} 1",
            "assay_ml_api_requests_total{status=\"400\"} 0",
            "assay_ml_api_requests_total{status=\"other\"} 1",
            "assay_ml_api_transactions_total{prediction=\"fraud\"} 3",
            "assay_ml_api_transactions_total{prediction=\"legitimate\"} 97",
            "assay_ml_api_request_duration_seconds_bucket{le=\"0.0005\"} 1",
            "assay_ml_api_request_duration_seconds_bucket{le=\"0.001\"} 2",
            "assay_ml_api_request_duration_seconds_bucket{le=\"0.0025\"} 3",
            "assay_ml_api_request_duration_seconds_bucket{le=\"10\"} 3",
            "assay_ml_api_request_duration_seconds_bucket{le=\"+Inf\"} 4",
            "assay_ml_api_request_duration_seconds_sum 60.002001",
            "assay_ml_api_request_duration_seconds_count 4",
            "assay_ml_api_model_info{version=\"a\\\"b\"} 1",
        ] {
            assert!(text.lines().any(|actual| actual == line), "no `{line}` in\n{text}");
        }
    }
}
