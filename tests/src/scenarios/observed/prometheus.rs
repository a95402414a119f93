//! A Prometheus of its own, which scrapes a fleet every second and evaluates the alerts.

use std::fmt::Write as _;

use assay_testkit::service_url;
use url::form_urlencoded::byte_serialize;

use crate::{Program, Running, free_port, get};

/// The rules, where Prometheus reads them.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/alerts.yml");

/// A server, killed when dropped.
pub(super) struct Prometheus {
    address: String,
    _server: Running,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it on the metrics of a fleet: stages and addresses.
    pub(super) async fn start<'a>(fleet: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let address = format!("127.0.0.1:{}", free_port());
        let settings = folder.path().join("prometheus.yml");
        std::fs::write(&settings, configuration(fleet, &address)).expect("the configuration is written");
        let mut server = Program::external("prometheus", service_url("TEST_PROMETHEUS"))
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .start();
        server.says("Server is ready to receive web requests").await;
        Self { address, _server: server, _folder: folder }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The number that a query returns now; none if it returns nothing.
    pub(super) async fn value(&self, query: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={}", byte_serialize(query.as_bytes()).collect::<String>());
        let answer = get(&self.address, &path).await.expect("Prometheus answers");
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let value = answer.body["data"]["result"][0]["value"][1].as_str()?;
        Some(value.parse().expect("a value is a number"))
    }
}

/// Scrapes the fleet as `deploy/prometheus` does, with the label `stage`, and itself.
fn configuration<'a>(fleet: impl Iterator<Item = (&'a str, &'a str)>, own_address: &str) -> String {
    let mut text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{RULES}']\nscrape_configs:\n  \
         - job_name: prometheus\n    static_configs: [{{ targets: ['{own_address}'] }}]\n  \
         - job_name: assay\n    static_configs:\n"
    );
    for (stage, address) in fleet {
        writeln!(text, "      - {{ targets: ['{address}'], labels: {{ stage: {stage} }} }}")
            .expect("a string takes all that is written");
    }
    text
}
