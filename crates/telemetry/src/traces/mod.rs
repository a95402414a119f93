//! Traces to an OpenTelemetry collector, if the program is built with the feature `otlp` and `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! `layer` turns spans of [`assay_trace::TARGET`] into those of OpenTelemetry, and `export` sends them. Without the feature,
//! this module only says that it is missing.
//!
//! Guarantees: nothing waits for the collector, and nothing fails because of it. What it does not take in time is dropped, counted
//! and reported now and then; the program ends at most [`FLUSH`] later for it.

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod layer;
mod options;
#[cfg(feature = "otlp")]
mod settings;

#[cfg(feature = "otlp")]
use std::time::Duration;

use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt as _};

pub use self::options::TraceOptions;

/// Longest time at the end of the program for spans that are not sent yet.
#[cfg(feature = "otlp")]
const FLUSH: Duration = Duration::from_secs(3);

/// The subscriber of a program: what is logged and, once [`start`] says so, what is traced.
#[cfg(feature = "otlp")]
pub(crate) fn subscriber<L: Layer<Registry> + Send + Sync>(
    logs: L,
) -> Layered<impl Layer<Layered<L, Registry>>, Layered<L, Registry>> {
    tracing_subscriber::registry().with(logs).with(layer::traced())
}

/// The subscriber of a program: what is logged.
#[cfg(not(feature = "otlp"))]
pub(crate) fn subscriber<L: Layer<Registry>>(logs: L) -> Layered<L, Registry> {
    tracing_subscriber::registry().with(logs)
}

/// The traces of a program, until they are finished.
pub(crate) struct Traces {
    #[cfg(feature = "otlp")]
    exporting: Option<export::Exporting>,
}

/// Begins to trace, if that is set. `program` is the name of the service, unless another one is set.
///
/// # Errors
///
/// A setting is wrong.
#[cfg(feature = "otlp")]
pub(crate) fn start(options: &TraceOptions, program: &str) -> Result<Traces, String> {
    let Some(settings) = settings::TraceSettings::read(options, program)? else {
        return Ok(Traces { exporting: None });
    };
    let (exporting, tracer) = export::start(settings)?;
    layer::trace_with(tracer);
    Ok(Traces { exporting: Some(exporting) })
}

/// Says that the feature is missing, if traces are set. That is no error: the variable may be meant for all programs of a cluster.
///
/// # Errors
///
/// None.
#[cfg(not(feature = "otlp"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature, settings may be wrong")]
pub(crate) fn start(options: &TraceOptions, _program: &str) -> Result<Traces, String> {
    if options.endpoint().is_some() {
        tracing::warn!("nothing is traced: build with `--features otlp`, or unset OTEL_EXPORTER_OTLP_ENDPOINT");
    }
    Ok(Traces {})
}

impl Traces {
    /// Sends the spans that are not sent yet.
    #[cfg(feature = "otlp")]
    pub(crate) async fn finish(self) {
        if let Some(exporting) = self.exporting {
            exporting.finish(FLUSH).await;
        }
    }

    /// Nothing is traced.
    #[cfg(not(feature = "otlp"))]
    #[expect(clippy::unused_async, reason = "with the feature, spans are sent")]
    pub(crate) async fn finish(self) {}
}
