//! What an answer of the ML API means. Decided here and nowhere else: everybody else asks [`Symptom::class`].

use std::fmt;
use std::ops::RangeInclusive;

use assay_credentials::TlsTrouble;

use crate::options::TLS_PREFIX;

/// What happens after a request that did not score all of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Not the request's fault: wait until the API is well again; no attempt is used up.
    Unavailable,
    /// Perhaps the request's fault: repeat it, then bisect.
    Suspect,
    /// The request's fault: bisect at once.
    Rejected,
    /// The fault of a setting, here or there: wait until it is repaired, and say loudly what to fix.
    Misconfigured,
}

impl ErrorClass {
    /// Its name in metrics.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symptom {
    /// No connection, and why.
    Unreachable(&'static str),
    /// A connection that ended before the answer did.
    ConnectionLost,
    /// There is no TLS with the API.
    Tls(TlsTrouble),
    /// No answer in time, and none from `/health` either.
    TimedOutUnhealthy,
    /// No answer in time, though `/health` answers.
    TimedOutHealthy,
    /// An HTTP status other than success.
    Status(u16),
    /// Success, but the body is no answer.
    Unreadable(&'static str),
    /// Success, but the answer lacks rows, or says of them what cannot be used.
    Incomplete(&'static str),
}

/// What each status means; the first line that has it counts.
const STATUS_CLASSES: &[(RangeInclusive<u16>, ErrorClass)] = &[
    (400..=400, ErrorClass::Rejected),
    // A time-out that the server notices, and a request that came too early: as transient as what the gateways say.
    (408..=408, ErrorClass::Unavailable),
    // Also lowers the size of later requests; see `Symptom::is_too_large`.
    (413..=413, ErrorClass::Rejected),
    (422..=422, ErrorClass::Rejected),
    (425..=425, ErrorClass::Unavailable),
    (429..=429, ErrorClass::Unavailable),
    (502..=504, ErrorClass::Unavailable),
    (500..=599, ErrorClass::Suspect),
    // 401, 403, 404, 405, every other 4xx; and redirections, as a POST that follows one arrives as a GET.
    (300..=499, ErrorClass::Misconfigured),
    (0..=u16::MAX, ErrorClass::Suspect),
];

impl Symptom {
    /// What the sign means.
    pub(crate) fn class(self) -> ErrorClass {
        match self {
            Self::Unreachable(_) | Self::ConnectionLost | Self::TimedOutUnhealthy => ErrorClass::Unavailable,
            Self::TimedOutHealthy | Self::Unreadable(_) | Self::Incomplete(_) => ErrorClass::Suspect,
            Self::Tls(_) => ErrorClass::Misconfigured,
            Self::Status(status) => STATUS_CLASSES
                .iter()
                .find(|(statuses, _)| statuses.contains(&status))
                .map_or(ErrorClass::Suspect, |(_, class)| *class),
        }
    }

    /// What the sign means where a transaction that is known to be good, or everything, meets it: the model is broken.
    pub(crate) fn class_if_model_broken(self) -> ErrorClass {
        match self.class() {
            ErrorClass::Suspect => ErrorClass::Unavailable,
            ErrorClass::Rejected => ErrorClass::Misconfigured,
            class => class,
        }
    }

    /// What to do about a setting that this shows to be wrong, where `path` is what scores are asked of.
    pub(crate) fn remedy(self, path: &str) -> String {
        match self {
            Self::Status(401 | 403 | 407) => {
                format!(
                    "check ML_API_URL (user and password stand in it, as in http://user:password@host) and, where it asks for \
                     a certificate, {TLS_PREFIX}_CERT_FILE and {TLS_PREFIX}_KEY_FILE"
                )
            }
            Self::Status(404 | 405 | 410) => format!("check ML_API_URL, as nothing there answers POST {path}"),
            Self::Status(300..=399) => format!("check ML_API_URL, as POST {path} is redirected from there"),
            // It says itself what to do.
            Self::Tls(_) => "check ML_API_URL".to_owned(),
            _ => format!("check ML_API_URL and what answers POST {path} there"),
        }
    }

    /// Whether the request was cut off on its way: by an outage, or because it crashed what worked on it.
    pub(crate) fn is_disconnect(self) -> bool {
        matches!(self, Self::ConnectionLost | Self::Status(502 | 504))
    }

    /// Whether no answer came in time.
    pub(crate) fn is_timeout(self) -> bool {
        matches!(self, Self::TimedOutHealthy | Self::TimedOutUnhealthy)
    }

    /// Whether the request was too large, so that later ones should be smaller.
    pub(crate) fn is_too_large(self) -> bool {
        self == Self::Status(413)
    }
}

/// In our own words, as the API's may repeat the transactions that it was asked for.
impl fmt::Display for Symptom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLost => formatter.write_str("connection broken off"),
            Self::Tls(error) => write!(formatter, "{}; {}", error.cause(), error.remedy(TLS_PREFIX)),
            Self::TimedOutUnhealthy => formatter.write_str("no answer in time, and none from /health"),
            Self::TimedOutHealthy => formatter.write_str("no answer in time, though /health answers"),
            Self::Unreachable(why) | Self::Unreadable(why) | Self::Incomplete(why) => formatter.write_str(why),
            Self::Status(status) => {
                let phrase = reqwest::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
                write!(formatter, "HTTP status {status}")?;
                phrase.map_or(Ok(()), |phrase| write!(formatter, " {phrase}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_has_its_class() {
        let cases = [
            (ErrorClass::Unavailable, &[408, 425, 429, 502, 503, 504][..]),
            (ErrorClass::Suspect, &[500, 501, 505, 507, 599, 600, 100, 999]),
            (ErrorClass::Rejected, &[400, 413, 422]),
            (ErrorClass::Misconfigured, &[301, 307, 401, 402, 403, 404, 405, 406, 407, 409, 410, 415, 418, 451, 499]),
        ];
        for (class, statuses) in cases {
            for status in statuses {
                assert_eq!(Symptom::Status(*status).class(), class, "{status}");
            }
        }
        assert_eq!(Symptom::Unreachable("connection refused").class(), ErrorClass::Unavailable);
        assert_eq!(Symptom::ConnectionLost.class(), ErrorClass::Unavailable);
        assert_eq!(Symptom::TimedOutUnhealthy.class(), ErrorClass::Unavailable);
        assert_eq!(Symptom::TimedOutHealthy.class(), ErrorClass::Suspect);
        assert_eq!(Symptom::Unreadable("no JSON").class(), ErrorClass::Suspect);
        assert_eq!(Symptom::Incomplete("no entry").class(), ErrorClass::Suspect);
        assert_eq!(Symptom::Tls(TlsTrouble::NoTls).class(), ErrorClass::Misconfigured);
    }

    #[test]
    fn a_broken_model_is_nobodys_fault() {
        assert_eq!(Symptom::Status(500).class_if_model_broken(), ErrorClass::Unavailable);
        assert_eq!(Symptom::Status(422).class_if_model_broken(), ErrorClass::Misconfigured);
        assert_eq!(Symptom::Status(404).class_if_model_broken(), ErrorClass::Misconfigured);
        assert_eq!(Symptom::Unreadable("no JSON").class_if_model_broken(), ErrorClass::Unavailable);
    }

    #[test]
    fn a_wrong_setting_names_what_to_check() {
        let cases = [
            (401, &["ML_API_URL", "user:password@", "ML_API_KEY_FILE"][..]),
            (403, &["ML_API_URL", "user:password@", "ML_API_KEY_FILE"]),
            (404, &["ML_API_URL", "POST /models/fraud/predict"]),
            (405, &["ML_API_URL", "POST /models/fraud/predict"]),
            (307, &["ML_API_URL", "POST /models/fraud/predict", "redirected"]),
            (415, &["ML_API_URL", "POST /models/fraud/predict"]),
        ];
        for (status, words) in cases {
            let remedy = Symptom::Status(status).remedy("/models/fraud/predict");
            assert!(words.iter().all(|word| remedy.contains(word)), "{status}: {remedy}");
            assert!(remedy.starts_with("check ML_API_URL"), "{remedy}");
        }
    }

    #[test]
    fn speaks_in_its_own_words() {
        assert_eq!(Symptom::Status(422).to_string(), "HTTP status 422 Unprocessable Entity");
        assert_eq!(Symptom::Status(599).to_string(), "HTTP status 599");
    }
}
