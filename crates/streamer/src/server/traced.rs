//! The trace of a request, by the conventions of OpenTelemetry for HTTP servers. It continues that of the client, if there is one.

use assay_trace::TARGET;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, Level, event, trace_span};

/// Traces a request. Its path may hold an id, so only its route is named.
pub(super) async fn trace_request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    // Any other method is answered with an error, and may be any text.
    let method = match request.method().as_str() {
        method @ ("GET" | "POST") => method,
        _ => "_OTHER",
    };
    let span = trace_span!(
        target: TARGET,
        "request",
        otel.name = %format_args!("{method} {}", route.unwrap_or("other")),
        otel.kind = "server",
        otel.parent = request.headers().get("traceparent").and_then(|context| context.to_str().ok()),
        http.request.method = method,
        http.route = route,
    );
    let watched = async {
        let response = next.run(request).await;
        event!(target: TARGET, Level::TRACE, { http.response.status_code = response.status().as_u16() });
        if response.status().is_server_error() {
            assay_trace::fail("status");
        }
        response
    };
    watched.instrument(span).await
}
