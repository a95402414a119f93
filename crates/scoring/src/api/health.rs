//! `GET /health`, and whether the API has such a check at all: many have none.
//!
//! Any HTTP response shows that the API runs. A check is trusted to say "unhealthy" only if it once said "healthy"; see
//! `docs/decisions/0021-an-api-without-a-health-check.md`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::http::{HttpClient, NO_ANSWER, RequestError};
use crate::failure::{Symptom, SymptomClass};

/// The result of one health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    /// A success status.
    Healthy,
    /// A response, but not of a health check: 404, 405, 501, a redirection, 401 and the like.
    NoCheck(RequestError),
    /// It says that it, or what is behind it, does not work at the moment.
    Unhealthy(RequestError),
    /// It accepted the request, and gave no HTTP response.
    NoAnswer(RequestError),
    /// No connection to it.
    Unreachable(RequestError),
}

impl HealthStatus {
    fn of(answer: Result<(), RequestError>) -> Self {
        const NOT_IMPLEMENTED: u16 = 501;
        const SERVER_ERRORS: u16 = 500;
        match answer {
            Ok(()) => Self::Healthy,
            Err(error) => match &error.symptom {
                Symptom::Status { code: NOT_IMPLEMENTED, .. } => Self::NoCheck(error),
                Symptom::Status { code: SERVER_ERRORS.., .. } => Self::Unhealthy(error),
                symptom @ Symptom::Status { .. } if symptom.class() == SymptomClass::Unavailable => {
                    Self::Unhealthy(error)
                }
                Symptom::Status { .. } => Self::NoCheck(error),
                Symptom::ConnectionLost | Symptom::Unreachable(NO_ANSWER) => Self::NoAnswer(error),
                _ => Self::Unreachable(error),
            },
        }
    }

    /// Whether a request that timed out may itself be the reason.
    pub(crate) fn is_responsive(&self) -> bool {
        matches!(self, Self::Healthy | Self::NoCheck(_))
    }

    /// Its `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Healthy => None,
            Self::NoCheck(error) | Self::Unhealthy(error) | Self::NoAnswer(error) | Self::Unreachable(error) => {
                error.retry_after
            }
        }
    }
}

/// The health check of one API, and what it has shown of itself so far.
#[derive(Debug, Default)]
pub(crate) struct HealthCheck(Mutex<CheckHistory>);

#[derive(Debug, Clone, Copy, Default)]
struct CheckHistory {
    /// Whether it has ever said that the API is healthy.
    has_been_healthy: bool,
    /// The outage in which it was found missing. The next outage asks again, as a proxy may have answered for an API that
    /// was still starting.
    missing_in: Option<u64>,
}

impl HealthCheck {
    /// Asks, and remembers what that shows of the check itself. `outage` is the number of the current outage.
    pub(crate) async fn ask(&self, http: &HttpClient, timeout: Duration, outage: u64) -> HealthStatus {
        let health = HealthStatus::of(http.health(timeout).await);
        let mut history = self.history();
        match health {
            HealthStatus::Healthy => *history = CheckHistory { has_been_healthy: true, missing_in: None },
            HealthStatus::NoCheck(_) => *history = CheckHistory { has_been_healthy: false, missing_in: Some(outage) },
            HealthStatus::Unhealthy(_) | HealthStatus::NoAnswer(_) | HealthStatus::Unreachable(_) => {}
        }
        health
    }

    /// Whether it was found missing in this outage.
    pub(crate) fn is_missing_in(&self, outage: u64) -> bool {
        self.history().missing_in == Some(outage)
    }

    /// Whether it is trusted when it says that the API is unhealthy.
    pub(crate) fn is_trusted(&self) -> bool {
        self.history().has_been_healthy
    }

    fn history(&self) -> MutexGuard<'_, CheckHistory> {
        // Nothing under the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::TlsFailure;

    use super::*;

    #[test]
    fn any_response_but_a_server_error_or_too_many_requests_is_responsive() {
        let of = |symptom: Symptom| HealthStatus::of(Err(symptom.into()));
        for status in [301, 302, 307, 400, 401, 403, 404, 405, 406, 410, 415, 418, 422, 501] {
            let health = of(Symptom::status(status));
            assert!(matches!(health, HealthStatus::NoCheck(_)) && health.is_responsive(), "{status}: {health:?}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 999] {
            let health = of(Symptom::status(status));
            assert!(matches!(health, HealthStatus::Unhealthy(_)) && !health.is_responsive(), "{status}: {health:?}");
        }
        for symptom in [Symptom::ConnectionLost, Symptom::Unreachable(NO_ANSWER)] {
            assert!(
                matches!(of(symptom.clone()), HealthStatus::NoAnswer(_)) && !of(symptom.clone()).is_responsive(),
                "{symptom:?}"
            );
        }
        for symptom in [Symptom::Unreachable("connection refused"), Symptom::Tls(TlsFailure::NoTls)] {
            assert!(
                matches!(of(symptom.clone()), HealthStatus::Unreachable(_)) && !of(symptom.clone()).is_responsive(),
                "{symptom:?}"
            );
        }
        assert!(HealthStatus::of(Ok(())).is_responsive());
    }
}
