//! Spans of `tracing` under [`TARGET`] as spans of OpenTelemetry.
//!
//! A span continues the trace that its field [`PARENT`](assay_trace::fields::PARENT) names, else that of the span around it; a context
//! that cannot be read begins a trace. The first span decides whether the trace is recorded. Events of the target add attributes to
//! the span they are in.

use std::fmt;
use std::sync::OnceLock;

use assay_trace::{TARGET, TraceContext, fields};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceState, Tracer as _,
};
use opentelemetry::{Context as SpanScope, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// What makes spans, once it is known whether something is traced.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces from now on. Only the first call in a process has an effect.
pub(super) fn trace_with(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// The layer of traced spans. Nothing passes its filter before [`trace_with`].
pub(super) fn traced<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let is_traced = |metadata: &Metadata<'_>| metadata.target() == TARGET;
    let filter = dynamic_filter_fn(move |metadata, _| is_traced(metadata) && TRACER.get().is_some());
    // What is not of the target costs nothing.
    SpanLayer.with_filter(filter.with_callsite_filter(move |metadata| {
        if is_traced(metadata) {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }))
}

struct SpanLayer;

/// A span that has not ended, as an extension of the span of `tracing`.
struct OpenSpan {
    span: Span,
    context: TraceContext,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(tracer), Some(span)) = (TRACER.get(), context.span(id)) else { return };
        let mut said = SaidFields::default();
        attributes.record(&mut said);
        let parent = match said.parent {
            NamedParent::Around => span.parent().and_then(|parent| context_of(&parent)),
            NamedParent::Other(parent) => parent,
        };
        let scope = SpanScope::new();
        let scope = match parent {
            Some(parent) => scope.with_remote_span_context(span_context(parent)),
            None => scope,
        };
        let name = said.name.take().unwrap_or_else(|| span.name().to_owned());
        let builder = SpanBuilder::from_name(name).with_kind(said.kind.take().unwrap_or(SpanKind::Internal));
        let mut started = tracer.build_with_context(builder, &scope);
        said.apply(&mut started);
        let own = started.span_context();
        let own = TraceContext {
            trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(own.span_id().to_bytes()),
            is_sampled: own.is_sampled(),
        };
        span.extensions_mut().insert(OpenSpan { span: started, context: own });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut said = SaidFields::default();
            values.record(&mut said);
            add(said, &span);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if let Some(span) = context.event_span(event) {
            let mut said = SaidFields::default();
            event.record(&mut said);
            add(said, &span);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(own) = context.span(id).and_then(|span| context_of(&span)) {
            assay_trace::enter(id.into_u64(), own);
        }
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        assay_trace::exit(id.into_u64());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(mut open) = context.span(&id).and_then(|span| span.extensions_mut().remove::<OpenSpan>()) {
            open.span.end();
        }
    }
}

fn context_of<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<TraceContext> {
    span.extensions().get::<OpenSpan>().map(|open| open.context)
}

fn add<'a, S: LookupSpan<'a>>(said: SaidFields, span: &SpanRef<'a, S>) {
    if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
        said.apply(&mut open.span);
    }
}

fn span_context(TraceContext { trace_id, span_id, is_sampled }: TraceContext) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(is_sampled);
    SpanContext::new(trace_id.into(), span_id.into(), flags, true, TraceState::default())
}

/// What a span says of its parent.
#[derive(Default)]
enum NamedParent {
    /// The span around it.
    #[default]
    Around,
    /// Another one; none if that cannot be read.
    Other(Option<TraceContext>),
}

/// What the fields of a span say.
#[derive(Default)]
struct SaidFields {
    name: Option<String>,
    kind: Option<SpanKind>,
    parent: NamedParent,
    links: Vec<SpanContext>,
    has_failed: bool,
    attributes: Vec<KeyValue>,
}

impl SaidFields {
    fn apply(self, span: &mut Span) {
        span.set_attributes(self.attributes);
        for link in self.links {
            span.add_link(link, Vec::new());
        }
        if self.has_failed {
            span.set_status(Status::error(""));
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            fields::NAME => self.name = Some(text.to_owned()),
            fields::KIND => self.kind = kind(text),
            fields::PARENT => self.parent = NamedParent::Other(text.parse().ok()),
            fields::LINKS => {
                self.links.extend(text.split(',').filter_map(|link| link.parse().ok()).map(span_context));
            }
            name => {
                self.has_failed |= name == fields::ERROR;
                self.attributes.push(KeyValue::new(name, text.to_owned()));
            }
        }
    }
}

fn kind(text: &str) -> Option<SpanKind> {
    match text {
        "producer" => Some(SpanKind::Producer),
        "consumer" => Some(SpanKind::Consumer),
        "client" => Some(SpanKind::Client),
        "server" => Some(SpanKind::Server),
        _ => None,
    }
}

impl Visit for SaidFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
