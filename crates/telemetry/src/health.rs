//! Whether a process can do its work: its dependencies are checked at intervals.
//!
//! A process is ready once it works and all of its dependencies were healthy at their last check. Readiness is answered at
//! once, however long a check takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

/// Between two checks of a dependency.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The health of this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: ProcessPhase,
    /// The problem of each dependency, if any.
    dependencies: BTreeMap<&'static str, Option<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ProcessPhase {
    #[default]
    Starting,
    Working,
    Ending,
}

impl Health {
    /// Checks a dependency from now on, every few seconds. The check returns why the dependency is not healthy.
    pub fn depend_on<F>(&self, dependency: &'static str, check: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        self.depend_on_every(CHECK_INTERVAL, dependency, check);
    }

    /// As [`Health::depend_on`], with another interval.
    pub fn depend_on_every<F>(&self, every: Duration, dependency: &'static str, check: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        self.state().dependencies.insert(dependency, Some("not checked yet".to_owned()));
        let health = self.clone();
        tokio::spawn(async move {
            loop {
                let checked = timeout(CHECK_TIMEOUT, check()).await;
                let problem = checked.unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}"))).err();
                let is_up = f64::from(u8::from(problem.is_none()));
                metrics::gauge!("assay_dependency_up", "dependency" => dependency).set(is_up);
                health.state().dependencies.insert(dependency, problem);
                tokio::time::sleep(every).await;
            }
        });
    }

    /// Marks the process as working: everything is connected.
    pub fn begin(&self) {
        self.state().phase = ProcessPhase::Working;
    }

    /// Marks the process as shutting down.
    pub fn end(&self) {
        self.state().phase = ProcessPhase::Ending;
    }

    /// Whether the process can work now; else the reasons, one a line.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        let mut reasons = String::new();
        match state.phase {
            ProcessPhase::Starting => reasons.push_str("starting: waiting for dependencies\n"),
            ProcessPhase::Working => {}
            ProcessPhase::Ending => reasons.push_str("shutting down\n"),
        }
        for (dependency, problem) in &state.dependencies {
            if let Some(problem) = problem {
                // Writing to a string cannot fail.
                let _ = writeln!(reasons, "{dependency}: {problem}");
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Poisoning does no harm: each change is a single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_ready_while_it_works_and_its_dependencies_are_healthy() {
        let health = Health::default();
        assert_eq!(health.ready().unwrap_err(), "starting: waiting for dependencies\n");
        let is_up = Arc::new(AtomicBool::new(true));
        let checked = Arc::clone(&is_up);
        health.depend_on("rabbitmq", move || {
            let is_up = checked.load(Ordering::Relaxed);
            async move { if is_up { Ok(()) } else { Err("connection lost".to_owned()) } }
        });
        health.begin();
        assert_eq!(health.ready().unwrap_err(), "rabbitmq: not checked yet\n");
        tokio::time::sleep(CHECK_INTERVAL).await;
        health.ready().unwrap();
        is_up.store(false, Ordering::Relaxed);
        tokio::time::sleep(2 * CHECK_INTERVAL).await;
        assert_eq!(health.ready().unwrap_err(), "rabbitmq: connection lost\n");
        is_up.store(true, Ordering::Relaxed);
        tokio::time::sleep(2 * CHECK_INTERVAL).await;
        health.ready().unwrap();
        health.end();
        assert_eq!(health.ready().unwrap_err(), "shutting down\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_dependency_is_not_healthy() {
        let health = Health::default();
        health.depend_on("postgresql", std::future::pending);
        health.begin();
        tokio::time::sleep(CHECK_TIMEOUT + CHECK_INTERVAL).await;
        assert_eq!(health.ready().unwrap_err(), "postgresql: no answer within 5s\n");
    }
}
