//! The trace of a request to the ML API, by the conventions of OpenTelemetry for HTTP clients. The API learns its context, so that
//! its own spans belong to the same trace.

use assay_trace::TARGET;
use reqwest::{RequestBuilder, StatusCode};
use tracing::{Instrument as _, Level, event, trace_span};
use url::Url;

use super::http::RequestError;
use crate::failure::Symptom;

/// Traces an exchange with the API at this address, of which no credentials are shown.
pub(super) async fn traced<T>(
    url: &Url,
    exchange: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let span = trace_span!(
        target: TARGET,
        "POST",
        otel.kind = "client",
        http.request.method = "POST",
        server.address = url.host_str(),
        server.port = url.port_or_known_default(),
        url.path = url.path(),
    );
    let watched = async {
        let ended = exchange.await;
        if let Err(error) = &ended {
            assay_trace::fail(error_type(&error.symptom));
        }
        ended
    };
    watched.instrument(span).await
}

/// Adds the status to the span of the exchange.
pub(super) fn record_status(status: StatusCode) {
    event!(target: TARGET, Level::TRACE, { http.response.status_code = status.as_u16() });
}

/// The request with the context of its span, if something is traced.
pub(super) fn with_context(request: RequestBuilder) -> RequestBuilder {
    match assay_trace::current() {
        Some(context) => request.header("traceparent", context.to_string()),
        None => request,
    }
}

fn error_type(symptom: &Symptom) -> &'static str {
    match symptom {
        Symptom::Unreachable(_) => "unreachable",
        Symptom::ConnectionLost => "connection_lost",
        Symptom::Tls(_) => "tls",
        Symptom::TimedOutUnhealthy | Symptom::TimedOutHealthy => "timeout",
        Symptom::Status { .. } => "status",
        Symptom::Unauthorized { .. } => "unauthorized",
        _ => "unusable_response",
    }
}
