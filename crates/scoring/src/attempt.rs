//! One attempt: a request is written and sent, and its response is read. What that means for the rows is decided in
//! [`request`](crate::request) and [`canary`](crate::canary).
//!
//! Every attempt is measured once, whatever its outcome: for metrics, for the number of requests at a time (`concurrency`) and for the
//! budget of retries.

use assay_transaction::EncodedTransaction;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::health::HealthStatus;
use crate::api::http::{PredictResponse, RequestError};
use crate::api::protocol::{MISSING, Protocol, RowResult, fill_versions, is_storable};
use crate::canary::Tick;
use crate::concurrency::AttemptOutcome;
use crate::failure::Symptom;
use crate::metrics;
use crate::permits::ApiPermit;
use crate::request::{ClientState, RequestExecutor};

impl RequestExecutor<'_> {
    /// Sends one request, at `sent` in the order of events, holding `permit` meanwhile.
    pub(crate) async fn send<'b>(
        self,
        rows: impl Iterator<Item = (Uuid, &'b EncodedTransaction)> + Clone,
        sent: Tick,
        permit: ApiPermit,
    ) -> Result<Vec<RowResult>, RequestError> {
        let ClientState {
            http,
            protocol,
            successes,
            counters,
            concurrency,
            retry_budget,
            scale,
            model_versions,
            provenance,
            ..
        } = self.shared;
        self.shared.learn_model().await?;
        let ids: Vec<Uuid> = rows.clone().map(|(id, _)| id).collect();
        let body = protocol.write_request(rows.clone().map(|(_, transaction)| transaction));
        counters.requests.add(1);
        retry_budget.count_request();
        let attempt = concurrency.begin();
        let began = Instant::now();
        let response = {
            let (_pending, _in_flight) = (successes.begin_request(), metrics::InFlightGauge::begin(self.lane));
            let response = http.predict(body.clone(), Protocol::max_response_bytes(ids.len())).await;
            drop(permit);
            response
        };
        let took = began.elapsed();
        let results = match self.read(response, &ids, &body).await {
            Ok(mut results) => model_versions
                .check(&results)
                .and_then(|()| scale.apply(&mut results, rows, sent))
                .map(|()| provenance.complete(&mut results))
                .map(|()| results)
                .map_err(RequestError::from),
            Err(error) => Err(error),
        };
        let class = match &results {
            Ok(rows) => rows.iter().any(Result::is_err).then(|| symptom_of_rows(rows).class()),
            Err(error) => Some(error.symptom.class()),
        };
        metrics::record_response(self.lane, took, class);
        attempt.end(AttemptOutcome::of(&results, took));
        results
    }

    /// Reads a response. After a time-out, `/health` shows whether the rows may be at fault, if only by responding at all.
    async fn read(
        self,
        response: Result<PredictResponse, RequestError>,
        ids: &[Uuid],
        request: &[u8],
    ) -> Result<Vec<RowResult>, RequestError> {
        match response {
            Ok(response) => self
                .shared
                .protocol
                .read_response(&response.body, ids)
                .map(|results| with_version(results, response.model_version()))
                .map_err(|error| error.with_content_type(response.other_content_type()))
                .map_err(|error| self.shared.symptom_of_read(error.without_values(request)).into()),
            Err(RequestError { symptom: Symptom::TimedOutHealthy, .. }) => {
                let health = self.health().await;
                let symptom =
                    if health.is_responsive() { Symptom::TimedOutHealthy } else { Symptom::TimedOutUnhealthy };
                Err(RequestError { symptom, retry_after: health.retry_after() })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn health(self) -> HealthStatus {
        let ClientState { http, health_check, policy, breaker, .. } = self.shared;
        health_check.ask(http, policy.health_timeout, breaker.outages()).await
    }
}

/// Predictions that name no version of the model have that of the response's header.
fn with_version(mut results: Vec<RowResult>, version: Option<&str>) -> Vec<RowResult> {
    if let Some(version) = version.filter(|version| is_storable(version)) {
        fill_versions(&mut results, &version.into());
    }
    results
}

pub(crate) fn symptom_of_rows(rows: &[RowResult]) -> Symptom {
    let why = rows.iter().find_map(|row| row.as_ref().err().cloned());
    Symptom::Incomplete(why.unwrap_or(MISSING.into()))
}
