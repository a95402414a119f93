//! Traces, as every crate sees them: spans of `tracing` under one [`TARGET`], and the context that travels with messages.
//!
//! Nothing here knows of OpenTelemetry. Built with its feature `otlp`, `telemetry` turns spans of the target into those of
//! OpenTelemetry, and tells each thread which of them it is in ([`enter`], [`exit`]); else they cost one comparison each. So seams
//! and stages need no feature. The fields of a span are its attributes, except [`fields`].
//!
//! Guarantees for all who make spans: one for each chunk, message, request and commit, never for a row; no content of rows, no id of
//! a transaction and no secret in them.

mod context;
mod current;
mod origins;

pub use context::{InvalidContext, TraceContext};
pub use current::{current, enter, exit};
pub use origins::Origins;

/// The target of spans that are traced, and of events that add attributes to the current one.
pub const TARGET: &str = "otlp";

/// Fields of a span with a meaning of their own.
pub mod fields {
    /// The name of the span, if it is not constant.
    pub const NAME: &str = "otel.name";
    /// `producer`, `consumer`, `client` or `server`; else it is internal.
    pub const KIND: &str = "otel.kind";
    /// The context that the span continues, as `traceparent` has it, in place of that of the span around it.
    pub const PARENT: &str = "otel.parent";
    /// Contexts that the span is linked to, separated by commas.
    pub const LINKS: &str = "otel.links";
    /// What made the work fail, in a few constant words; the span counts as failed.
    pub const ERROR: &str = "error.type";
}

/// Marks the current span as failed.
pub fn fail(kind: &str) {
    tracing::event!(target: TARGET, tracing::Level::TRACE, { "error.type" = kind });
}
