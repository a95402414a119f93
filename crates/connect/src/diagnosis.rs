//! What `assay doctor` finds of a service: one line for each check, in the order of the checks.
//!
//! The crates that connect diagnose their own service, with the connections and the messages of the programs. A check that needs
//! an earlier one which failed is "not checked", never "ok". Each step has a time limit, so that a silent service ends no
//! diagnosis.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it has to be.
    Ok,
    /// It could not be judged, or was not asked for.
    NotChecked,
    /// It works, but not well, or not for long.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    /// As people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotChecked => "not checked",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    /// It works, but should be changed.
    pub fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work.
    pub fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// It was not looked at, and why.
    pub fn not_checked(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::NotChecked, found: why.into(), remedy: None }
    }

    /// An error of a program: what is wrong, and behind a colon what to do about it.
    pub fn refused(check: &'static str, error: &impl Display) -> Self {
        let message = error.to_string();
        let (found, remedy) = split_remedy(&message);
        Self { check, verdict: Verdict::Failed, found: found.to_owned(), remedy: remedy.map(str::to_owned) }
    }
}

/// The parts of a message. A cause in brackets may hold colons of its own.
fn split_remedy(message: &str) -> (&str, Option<&str>) {
    if let Some(end) = message.find("): ") {
        return (&message[..=end], Some(&message[end + 3..]));
    }
    match message.split_once(": ") {
        Some((found, remedy)) => (found, Some(remedy)),
        None => (message, None),
    }
}

/// How much longer than its limit a step may take.
const GRACE: Duration = Duration::from_secs(1);

/// The findings of one service so far.
#[derive(Debug)]
pub struct Diagnosis {
    checks: &'static [&'static str],
    step_limit: Duration,
    findings: Vec<Finding>,
}

impl Diagnosis {
    /// A diagnosis by these checks, each of which may take so long.
    ///
    /// A step has a little longer than that: if it has a limit of its own, its error says more than its end.
    pub const fn new(checks: &'static [&'static str], step_limit: Duration) -> Self {
        Self { checks, step_limit, findings: Vec::new() }
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds findings.
    pub fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Does a step. An error, or no end in time, is the finding of this check; then there is no value.
    pub async fn step<T, E: Display>(
        &mut self,
        check: &'static str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let finding = match tokio::time::timeout(self.step_limit + GRACE, step).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => Finding::refused(check, &error),
            Err(_) => Finding::failed(
                check,
                format!("no answer within {} s", self.step_limit.as_secs_f64()),
                "look at the load and the log of the service, or allow more time by --timeout",
            ),
        };
        self.add(finding);
        None
    }

    /// The findings, one or more for each check: those without one were not checked, as an earlier one failed.
    pub fn finish(mut self) -> Vec<Finding> {
        let failed = self.findings.iter().find(|finding| finding.verdict == Verdict::Failed);
        let why =
            failed.map_or_else(|| "it was not reached".to_owned(), |failed| format!("as \"{}\" failed", failed.check));
        for check in self.checks {
            if !self.findings.iter().any(|finding| finding.check == *check) {
                self.findings.push(Finding::not_checked(check, why.clone()));
            }
        }
        let place = |finding: &Finding| self.checks.iter().position(|check| *check == finding.check);
        self.findings.sort_by_key(place);
        self.findings
    }
}

/// From here on a difference between clocks is worth a look: it makes times of different machines misleading.
const NOTICEABLE_SKEW: Duration = Duration::from_secs(30);

/// Judges the difference between the clock of a service and this machine's. Beyond `limit` the service refuses.
pub fn judge_clock(
    check: &'static str,
    service: &str,
    theirs: SystemTime,
    ours: SystemTime,
    limit: Option<Duration>,
) -> Finding {
    const REMEDY: &str = "let NTP set the clock of this machine, and that of the service";
    let (skew, direction) = match theirs.duration_since(ours) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let found = format!("the clock of {service} is {:.1} s {direction} this machine's", skew.as_secs_f64());
    match limit {
        Some(limit) if skew >= limit => {
            Finding::failed(check, format!("{found}: beyond {} min it refuses", limit.as_secs() / 60), REMEDY)
        }
        _ if skew >= NOTICEABLE_SKEW => Finding::warning(check, found, REMEDY),
        _ => Finding::ok(check, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_split_into_what_is_wrong_and_what_to_do() {
        let cases = [
            (
                "cannot reach RabbitMQ at [::1]:5672 within 5 s (connection refused): check AMQP_URL",
                "cannot reach RabbitMQ at [::1]:5672 within 5 s (connection refused)",
                Some("check AMQP_URL"),
            ),
            (
                "the queues differ (PRECONDITION_FAILED - arg 'x': 5): set QUEUE_MAX_LENGTH",
                "the queues differ (PRECONDITION_FAILED - arg 'x': 5)",
                Some("set QUEUE_MAX_LENGTH"),
            ),
            (
                "DATABASE_URL is not set: give postgres://user:password@host:5432/name",
                "DATABASE_URL is not set",
                Some("give postgres://user:password@host:5432/name"),
            ),
            ("it is broken", "it is broken", None),
        ];
        for (message, found, remedy) in cases {
            let finding = Finding::refused("connection", &message);
            assert_eq!((finding.found.as_str(), finding.remedy.as_deref()), (found, remedy));
            assert_eq!(finding.verdict, Verdict::Failed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_failure_is_not_checked() {
        let mut diagnosis = Diagnosis::new(&["connection", "tables", "clock"], Duration::from_secs(5));
        diagnosis.add(Finding::ok("clock", "as ours"));
        let connected = diagnosis.step("connection", std::future::pending::<Result<(), String>>()).await;
        assert_eq!(connected, None);
        let findings = diagnosis.finish();
        let lines: Vec<_> = findings.iter().map(|line| (line.check, line.verdict, line.found.as_str())).collect();
        assert_eq!(
            lines,
            [
                ("connection", Verdict::Failed, "no answer within 5 s"),
                ("tables", Verdict::NotChecked, "as \"connection\" failed"),
                ("clock", Verdict::Ok, "as ours"),
            ]
        );
    }

    #[test]
    fn clocks_are_judged_by_what_their_difference_does() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let limit = Some(Duration::from_mins(15));
        let cases = [
            (ours, limit, Verdict::Ok),
            (ours + Duration::from_secs(29), limit, Verdict::Ok),
            (ours - Duration::from_secs(31), limit, Verdict::Warning),
            (ours + Duration::from_mins(16), limit, Verdict::Failed),
            (ours - Duration::from_mins(16), None, Verdict::Warning),
        ];
        for (theirs, limit, expected) in cases {
            let finding = judge_clock("clock", "S3", theirs, ours, limit);
            assert_eq!(finding.verdict, expected, "{finding:?}");
            assert_eq!(finding.remedy.is_none(), expected == Verdict::Ok);
        }
        let behind = judge_clock("clock", "S3", ours - Duration::from_mins(16), ours, limit);
        assert!(behind.found.contains("960.0 s behind this machine's: beyond 15 min"), "{behind:?}");
    }
}
