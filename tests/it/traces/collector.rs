//! An OTLP receiver, and the spans that it has received.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use tokio::net::TcpListener;

use assay_tests::Program;

/// The header that programs must send; its value is a secret.
const HEADERS: &str = "api-key=a%20secret";

/// A span, as it was received.
#[derive(Debug, Clone)]
pub(super) struct SeenSpan {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty for the first span of a trace.
    pub(super) parent: String,
    pub(super) links: Vec<String>,
    pub(super) has_failed: bool,
    attributes: BTreeMap<String, String>,
}

impl SeenSpan {
    /// An attribute; empty if it is missing.
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// A running receiver.
pub(super) struct Collector {
    url: String,
    seen: Arc<Mutex<Vec<SeenSpan>>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
        let seen = Arc::<Mutex<Vec<SeenSpan>>>::default();
        let router = Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// Tells a program to send its spans here.
    pub(super) fn known_to(&self, program: Program) -> Program {
        program.env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url).env("OTEL_EXPORTER_OTLP_HEADERS", HEADERS)
    }

    /// What was received so far. A program has sent all of its spans when it has ended.
    pub(super) fn seen(&self) -> Vec<SeenSpan> {
        self.seen.lock().unwrap().clone()
    }
}

async fn receive(State(seen): State<Arc<Mutex<Vec<SeenSpan>>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let is_allowed = headers.get("api-key").is_some_and(|key| key == "a secret");
    if !is_allowed || headers.get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut seen = seen.lock().unwrap();
    for resource in request.resource_spans {
        let service = resource.resource.map(|resource| named(resource.attributes)).unwrap_or_default();
        let service = service.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(SeenSpan {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                // 2 is an error.
                has_failed: span.status.is_some_and(|status| status.code == 2),
                attributes: named(span.attributes),
            });
        }
    }
    StatusCode::OK
}

fn named(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
