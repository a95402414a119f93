//! The spans of messages, by the conventions of OpenTelemetry: `publish`, `process`, and `commit` for what is worked on together.
//!
//! `traceparent` carries the context of the `publish` span, which `process` continues. What several messages are worked on in
//! together is linked to each, and each to it.

use assay_trace::{Origins, TARGET, TraceContext, current};
use tracing::field::Empty;
use tracing::{Span, trace_span};

use crate::{Broker, Delivery, Message, PublishError, Route};

/// Publishes once, in a span of its own, whose context the message carries.
pub async fn publish_once(broker: &dyn Broker, route: Route, message: Message) -> Result<(), PublishError> {
    let (message, span) = begin_publish(broker, route, message);
    let published = broker.publish(route, message).await;
    if published.is_err() {
        span.in_scope(|| assay_trace::fail("not_confirmed"));
    }
    published
}

/// The span of publishing a message, and the message with its context. While nothing is traced, a context that it has stays.
pub(crate) fn begin_publish(broker: &dyn Broker, route: Route, mut message: Message) -> (Message, Span) {
    let subject = Subject::of(route, &message);
    let span = trace_span!(
        target: TARGET,
        "publish",
        otel.name = %format_args!("publish {route}"),
        otel.kind = "producer",
        messaging.system = system(broker),
        messaging.destination.name = %route,
        messaging.operation.name = "publish",
        "messaging.operation.type" = "send",
        messaging.message.id = subject.id,
        assay.run_id = subject.run_id,
        assay.chunk = subject.chunk,
    );
    if let Some(context) = own_context(&span) {
        message.traceparent = Some(context.to_string());
    }
    (message, span)
}

/// The span of the work on a message, until it is settled.
pub(crate) fn process_span(broker: &dyn Broker, route: Route, message: &Message) -> Span {
    let subject = Subject::of(route, message);
    trace_span!(
        target: TARGET,
        "process",
        otel.name = %format_args!("process {route}"),
        otel.kind = "consumer",
        otel.parent = message.traceparent.as_deref(),
        otel.links = Empty,
        messaging.system = system(broker),
        messaging.destination.name = %route,
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.message.id = subject.id,
        assay.run_id = subject.run_id,
        assay.chunk = subject.chunk,
        assay.attempt = message.attempt,
    )
}

/// The span of the work on several messages together.
pub(crate) fn commit_span(broker: &dyn Broker, route: Route, deliveries: &[Delivery]) -> Span {
    let origins = Origins::of(deliveries.iter().filter_map(|delivery| context_of(&delivery.message)));
    let span = trace_span!(
        target: TARGET,
        "commit",
        otel.name = %format_args!("commit {route}"),
        otel.kind = "consumer",
        otel.parent = origins.parent(),
        otel.links = origins.links(),
        messaging.system = system(broker),
        messaging.destination.name = %route,
        messaging.operation.name = "commit",
        "messaging.operation.type" = "process",
        messaging.batch.message_count = deliveries.len(),
    );
    if let Some(context) = own_context(&span) {
        for delivery in deliveries {
            delivery.span.record("otel.links", tracing::field::display(context));
        }
    }
    span
}

/// The context of a span; none while nothing is traced.
fn own_context(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() { None } else { span.in_scope(current) }
}

fn context_of(message: &Message) -> Option<TraceContext> {
    message.traceparent.as_deref()?.parse().ok()
}

fn system(broker: &dyn Broker) -> &'static str {
    if broker.survives_restart() { "rabbitmq" } else { "in_process" }
}

/// What a span says of its message. Identities of live messages are those of their senders, and may be those of transactions.
struct Subject<'a> {
    id: Option<&'a str>,
    run_id: Option<&'a str>,
    chunk: Option<u64>,
}

impl<'a> Subject<'a> {
    fn of(route: Route, message: &'a Message) -> Self {
        if route.lane == assay_transaction::Lane::Realtime {
            return Self { id: None, run_id: None, chunk: None };
        }
        let (run_id, id) = (message.run_id.as_str(), message.id.as_str());
        let chunk = id.strip_prefix(run_id).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        Self { id: Some(id), run_id: Some(run_id), chunk }
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::Lane;

    use super::*;
    use crate::QueueKind;

    #[test]
    fn a_span_names_chunks_and_no_live_messages() {
        let route = |lane| Route { kind: QueueKind::Transactions, lane };
        let message = Message::new("january/7", "assay.chunk.v1", &"january".parse().unwrap(), "");
        let Subject { id, run_id, chunk } = Subject::of(route(Lane::Batch), &message);
        assert_eq!((id, run_id, chunk), (Some("january/7"), Some("january"), Some(7)));
        let Subject { id, run_id, chunk } = Subject::of(route(Lane::Realtime), &message);
        assert_eq!((id, run_id, chunk), (None, None, None));
        let replay = Message::new("january/replay/7", "assay.replay.v1", &"january".parse().unwrap(), "");
        assert_eq!(Subject::of(route(Lane::Batch), &replay).chunk, None);
    }
}
