//! The circuit breaker in front of the ML API: closed while the API works, open while it does not. While it is open, one
//! probe at a time goes out, with growing pauses, and all other work waits.
//!
//! The breaker decides when to probe; [`request`](crate::request) decides what to send and what the response means. Each
//! change of state is logged once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::http::RequestError;
use crate::failure::{Symptom, SymptomClass};
use crate::options::Policy;
use crate::{ScoreError, metrics};

/// Whether the ML API accepts work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiState {
    /// Nothing is known against it.
    Ready,
    /// It is unreachable, overloaded, or fails every request; it is probed until it recovers.
    Unavailable {
        /// When this was first seen.
        since: SystemTime,
        /// What was seen.
        reason: String,
    },
    /// It rejects every request until a setting is changed, here or there.
    Misconfigured {
        /// What was seen.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

impl ApiState {
    /// Whether requests can be sent.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// Why the breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenReason {
    /// The API is unreachable or overloaded. `/health` shows when it is back; without one, a scored transaction does.
    Outage,
    /// It rejects all requests. Only a scored transaction shows that this is repaired.
    Misconfiguration,
    /// It fails on everything, even on what it scored before. Only a scored transaction shows that this is over.
    BrokenModel,
}

impl OpenReason {
    /// The reason to open for this symptom; `None` if the request itself may be at fault.
    pub(crate) fn of(symptom: &Symptom) -> Option<Self> {
        match symptom.class() {
            SymptomClass::Unavailable => Some(Self::Outage),
            SymptomClass::Misconfigured => Some(Self::Misconfiguration),
            SymptomClass::Suspect | SymptomClass::Rejected => None,
        }
    }
}

/// The circuit breaker of one process.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    address: String,
    /// Where transactions are sent, below the address.
    path: String,
    policy: Policy,
    state: watch::Sender<ApiState>,
    inner: Mutex<Inner>,
    /// Held during a probe; waiters queue in order.
    prober: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    /// Set while it is open.
    reason: Option<OpenReason>,
    opened: Instant,
    /// How often it opened or stayed open since the last success.
    step: u32,
    /// No probe before this time.
    not_before: Instant,
    outages: u64,
}

/// The right to probe the API, alone, while it is held.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    /// Why the breaker is open.
    pub(crate) reason: OpenReason,
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
            inner: Mutex::new(Inner { reason: None, opened: now, step: 0, not_before: now, outages: 0 }),
            prober: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ApiState> {
        self.state.subscribe()
    }

    pub(crate) fn outages(&self) -> u64 {
        self.inner().outages
    }

    pub(crate) fn time_until_probe(&self) -> Duration {
        self.inner().not_before.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner().reason.is_none()
    }

    /// Waits until the breaker is closed (`None`), or until it is the caller's turn to probe.
    pub(crate) async fn admit(&self, stop: &CancellationToken) -> Result<Option<Probe<'_>>, ScoreError> {
        let mut state = self.state.subscribe();
        loop {
            if self.is_closed() {
                return Ok(None);
            }
            let alone = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ScoreError::Stopped),
                _ = state.wait_for(ApiState::is_ready) => continue,
                alone = self.prober.lock() => alone,
            };
            if let Some(reason) = self.wait_until_due(stop).await? {
                return Ok(Some(Probe { reason, _alone: alone }));
            }
        }
    }

    /// Waits until a probe is due, which may be postponed meanwhile. `None` if the breaker is closed by then.
    async fn wait_until_due(&self, stop: &CancellationToken) -> Result<Option<OpenReason>, ScoreError> {
        loop {
            let (reason, not_before) = {
                let inner = self.inner();
                (inner.reason, inner.not_before)
            };
            if reason.is_none() || not_before <= Instant::now() {
                return Ok(reason);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ScoreError::Stopped),
                () = tokio::time::sleep_until(not_before) => {}
            }
        }
    }

    /// Opens the breaker after a request that was sent while it was closed. If another request has opened it since, only
    /// the API's `Retry-After` is added. Returns whether it was closed.
    pub(crate) fn open(&self, reason: OpenReason, error: &RequestError) -> bool {
        let mut inner = self.inner();
        if inner.reason.is_some() {
            let asked_for = Instant::now() + self.capped(error.retry_after);
            inner.not_before = inner.not_before.max(asked_for);
            return false;
        }
        inner.opened = Instant::now();
        inner.outages += 1;
        self.schedule_probe(&mut inner, reason, error);
        self.publish(reason, &error.symptom);
        true
    }

    /// Keeps the breaker open after a failed probe, perhaps for another reason than before.
    pub(crate) fn keep_open(&self, reason: OpenReason, error: &RequestError) {
        let mut inner = self.inner();
        self.schedule_probe(&mut inner, reason, error);
        self.publish(reason, &error.symptom);
    }

    /// Closes the breaker after a successful probe. The backoff is reset only by [`record_success`](Self::record_success).
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        if inner.reason.take().is_some() {
            info!("ML API recovered after {:.1} s", inner.opened.elapsed().as_secs_f64());
            self.state.send_replace(ApiState::Ready);
            metrics::set_breaker_open(false);
        }
    }

    /// Resets the backoff, so that the next outage begins with short pauses.
    pub(crate) fn record_success(&self) {
        let mut inner = self.inner();
        if inner.reason.is_none() {
            inner.step = 0;
        }
    }

    fn schedule_probe(&self, inner: &mut Inner, reason: OpenReason, error: &RequestError) {
        let backoff = match reason {
            OpenReason::Outage => self.policy.outage,
            OpenReason::Misconfiguration | OpenReason::BrokenModel => self.policy.repair,
        };
        let delay = backoff.delay(inner.step).max(self.capped(error.retry_after));
        metrics::set_breaker_open(true);
        inner.reason = Some(reason);
        inner.step = inner.step.saturating_add(1);
        inner.not_before = Instant::now() + delay;
    }

    fn capped(&self, retry_after: Option<Duration>) -> Duration {
        retry_after.unwrap_or_default().min(self.policy.longest_retry_after)
    }

    /// Publishes and logs the state if it has changed.
    fn publish(&self, reason: OpenReason, symptom: &Symptom) {
        let (seen, class) = if reason == OpenReason::BrokenModel {
            (format!("{symptom}, for every transaction"), symptom.class_if_model_broken())
        } else {
            (symptom.to_string(), symptom.class())
        };
        let address = &self.address;
        let remedy = (class == SymptomClass::Misconfigured).then(|| symptom.remedy(&self.path));
        self.state.send_if_modified(|state| match (&*state, remedy) {
            (ApiState::Unavailable { .. }, None) => false,
            (ApiState::Misconfigured { remedy: known, .. }, Some(remedy)) if *known == remedy => false,
            (_, None) => {
                warn!("ML API at {address} is unavailable ({seen}): paused until it recovers, no row fails meanwhile");
                *state = ApiState::Unavailable { since: SystemTime::now(), reason: seen };
                true
            }
            (_, Some(remedy)) => {
                let verdict = symptom.verdict();
                error!("ML API at {address} {verdict} ({seen}): {remedy}; paused, no row fails meanwhile");
                *state = ApiState::Misconfigured { reason: seen, remedy };
                true
            }
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is complete before anything in it can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
