//! The settings of traces: the standard variables of OpenTelemetry.

use std::path::PathBuf;

use assay_connect::{ExposeSecret, SecretString, non_blank};
use clap::{Args, ValueEnum};

/// Where spans are sent, and which.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceOptions {
    /// Address of an OpenTelemetry collector, such as http://localhost:4318; spans go to /v1/traces below it [default: nothing is traced]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<SecretString>,
    /// Protocol of the collector: http/protobuf is the only one
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_enum, default_value_t, value_name = "PROTOCOL")]
    pub otel_exporter_otlp_protocol: OtlpProtocol,
    /// Headers of each request to the collector, such as `api-key=…`; several are separated by commas, values percent-encoded
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true, value_name = "HEADERS")]
    pub otel_exporter_otlp_headers: Option<SecretString>,
    /// File to read OTEL_EXPORTER_OTLP_HEADERS from, such as a mounted secret
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS_FILE", value_name = "PATH")]
    pub otel_exporter_otlp_headers_file: Option<PathBuf>,
    /// Name of the service in traces [default: assay-PROGRAM]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otel_service_name: Option<String>,
    /// Which traces are recorded; with `parentbased_`, the first span of a trace decides for all programs
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value_t, value_name = "SAMPLER")]
    pub otel_traces_sampler: TraceSampler,
    /// Share of the traces that `traceidratio` records, from 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = parse_ratio, value_name = "RATIO")]
    pub otel_traces_sampler_arg: f64,
}

/// How spans are encoded and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OtlpProtocol {
    /// Protocol buffers over HTTP.
    #[default]
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// The samplers that OpenTelemetry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TraceSampler {
    /// Every span.
    #[value(name = "always_on")]
    AlwaysOn,
    /// None.
    #[value(name = "always_off")]
    AlwaysOff,
    /// A share of the traces.
    #[value(name = "traceidratio")]
    Ratio,
    /// As the first span of the trace; every trace that begins here.
    #[default]
    #[value(name = "parentbased_always_on")]
    ParentOrOn,
    /// As the first span of the trace; no trace that begins here.
    #[value(name = "parentbased_always_off")]
    ParentOrOff,
    /// As the first span of the trace; a share of the traces that begin here.
    #[value(name = "parentbased_traceidratio")]
    ParentOrRatio,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            otel_exporter_otlp_endpoint: None,
            otel_exporter_otlp_protocol: OtlpProtocol::default(),
            otel_exporter_otlp_headers: None,
            otel_exporter_otlp_headers_file: None,
            otel_service_name: None,
            otel_traces_sampler: TraceSampler::default(),
            otel_traces_sampler_arg: 1.0,
        }
    }
}

impl TraceOptions {
    /// The address of the collector. It may hold a password.
    pub(super) fn endpoint(&self) -> Option<&str> {
        non_blank(self.otel_exporter_otlp_endpoint.as_ref().map(ExposeSecret::expose_secret))
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 0 to 1, such as 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_share() {
        for text in ["0", "1", "0.25", " 1e-3 "] {
            assert!(parse_ratio(text).is_ok(), "{text}");
        }
        for text in ["", "2", "-0.1", "NaN", "10%"] {
            assert!(parse_ratio(text).unwrap_err().contains("0 to 1"), "{text}");
        }
    }
}
