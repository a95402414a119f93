//! The settings of traces, checked: an address, headers, a sampler, and what the program is called.

use assay_connect::{ExposeSecret as _, SecretSource};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::TraceOptions;
use super::options::TraceSampler;

/// Where spans go below the address of a collector.
const PATH: &str = "v1/traces";

pub(super) struct TraceSettings {
    /// Where spans are sent. It may hold a password.
    pub(super) url: Url,
    /// Headers of each request, marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) sampler: Sampler,
    /// What the spans say of the program.
    pub(super) resource: Resource,
}

impl TraceSettings {
    /// The settings; none if nothing is to be traced. No error shows a secret.
    pub(super) fn read(options: &TraceOptions, program: &str) -> Result<Option<Self>, String> {
        let Some(endpoint) = options.endpoint() else { return Ok(None) };
        let headers = SecretSource {
            name: "OTEL_EXPORTER_OTLP_HEADERS",
            value: options.otel_exporter_otlp_headers.as_ref(),
            file: options.otel_exporter_otlp_headers_file.as_deref(),
        };
        let headers = match headers.read().map_err(|error| error.to_string())? {
            Some(headers) => parse_headers(headers.expose_secret())?,
            None => HeaderMap::new(),
        };
        let service = options.otel_service_name.clone().unwrap_or_else(|| match program {
            "assay" => "assay".to_owned(),
            program => format!("assay-{program}"),
        });
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Some(Self { url: parse_endpoint(endpoint)?, headers, sampler: sampler(options), resource }))
    }
}

fn sampler(options: &TraceOptions) -> Sampler {
    let ratio = Sampler::TraceIdRatioBased(options.otel_traces_sampler_arg);
    match options.otel_traces_sampler {
        TraceSampler::AlwaysOn => Sampler::AlwaysOn,
        TraceSampler::AlwaysOff => Sampler::AlwaysOff,
        TraceSampler::Ratio => ratio,
        TraceSampler::ParentOrOn => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
        TraceSampler::ParentOrOff => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
        TraceSampler::ParentOrRatio => Sampler::ParentBased(Box::new(ratio)),
    }
}

fn parse_endpoint(endpoint: &str) -> Result<Url, String> {
    let wrong = |problem| {
        format!("OTEL_EXPORTER_OTLP_ENDPOINT {problem}: give the address of a collector, such as http://localhost:4318")
    };
    let mut url: Url = endpoint.parse().map_err(|_| wrong("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("is neither http:// nor https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment"));
    }
    url.set_path(&format!("{}/{PATH}", url.path().trim_end_matches('/')));
    Ok(url)
}

/// `name=value,name=value`, values percent-encoded.
fn parse_headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (at, pair) in (1..).zip(text.split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty())) {
        let wrong = |problem| format!("header {at} of OTEL_EXPORTER_OTLP_HEADERS {problem}: write name=value");
        let (name, value) = pair.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong("has an unusable name"))?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| wrong("has an unusable value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_address() {
        for (endpoint, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://host/otlp/", "https://host/otlp/v1/traces"),
        ] {
            assert_eq!(parse_endpoint(endpoint).unwrap().as_str(), expected);
        }
        for endpoint in ["localhost:4318", "secret", "ftp://user:secret@host", "http://host/?key=secret"] {
            let error = parse_endpoint(endpoint).unwrap_err();
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers = parse_headers("api-key=a%20secret, x-tenant=t=1 ,").unwrap();
        assert_eq!(
            (&headers["api-key"], &headers["x-tenant"]),
            (&"a secret".parse().unwrap(), &"t=1".parse().unwrap())
        );
        assert!(!format!("{headers:?}").contains("secret"));
        for text in ["secret", "a secret=1", "a=1,b%3Dsecret", "a=secret%0A"] {
            let error = parse_headers(text).unwrap_err();
            assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("secret"), "{error}");
        }
    }
}
