//! What a failed request to the ML API means. [`Symptom::class`] is the only place that decides it.

use std::fmt;
use std::ops::RangeInclusive;

use assay_connect::TlsFailure;

use crate::options::TLS_PREFIX;
use crate::reason::Reason;

/// What happens after a request that did not score all of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SymptomClass {
    /// Not the request's fault: wait until the API recovers; no attempt is used up.
    Unavailable,
    /// Perhaps the request's fault: retry it, then bisect.
    Suspect,
    /// The request's fault: bisect at once.
    Rejected,
    /// The fault of a setting, here or there: wait until it is repaired, and log what to fix.
    Misconfigured,
}

impl SymptomClass {
    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Suspect => "suspect",
            Self::Rejected => "rejected",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// What was seen of a request that did not score all of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Symptom {
    /// No connection, and why.
    Unreachable(&'static str),
    /// The connection ended before the response did.
    ConnectionLost,
    /// No TLS connection can be made.
    Tls(TlsFailure),
    /// No response in time, and none from `/health` either.
    TimedOutUnhealthy,
    /// No response in time, although `/health` responds.
    TimedOutHealthy,
    /// An HTTP status other than success.
    Status {
        code: u16,
        /// What the response says of it, as far as it can be shown.
        detail: Option<Reason>,
    },
    /// No authorization by AWS: nothing was sent without a signature, or the signature was refused.
    Unauthorized { verdict: &'static str, what: Reason, remedy: Reason },
    /// Success, but the body is not a response of the protocol.
    Unreadable(Reason),
    /// Success, but in a form that a setting must declare first.
    Undeclared { what: Reason, remedy: Reason },
    /// No transaction could be written as the features file says. Nothing was sent.
    Unwritable(Reason),
    /// Success, but in another form than the settings say, as was every response before.
    Misfit(Reason),
    /// Success, but rows are missing or unusable in the response.
    Incomplete(Reason),
}

/// What each status means; the first matching line counts.
const STATUS_CLASSES: &[(RangeInclusive<u16>, SymptomClass)] = &[
    (400..=400, SymptomClass::Rejected),
    // Request Timeout and Too Early are as transient as what gateways return.
    (408..=408, SymptomClass::Unavailable),
    // Also lowers the size of later requests; see `Symptom::is_too_large`.
    (413..=413, SymptomClass::Rejected),
    (422..=422, SymptomClass::Rejected),
    (425..=425, SymptomClass::Unavailable),
    (429..=429, SymptomClass::Unavailable),
    (502..=504, SymptomClass::Unavailable),
    (500..=599, SymptomClass::Suspect),
    // 401, 403, 404, 405, every other 4xx; and redirections that are not followed: to another host, or with a GET in place of the POST.
    (300..=499, SymptomClass::Misconfigured),
    (0..=u16::MAX, SymptomClass::Suspect),
];

impl Symptom {
    /// A status of which nothing more is known.
    pub(crate) fn status(code: u16) -> Self {
        Self::Status { code, detail: None }
    }

    /// What the symptom means.
    pub(crate) fn class(&self) -> SymptomClass {
        match self {
            Self::Unreachable(_) | Self::ConnectionLost | Self::TimedOutUnhealthy => SymptomClass::Unavailable,
            Self::TimedOutHealthy | Self::Unreadable(_) | Self::Incomplete(_) => SymptomClass::Suspect,
            Self::Tls(_)
            | Self::Unauthorized { .. }
            | Self::Undeclared { .. }
            | Self::Misfit(_)
            | Self::Unwritable(_) => SymptomClass::Misconfigured,
            Self::Status { code, .. } => STATUS_CLASSES
                .iter()
                .find(|(statuses, _)| statuses.contains(code))
                .map_or(SymptomClass::Suspect, |(_, class)| *class),
        }
    }

    /// What it means if even a known good transaction shows it: the model is broken.
    pub(crate) fn class_if_model_broken(&self) -> SymptomClass {
        match self.class() {
            SymptomClass::Suspect => SymptomClass::Unavailable,
            SymptomClass::Rejected => SymptomClass::Misconfigured,
            class => class,
        }
    }

    /// What to do about a wrong setting; `path` is where transactions are sent.
    pub(crate) fn remedy(&self, path: &str) -> String {
        match self {
            Self::Status { code: 401 | 403 | 407, .. } => {
                format!(
                    "check ML_API_URL (with user and password, as in http://user:password@host), ML_API_TOKEN, ML_API_HEADERS (such \
                     as `x-api-key: …`) and, if the API requires a client certificate, {TLS_PREFIX}_CERT_FILE and \
                     {TLS_PREFIX}_KEY_FILE"
                )
            }
            Self::Status { code: 404 | 405 | 410, .. } => {
                format!("check ML_API_URL and ML_API_PATH, as nothing there serves POST {path}")
            }
            Self::Status { code: 300..=399, .. } => {
                format!("check ML_API_URL and ML_API_PATH, as POST {path} is redirected there")
            }
            Self::Undeclared { remedy, .. } | Self::Unauthorized { remedy, .. } => remedy.to_string(),
            Self::Unwritable(_) => "check ML_API_FEATURES".to_owned(),
            Self::Misfit(_) => {
                format!(
                    "check ML_API_PROTOCOL, ML_API_MODEL_NAME, ML_API_FEATURES and what serves POST {path} at ML_API_URL"
                )
            }
            // Its message contains the remedy.
            Self::Tls(_) => "check ML_API_URL".to_owned(),
            _ => format!("check ML_API_URL and what serves POST {path} there"),
        }
    }

    /// What an API with a wrong setting does, for messages.
    pub(crate) fn verdict(&self) -> &'static str {
        match self {
            Self::Undeclared { .. } => "returns what must be declared",
            Self::Unwritable(_) => "cannot be asked",
            Self::Unauthorized { verdict, .. } => verdict,
            _ => "rejects every request",
        }
    }

    /// Whether the connection was lost: through an outage, or because the request crashed the process behind it.
    pub(crate) fn is_disconnect(&self) -> bool {
        matches!(self, Self::ConnectionLost | Self::Status { code: 502 | 504, .. })
    }

    /// Whether no response came in time.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOutHealthy | Self::TimedOutUnhealthy)
    }

    /// Whether the API limits how often, or how much, it is asked.
    pub(crate) fn is_too_often(&self) -> bool {
        matches!(self, Self::Status { code: 429, .. })
    }

    /// Whether the request was too large, so that later ones should be smaller.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Status { code: 413, .. })
    }
}

/// In our own words, as the API's may repeat the transactions.
impl fmt::Display for Symptom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLost => formatter.write_str("connection lost"),
            Self::Tls(error) => write!(formatter, "{}; {}", error.cause(), error.remedy(TLS_PREFIX)),
            Self::TimedOutUnhealthy => formatter.write_str("no response in time, and none to a health check"),
            Self::TimedOutHealthy => {
                formatter.write_str("no response in time, although the API responds to a health check")
            }
            Self::Unreachable(why) => formatter.write_str(why),
            Self::Unreadable(why)
            | Self::Incomplete(why)
            | Self::Misfit(why)
            | Self::Unwritable(why)
            | Self::Undeclared { what: why, .. }
            | Self::Unauthorized { what: why, .. } => why.fmt(formatter),
            Self::Status { code, detail } => {
                write!(formatter, "HTTP status {code}")?;
                let phrase = reqwest::StatusCode::from_u16(*code).ok().and_then(|status| status.canonical_reason());
                phrase.map_or(Ok(()), |phrase| write!(formatter, " {phrase}"))?;
                detail.as_ref().map_or(Ok(()), |detail| write!(formatter, " ({detail})"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symptom_has_its_class() {
        let cases = [
            (SymptomClass::Unavailable, &[408, 425, 429, 502, 503, 504][..]),
            (SymptomClass::Suspect, &[500, 501, 505, 507, 599, 600, 100, 999]),
            (SymptomClass::Rejected, &[400, 413, 422]),
            (SymptomClass::Misconfigured, &[301, 307, 401, 402, 403, 404, 405, 406, 407, 409, 410, 415, 418, 451, 499]),
        ];
        for (class, statuses) in cases {
            for status in statuses {
                assert_eq!(Symptom::status(*status).class(), class, "{status}");
            }
        }
        assert_eq!(Symptom::Unreachable("connection refused").class(), SymptomClass::Unavailable);
        assert_eq!(Symptom::ConnectionLost.class(), SymptomClass::Unavailable);
        assert_eq!(Symptom::TimedOutUnhealthy.class(), SymptomClass::Unavailable);
        assert_eq!(Symptom::TimedOutHealthy.class(), SymptomClass::Suspect);
        assert_eq!(Symptom::Unreadable("not JSON".into()).class(), SymptomClass::Suspect);
        assert_eq!(Symptom::Incomplete("no entry".into()).class(), SymptomClass::Suspect);
        assert_eq!(Symptom::Tls(TlsFailure::NoTls).class(), SymptomClass::Misconfigured);
        assert_eq!(Symptom::Misfit("another form".into()).class(), SymptomClass::Misconfigured);
    }

    #[test]
    fn a_broken_model_is_not_the_requests_fault() {
        assert_eq!(Symptom::status(500).class_if_model_broken(), SymptomClass::Unavailable);
        assert_eq!(Symptom::status(422).class_if_model_broken(), SymptomClass::Misconfigured);
        assert_eq!(Symptom::status(404).class_if_model_broken(), SymptomClass::Misconfigured);
        assert_eq!(Symptom::Unreadable("not JSON".into()).class_if_model_broken(), SymptomClass::Unavailable);
    }

    #[test]
    fn a_wrong_setting_names_what_to_check() {
        let cases = [
            (401, &["ML_API_TOKEN", "ML_API_HEADERS", "user:password@", "ML_API_KEY_FILE"][..]),
            (403, &["ML_API_TOKEN", "ML_API_HEADERS", "user:password@", "ML_API_KEY_FILE"]),
            (404, &["ML_API_PATH", "POST /models/fraud/predict"]),
            (405, &["ML_API_URL", "POST /models/fraud/predict"]),
            (307, &["ML_API_PATH", "POST /models/fraud/predict", "redirected"]),
            (415, &["ML_API_URL", "POST /models/fraud/predict"]),
        ];
        for (status, words) in cases {
            let remedy = Symptom::status(status).remedy("/models/fraud/predict");
            assert!(words.iter().all(|word| remedy.contains(word)), "{status}: {remedy}");
            assert!(remedy.starts_with("check ML_API_URL"), "{remedy}");
        }
    }

    #[test]
    fn statuses_are_shown_with_their_phrase() {
        assert_eq!(Symptom::status(422).to_string(), "HTTP status 422 Unprocessable Entity");
        assert_eq!(Symptom::status(599).to_string(), "HTTP status 599");
        let detailed = Symptom::Status { code: 400, detail: Some("no merchant".into()) };
        assert_eq!(detailed.to_string(), "HTTP status 400 Bad Request (no merchant)");
    }
}
