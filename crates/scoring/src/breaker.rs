//! The circuit before the ML API: closed while the API is well, open while it is not, so that one request or question at a
//! time finds out, at a growing pace, and everything else time_until_probe.
//!
//! It knows when to ask; what to ask, and what the answer means, is `inquiry`'s part. It logs each change of state once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::failure::{ErrorClass, Symptom};
use crate::http::RequestError;
use crate::policy::Policy;
use crate::{ApiState, ScoreError, metrics};

/// Why the circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenReason {
    /// The API is away or overloaded: `/health` tells when it is back or, where there is none, a transaction that it scores.
    Outage,
    /// It refuses us: only a transaction that it scores tells when that is repaired.
    Misconfiguration,
    /// It fails on everything, even on what it scored before: only a transaction that it scores tells when that is over.
    BrokenModel,
}

impl OpenReason {
    /// Why a request that was nobody's fault did not succeed; `None` where the request itself may be at fault.
    pub(crate) fn of(symptom: Symptom) -> Option<Self> {
        match symptom.class() {
            ErrorClass::Unavailable => Some(Self::Outage),
            ErrorClass::Misconfigured => Some(Self::Misconfiguration),
            ErrorClass::Suspect | ErrorClass::Rejected => None,
        }
    }
}

/// The circuit of one process.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    address: String,
    /// What scores are asked of, below the address.
    path: String,
    policy: Policy,
    state: watch::Sender<ApiState>,
    inner: Mutex<Inner>,
    /// Held by whoever finds out whether the API is well again; in the order of arrival.
    prober: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    /// Why it is open.
    open: Option<OpenReason>,
    opened: Instant,
    /// How often it was opened or stayed open since something record_success.
    step: u32,
    /// Before that time nobody asks.
    not_before: Instant,
    outages: u64,
}

/// What whoever comes to the circuit may do.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    /// Ask.
    Closed,
    /// Find out whether the API is well again, alone.
    Probe(Probe<'a>),
}

/// The right to find out whether the API is well again, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    /// Why the circuit is open.
    pub(crate) cause: OpenReason,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

impl CircuitBreaker {
    pub(crate) fn new(address: &str, path: &str, policy: &Policy) -> Self {
        let now = Instant::now();
        Self {
            address: address.to_owned(),
            path: path.to_owned(),
            policy: policy.clone(),
            state: watch::Sender::new(ApiState::Ready),
            inner: Mutex::new(Inner { open: None, opened: now, step: 0, not_before: now, outages: 0 }),
            prober: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ApiState> {
        self.state.subscribe()
    }

    pub(crate) fn outages(&self) -> u64 {
        self.inner().outages
    }

    #[cfg(test)]
    pub(crate) fn time_until_probe(&self) -> Duration {
        self.inner().not_before.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner().open.is_none()
    }

    /// Waits until the circuit is closed, or until it is this one's turn to find out whether it can be.
    pub(crate) async fn admit(&self, stop: &CancellationToken) -> Result<Turn<'_>, ScoreError> {
        let mut state = self.state.subscribe();
        loop {
            if self.is_closed() {
                return Ok(Turn::Closed);
            }
            let alone = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ScoreError::Stopped),
                _ = state.wait_for(ApiState::is_ready) => continue,
                alone = self.prober.lock() => alone,
            };
            if let Some(cause) = self.wait_until_due(stop).await? {
                return Ok(Turn::Probe(Probe { cause, _alone: alone }));
            }
        }
    }

    /// Waits until it is time to ask, which may be put off meanwhile. `None` where the circuit has been closed.
    async fn wait_until_due(&self, stop: &CancellationToken) -> Result<Option<OpenReason>, ScoreError> {
        loop {
            let (open, not_before) = {
                let inner = self.inner();
                (inner.open, inner.not_before)
            };
            if open.is_none() || not_before <= Instant::now() {
                return Ok(open);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ScoreError::Stopped),
                () = tokio::time::sleep_until(not_before) => {}
            }
        }
    }

    /// Opens the circuit for a request that went out while it was closed. Where another one has opened it meanwhile, only
    /// what the API asks for is added.
    pub(crate) fn open(&self, cause: OpenReason, error: &RequestError) {
        let mut inner = self.inner();
        if inner.open.is_some() {
            let asked_for = Instant::now() + self.capped(error.retry_after);
            inner.not_before = inner.not_before.max(asked_for);
            return;
        }
        inner.opened = Instant::now();
        inner.outages += 1;
        self.schedule_probe(&mut inner, cause, error);
        self.publish(cause, error.symptom);
    }

    /// Keeps the circuit open, after a probe found out that the API is not well yet, perhaps for another cause.
    pub(crate) fn keep_open(&self, cause: OpenReason, error: &RequestError) {
        let mut inner = self.inner();
        self.schedule_probe(&mut inner, cause, error);
        self.publish(cause, error.symptom);
    }

    /// Closes the breaker, after a probe found out that the API is well. The pace is kept until something succeeds.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        if inner.open.take().is_some() {
            info!("ML API is well again after {:.1} s", inner.opened.elapsed().as_secs_f64());
            self.state.send_replace(ApiState::Ready);
            metrics::set_breaker_open(false);
        }
    }

    /// Notes that a request record_success, so that the next outage begins with short time_until_probe.
    pub(crate) fn record_success(&self) {
        let mut inner = self.inner();
        if inner.open.is_none() {
            inner.step = 0;
        }
    }

    fn schedule_probe(&self, inner: &mut Inner, cause: OpenReason, error: &RequestError) {
        let backoff = match cause {
            OpenReason::Outage => self.policy.outage,
            OpenReason::Misconfiguration | OpenReason::BrokenModel => self.policy.repair,
        };
        let delay = backoff.delay(inner.step).max(self.capped(error.retry_after));
        metrics::set_breaker_open(true);
        inner.open = Some(cause);
        inner.step = inner.step.saturating_add(1);
        inner.not_before = Instant::now() + delay;
    }

    fn capped(&self, retry_after: Option<Duration>) -> Duration {
        retry_after.unwrap_or_default().min(self.policy.longest_retry_after)
    }

    /// Publishes and logs the state, where it has changed.
    fn publish(&self, cause: OpenReason, symptom: Symptom) {
        let is_broken = cause == OpenReason::BrokenModel;
        let (reason, class) = if is_broken {
            (format!("{symptom} to every transaction"), symptom.class_if_model_broken())
        } else {
            (symptom.to_string(), symptom.class())
        };
        let address = &self.address;
        let is_setting = class == ErrorClass::Misconfigured;
        self.state.send_if_modified(|state| match (&*state, is_setting) {
            (ApiState::Unavailable { .. }, false) | (ApiState::Misconfigured { .. }, true) => false,
            (_, false) => {
                warn!("ML API at {address} is unavailable ({reason}): waiting until it is well, no row fails for it");
                *state = ApiState::Unavailable { since: SystemTime::now(), reason };
                true
            }
            (_, true) => {
                let remedy = symptom.remedy(&self.path);
                error!("ML API at {address} refuses to work ({reason}): {remedy}; waiting, no row fails for it");
                *state = ApiState::Misconfigured { reason, remedy };
                true
            }
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is complete before anything in it can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
