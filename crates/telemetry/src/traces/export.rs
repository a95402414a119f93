//! Sends spans to the collector: from a bounded queue, in batches, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use prost::Message as _;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::settings::TraceSettings;

/// Spans that wait to be sent: at about 1 kB each, some MB.
const MAX_QUEUED: usize = 4096;
/// Most spans of a request.
const MAX_BATCH: usize = 512;
/// Longest time that a span waits for others to be sent with.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Longest time for a request. The next spans wait meanwhile.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Dropped spans are reported no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Most links of a span: the commit of live transactions has one for each message.
const MAX_LINKS: u32 = 1024;

const EXPORTED: &str = "assay_traces_spans_exported_total";
const DROPPED: &str = "assay_traces_spans_dropped_total";

/// The task that sends spans.
pub(super) struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
    dropped: Arc<DroppedSpans>,
}

/// Starts the task, and returns what makes the spans.
pub(super) fn start(settings: TraceSettings) -> Result<(Exporting, SdkTracer), String> {
    metrics::describe_counter!(EXPORTED, "Spans that the collector has accepted.");
    metrics::describe_counter!(DROPPED, "Spans that were dropped, as the collector does not take them or is too slow.");
    metrics::counter!(EXPORTED).absolute(0);
    metrics::counter!(DROPPED).absolute(0);
    let (sender, spans) = mpsc::channel(MAX_QUEUED);
    let (stop, dropped) = (CancellationToken::new(), Arc::<DroppedSpans>::default());
    let collector = Collector {
        client: client(&settings)?,
        url: settings.url,
        resource: (&settings.resource).into(),
        dropped: Arc::clone(&dropped),
    };
    let processor = SpanQueue { spans: sender, dropped: Arc::clone(&dropped) };
    // The tracer keeps its provider.
    let tracer = SdkTracerProvider::builder()
        .with_sampler(settings.sampler)
        .with_max_links_per_span(MAX_LINKS)
        .with_resource(settings.resource)
        .with_span_processor(processor)
        .build()
        .tracer("assay");
    let task = tokio::spawn(collector.export(spans, stop.clone()));
    Ok((Exporting { task, stop, dropped }, tracer))
}

fn client(settings: &TraceSettings) -> Result<Client, String> {
    // If the process has installed one before, that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder();
    // Works on a machine without root certificates.
    let client = if settings.url.scheme() == "http" { client.tls_certs_only([]) } else { client };
    client
        .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
        .default_headers(settings.headers.clone())
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| format!("cannot send spans to OTEL_EXPORTER_OTLP_ENDPOINT: {}", error.without_url()))
}

impl Exporting {
    /// Sends what is left, within `limit`.
    pub(super) async fn finish(mut self, limit: Duration) {
        self.stop.cancel();
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the last spans are not sent, as the collector at OTEL_EXPORTER_OTLP_ENDPOINT is slow");
        }
        self.dropped.report("the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take them");
    }
}

/// Counts what is dropped.
#[derive(Debug, Default)]
struct DroppedSpans {
    unreported: AtomicU64,
}

impl DroppedSpans {
    fn count(&self, spans: usize) {
        metrics::counter!(DROPPED).increment(spans as u64);
        self.unreported.fetch_add(spans as u64, Ordering::Relaxed);
    }

    fn report(&self, cause: &str) {
        let spans = self.unreported.swap(0, Ordering::Relaxed);
        if spans > 0 {
            tracing::warn!("{spans} spans are dropped: {cause}");
        }
    }
}

/// Takes ended spans. Never waits.
#[derive(Debug)]
struct SpanQueue {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<DroppedSpans>,
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.count(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Collector {
    client: Client,
    url: Url,
    resource: ResourceAttributesWithSchema,
    dropped: Arc<DroppedSpans>,
}

impl Collector {
    /// Sends spans until `stop`, and then those that are left.
    async fn export(self, mut spans: mpsc::Receiver<SpanData>, stop: CancellationToken) {
        let mut reported: Option<Instant> = None;
        while let Some(batch) = next_batch(&mut spans, &stop).await {
            let size = batch.len();
            match self.send(batch).await {
                Ok(()) => metrics::counter!(EXPORTED).increment(size as u64),
                Err(cause) => {
                    self.dropped.count(size);
                    if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                        reported = Some(Instant::now());
                        self.dropped.report(&format!("{cause}: check OTEL_EXPORTER_OTLP_ENDPOINT"));
                    }
                }
            }
        }
    }

    /// Sends a batch once: with spans waiting behind it, a second attempt would cost others.
    async fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let response = request.send().await.map_err(|error| {
            let cause = if error.is_timeout() {
                "the collector does not answer in time"
            } else {
                "the collector is unreachable"
            };
            cause.to_owned()
        })?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("the collector answers {}", status.as_u16())) }
    }
}

/// The next batch; none once all are taken after `stop`.
async fn next_batch(spans: &mut mpsc::Receiver<SpanData>, stop: &CancellationToken) -> Option<Vec<SpanData>> {
    let mut batch = Vec::new();
    if let Some(first) = stop.run_until_cancelled(spans.recv()).await {
        batch.push(first?);
    }
    let due = Instant::now() + MAX_WAIT;
    while batch.len() < MAX_BATCH
        && let Ok(Some(Some(span))) = timeout_at(due, stop.run_until_cancelled(spans.recv())).await
    {
        batch.push(span);
    }
    while batch.len() < MAX_BATCH
        && stop.is_cancelled()
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    (!batch.is_empty() || !stop.is_cancelled()).then_some(batch)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::TraceOptions;
    use crate::traces::settings::TraceSettings;

    #[tokio::test]
    async fn a_full_queue_drops_what_comes_and_waits_for_nothing() {
        let (sender, mut spans) = mpsc::channel(2);
        let dropped = Arc::<DroppedSpans>::default();
        let queue = SpanQueue { spans: sender, dropped: Arc::clone(&dropped) };
        let tracer = SdkTracerProvider::builder().with_span_processor(queue).build().tracer("test");
        for name in ["a", "b", "c", "d", "e"] {
            tracer.start(name).end();
        }
        assert_eq!(dropped.unreported.load(Ordering::Relaxed), 3);
        let stop = CancellationToken::new();
        stop.cancel();
        let names = |batch: Vec<SpanData>| batch.into_iter().map(|span| span.name.into_owned()).collect::<Vec<_>>();
        assert_eq!(next_batch(&mut spans, &stop).await.map(names), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(next_batch(&mut spans, &stop).await.is_none());
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_does_not_keep_the_program() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let options = TraceOptions { otel_exporter_otlp_endpoint: Some(endpoint.into()), ..TraceOptions::default() };
        let settings = TraceSettings::read(&options, "test").unwrap().unwrap();
        let (exporting, tracer) = start(settings).unwrap();
        tracer.start("a").end();
        let (_silent, _) = listener.accept().await.unwrap();
        exporting.finish(Duration::from_millis(10)).await;
    }
}
