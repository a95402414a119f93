//! What `assay doctor` prints. The shape of its JSON is documented in docs/troubleshooting.md, and pinned by a test.

use std::fmt::{self, Display};

use assay_connect::{Finding, Verdict};
use assay_transaction::Exit;
use serde::Serialize;

use super::measure::Measured;
use crate::output::one_line;

/// Longest text of a finding that is shown.
const SHOWN: usize = 600;

/// All findings, by dependency.
#[derive(Debug, Serialize)]
pub(super) struct DoctorReport {
    /// Of this program.
    version: &'static str,
    /// The worst of all verdicts.
    verdict: &'static str,
    checks: Vec<CheckLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
}

/// One check.
#[derive(Debug, Serialize)]
struct CheckLine {
    dependency: &'static str,
    check: &'static str,
    verdict: &'static str,
    found: String,
    remedy: Option<String>,
    #[serde(skip)]
    judged: Verdict,
}

impl DoctorReport {
    /// A report of the findings of each dependency.
    pub(super) fn new(sections: Vec<(&'static str, Vec<Finding>)>) -> Self {
        let lines = sections.into_iter().flat_map(|(dependency, findings)| {
            findings.into_iter().map(move |Finding { check, verdict, found, remedy }| CheckLine {
                dependency,
                check,
                verdict: verdict.as_str(),
                found: one_line(&found, SHOWN),
                remedy: remedy.map(|remedy| one_line(&remedy, SHOWN)),
                judged: verdict,
            })
        });
        let checks: Vec<_> = lines.collect();
        let worst = checks.iter().map(|line| line.judged).max().unwrap_or(Verdict::NotChecked);
        Self { version: env!("CARGO_PKG_VERSION"), verdict: worst.as_str(), checks, measured: None }
    }

    /// The same with what was measured.
    pub(super) fn with(self, measured: Option<Measured>) -> Self {
        Self { measured, ..self }
    }

    /// Whether this dependency works as far as is known.
    pub(super) fn works(&self, dependency: &str) -> bool {
        let mut lines = self.checks.iter().filter(|line| line.dependency == dependency).peekable();
        lines.peek().is_some() && lines.all(|line| line.judged != Verdict::Failed)
    }

    /// 0 if nothing failed, else 1.
    pub(super) fn exit(&self) -> Exit {
        let has_failed = self.checks.iter().any(|line| line.judged == Verdict::Failed);
        if has_failed { Exit::FailedRows } else { Exit::Done }
    }
}

impl Display for DoctorReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|line| line.check.len()).max().unwrap_or_default();
        let mut last = "";
        for CheckLine { dependency, check, verdict, found, remedy, .. } in &self.checks {
            if *dependency != last {
                writeln!(out, "{dependency}")?;
                last = dependency;
            }
            writeln!(out, "  {verdict:<11}  {check:<width$}  {found}")?;
            if let Some(remedy) = remedy {
                writeln!(out, "  {:<11}  {:<width$}  to do: {remedy}", "", "")?;
            }
        }
        if let Some(measured) = &self.measured {
            write!(out, "\n{measured}")?;
        }
        let count = |verdict| self.checks.iter().filter(|line| line.judged == verdict).count();
        let counts = [Verdict::Failed, Verdict::Warning, Verdict::NotChecked, Verdict::Ok]
            .map(|verdict| format!("{} {}", count(verdict), verdict.as_str()));
        writeln!(out, "\n{}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> DoctorReport {
        DoctorReport::new(vec![
            ("rabbitmq", vec![Finding::ok("connection", "RabbitMQ at a:1")]),
            (
                "ml_api",
                vec![
                    Finding::failed("probe", "it is away\u{1b}[2J", "start it"),
                    Finding::not_checked("version", "why"),
                ],
            ),
        ])
    }

    #[test]
    fn the_shape_for_machines_is_pinned() {
        let expected = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "verdict": "failed",
            "checks": [
                {"dependency": "rabbitmq", "check": "connection", "verdict": "ok", "found": "RabbitMQ at a:1", "remedy": null},
                {"dependency": "ml_api", "check": "probe", "verdict": "failed", "found": "it is away\\u{1b}[2J", "remedy": "start it"},
                {"dependency": "ml_api", "check": "version", "verdict": "not checked", "found": "why", "remedy": null},
            ],
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }

    #[test]
    fn people_read_what_to_do_below_what_was_found() {
        let text = report().to_string();
        let expected = "rabbitmq\n  ok           connection  RabbitMQ at a:1\nml_api\n  failed       probe       it is \
                        away\\u{1b}[2J\n                           to do: start it\n  not checked  version     why\n\n1 failed, 0 \
                        warning, 1 not checked, 1 ok\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_failure_decides_the_exit_code() {
        assert_eq!(report().exit(), Exit::FailedRows);
        assert!(report().works("rabbitmq") && !report().works("ml_api") && !report().works("s3"));
        let warned = DoctorReport::new(vec![("s3", vec![Finding::warning("clock", "off", "set it")])]);
        assert_eq!((warned.exit(), warned.verdict), (Exit::Done, "warning"));
    }
}
