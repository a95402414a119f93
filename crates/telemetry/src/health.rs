//! Whether a process can do its work: what it depends on is asked now and again, and those who run it are told.
//!
//! A process is ready once it has begun its work and everything that it depends on was well when it was last asked. An answer
//! is at hand at any time, however long a dependency takes to give its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

/// Between two questions to a dependency.
const EVERY: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The health of this process. Cheap to clone; all clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// What is wrong with each dependency, if anything.
    dependencies: BTreeMap<&'static str, Option<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Starting,
    Working,
    Ending,
}

impl Health {
    /// Asks a dependency from now on, every few seconds: it is well, or it says why it is not.
    pub fn depend_on<F>(&self, dependency: &'static str, ask: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        self.depend_on_every(EVERY, dependency, ask);
    }

    /// As [`Health::depend_on`], for one that is not to be asked as often.
    pub fn depend_on_every<F>(&self, every: Duration, dependency: &'static str, ask: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        self.state().dependencies.insert(dependency, Some("not asked yet".to_owned()));
        let health = self.clone();
        tokio::spawn(async move {
            loop {
                let answer = timeout(PATIENCE, ask()).await;
                let trouble = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))).err();
                metrics::gauge!("assay_dependency_up", "dependency" => dependency).set(if trouble.is_none() {
                    1.0
                } else {
                    0.0
                });
                health.state().dependencies.insert(dependency, trouble);
                tokio::time::sleep(every).await;
            }
        });
    }

    /// Says that everything is connected, and work goes on.
    pub fn begin(&self) {
        self.state().phase = Phase::Working;
    }

    /// Says that no more work is taken on.
    pub fn end(&self) {
        self.state().phase = Phase::Ending;
    }

    /// Whether work can go on now; else why not, a line for each reason.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        let mut reasons = String::new();
        match state.phase {
            Phase::Starting => reasons.push_str("starting: waiting for what it depends on\n"),
            Phase::Working => {}
            Phase::Ending => reasons.push_str("shutting down\n"),
        }
        for (dependency, trouble) in &state.dependencies {
            if let Some(trouble) = trouble {
                // Writing to a string cannot fail.
                let _ = writeln!(reasons, "{dependency}: {trouble}");
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a single one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_ready_while_it_works_and_all_it_depends_on_is_well() {
        let health = Health::default();
        assert_eq!(health.ready().unwrap_err(), "starting: waiting for what it depends on\n");
        let is_up = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_up);
        health.depend_on("rabbitmq", move || {
            let is_up = asked.load(Ordering::Relaxed);
            async move { if is_up { Ok(()) } else { Err("connection lost".to_owned()) } }
        });
        health.begin();
        assert_eq!(health.ready().unwrap_err(), "rabbitmq: not asked yet\n");
        tokio::time::sleep(EVERY).await;
        health.ready().unwrap();
        is_up.store(false, Ordering::Relaxed);
        tokio::time::sleep(2 * EVERY).await;
        assert_eq!(health.ready().unwrap_err(), "rabbitmq: connection lost\n");
        is_up.store(true, Ordering::Relaxed);
        tokio::time::sleep(2 * EVERY).await;
        health.ready().unwrap();
        health.end();
        assert_eq!(health.ready().unwrap_err(), "shutting down\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_hangs_is_away() {
        let health = Health::default();
        health.depend_on("postgresql", std::future::pending);
        health.begin();
        tokio::time::sleep(PATIENCE + EVERY).await;
        assert_eq!(health.ready().unwrap_err(), "postgresql: no answer within 5s\n");
    }
}
