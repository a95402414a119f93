//! Metrics of the streamer. Those of the broker are in `queue`.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, describe_counter, describe_histogram, histogram};
use tokio::time::Instant;

const REQUESTS: &str = "assay_streamer_requests_total";
const DURATION: &str = "assay_streamer_request_duration_seconds";
const TRANSACTIONS: &str = "assay_streamer_transactions_total";

/// Whether transactions are confirmed and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptanceOutcome {
    Accepted,
    Refused,
}

impl AcceptanceOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// Describes the metrics, and sets them to 0.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests, by path and status.");
    describe_histogram!(DURATION, "Duration of requests, including waits for predictions, by path.");
    describe_counter!(TRANSACTIONS, "Valid transactions, by whether they were accepted (confirmed and counted).");
    for acceptance in [AcceptanceOutcome::Accepted, AcceptanceOutcome::Refused] {
        counter!(TRANSACTIONS, "outcome" => acceptance.label()).absolute(0);
    }
}

/// Counts a request. Unknown paths are counted together, as clients may send any number of them.
pub(crate) async fn count_request(request: Request, next: Next) -> Response {
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    histogram!(DURATION, "path" => path.clone()).record(began.elapsed());
    counter!(REQUESTS, "path" => path, "code" => response.status().as_str().to_owned()).increment(1);
    response
}

pub(crate) fn transactions(acceptance: AcceptanceOutcome, count: u64) {
    counter!(TRANSACTIONS, "outcome" => acceptance.label()).increment(count);
}
