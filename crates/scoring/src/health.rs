//! What `GET /health` says, and whether the API has such a check at all: many have none, and score all the same.
//!
//! Any HTTP answer shows that something lives at the address. Only one that once said "well" is believed when it says "not
//! well"; see `docs/decisions/0021-an-api-without-a-health-check.md`. What follows for the circuit is `inquiry`'s part.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::{Class, Sign};
use crate::http::{Http, NO_ANSWER, Trouble};

/// What an API said of its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is well.
    Well,
    /// It answers, but has no health check for us: 404, 405, 501, a redirection, 401 and the like.
    NoCheck(Trouble),
    /// It answers that it, or what is behind it, does not work at the moment.
    Sick(Trouble),
    /// It took the question, and gave no HTTP answer.
    NoAnswer(Trouble),
    /// There is no connection to it.
    Silent(Trouble),
}

impl Health {
    fn of(answer: Result<(), Trouble>) -> Self {
        const NOT_IMPLEMENTED: u16 = 501;
        const SERVER_ERRORS: u16 = 500;
        match answer {
            Ok(()) => Self::Well,
            Err(trouble) => match trouble.sign {
                Sign::Status(NOT_IMPLEMENTED) => Self::NoCheck(trouble),
                Sign::Status(status) if status >= SERVER_ERRORS => Self::Sick(trouble),
                sign @ Sign::Status(_) if sign.class() == Class::Unavailable => Self::Sick(trouble),
                Sign::Status(_) => Self::NoCheck(trouble),
                Sign::BrokenOff | NO_ANSWER => Self::NoAnswer(trouble),
                _ => Self::Silent(trouble),
            },
        }
    }

    /// Whether a request that was not answered in time may itself be the reason.
    pub(crate) fn lives(self) -> bool {
        matches!(self, Self::Well | Self::NoCheck(_))
    }

    /// How long it asks to be left alone.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Well => None,
            Self::NoCheck(trouble) | Self::Sick(trouble) | Self::NoAnswer(trouble) | Self::Silent(trouble) => {
                trouble.retry_after
            }
        }
    }
}

/// What is known of the health check of one API.
#[derive(Debug, Default)]
pub(crate) struct HealthCheck(Mutex<Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Whether it has ever said that the API is well.
    has_worked: bool,
    /// The outage in which it was found missing. In the next one it is asked again, as a proxy may have answered for an API
    /// that was still starting.
    missing_in: Option<u64>,
}

impl HealthCheck {
    /// Asks, and remembers what that shows of the check itself. `outage` is the number of the present outage.
    pub(crate) async fn ask(&self, http: &Http, timeout: Duration, outage: u64) -> Health {
        let health = Health::of(http.health(timeout).await);
        let mut known = self.known();
        match health {
            Health::Well => *known = Known { has_worked: true, missing_in: None },
            Health::NoCheck(_) => *known = Known { has_worked: false, missing_in: Some(outage) },
            Health::Sick(_) | Health::NoAnswer(_) | Health::Silent(_) => {}
        }
        health
    }

    /// Whether it was found missing in the outage of this number.
    pub(crate) fn is_missing_in(&self, outage: u64) -> bool {
        self.known().missing_in == Some(outage)
    }

    /// Whether it is believed when it says that the API is not well.
    pub(crate) fn is_believed(&self) -> bool {
        self.known().has_worked
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that is done under the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use assay_credentials::TlsTrouble;

    use super::*;

    #[test]
    fn any_answer_but_a_server_error_or_too_many_requests_is_life() {
        let of = |sign: Sign| Health::of(Err(sign.into()));
        for status in [301, 302, 307, 400, 401, 403, 404, 405, 406, 410, 415, 418, 422, 501] {
            let health = of(Sign::Status(status));
            assert!(matches!(health, Health::NoCheck(_)) && health.lives(), "{status}: {health:?}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 999] {
            let health = of(Sign::Status(status));
            assert!(matches!(health, Health::Sick(_)) && !health.lives(), "{status}: {health:?}");
        }
        for sign in [Sign::BrokenOff, NO_ANSWER] {
            assert!(matches!(of(sign), Health::NoAnswer(_)) && !of(sign).lives(), "{sign:?}");
        }
        for sign in [Sign::Unreachable("connection refused"), Sign::Tls(TlsTrouble::NoTls)] {
            assert!(matches!(of(sign), Health::Silent(_)) && !of(sign).lives(), "{sign:?}");
        }
        assert!(Health::of(Ok(())).lives());
    }
}
