//! What an answer of the ML API means. Decided here and nowhere else: everybody else asks [`Sign::class`].

use std::fmt;
use std::ops::RangeInclusive;

use assay_credentials::TlsTrouble;

use crate::options::TLS_PREFIX;

/// What happens after a request that did not score all of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Not the request's fault: wait until the API is well again; no attempt is used up.
    Unavailable,
    /// Perhaps the request's fault: repeat it, then bisect.
    Suspect,
    /// The request's fault: bisect at once.
    Rejected,
    /// The fault of a setting, here or there: wait until it is repaired, and say loudly what to fix.
    Misconfigured,
}

impl Class {
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
pub(crate) enum Sign {
    /// No connection, and why.
    Unreachable(&'static str),
    /// A connection that ended before the answer did.
    BrokenOff,
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
const STATUSES: &[(RangeInclusive<u16>, Class)] = &[
    (400..=400, Class::Rejected),
    // A time-out that the server notices, and a request that came too early: as transient as what the gateways say.
    (408..=408, Class::Unavailable),
    // Also lowers the size of later requests; see `Sign::is_too_large`.
    (413..=413, Class::Rejected),
    (422..=422, Class::Rejected),
    (425..=425, Class::Unavailable),
    (429..=429, Class::Unavailable),
    (502..=504, Class::Unavailable),
    (500..=599, Class::Suspect),
    // 401, 403, 404, 405, every other 4xx; and redirections, as a POST that follows one arrives as a GET.
    (300..=499, Class::Misconfigured),
    (0..=u16::MAX, Class::Suspect),
];

impl Sign {
    /// What the sign means.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Unreachable(_) | Self::BrokenOff | Self::TimedOutUnhealthy => Class::Unavailable,
            Self::TimedOutHealthy | Self::Unreadable(_) | Self::Incomplete(_) => Class::Suspect,
            Self::Tls(_) => Class::Misconfigured,
            Self::Status(status) => STATUSES
                .iter()
                .find(|(statuses, _)| statuses.contains(&status))
                .map_or(Class::Suspect, |(_, class)| *class),
        }
    }

    /// What the sign means where a transaction that is known to be good, or everything, meets it: the model is broken.
    pub(crate) fn class_of_broken_model(self) -> Class {
        match self.class() {
            Class::Suspect => Class::Unavailable,
            Class::Rejected => Class::Misconfigured,
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
    pub(crate) fn is_cut(self) -> bool {
        matches!(self, Self::BrokenOff | Self::Status(502 | 504))
    }

    /// Whether no answer came in time.
    pub(crate) fn is_time_out(self) -> bool {
        matches!(self, Self::TimedOutHealthy | Self::TimedOutUnhealthy)
    }

    /// Whether the request was too large, so that later ones should be smaller.
    pub(crate) fn is_too_large(self) -> bool {
        self == Self::Status(413)
    }
}

/// In our own words, as the API's may repeat the transactions that it was asked for.
impl fmt::Display for Sign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenOff => formatter.write_str("connection broken off"),
            Self::Tls(trouble) => write!(formatter, "{}; {}", trouble.cause(), trouble.remedy(TLS_PREFIX)),
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
            (Class::Unavailable, &[408, 425, 429, 502, 503, 504][..]),
            (Class::Suspect, &[500, 501, 505, 507, 599, 600, 100, 999]),
            (Class::Rejected, &[400, 413, 422]),
            (Class::Misconfigured, &[301, 307, 401, 402, 403, 404, 405, 406, 407, 409, 410, 415, 418, 451, 499]),
        ];
        for (class, statuses) in cases {
            for status in statuses {
                assert_eq!(Sign::Status(*status).class(), class, "{status}");
            }
        }
        assert_eq!(Sign::Unreachable("connection refused").class(), Class::Unavailable);
        assert_eq!(Sign::BrokenOff.class(), Class::Unavailable);
        assert_eq!(Sign::TimedOutUnhealthy.class(), Class::Unavailable);
        assert_eq!(Sign::TimedOutHealthy.class(), Class::Suspect);
        assert_eq!(Sign::Unreadable("no JSON").class(), Class::Suspect);
        assert_eq!(Sign::Incomplete("no entry").class(), Class::Suspect);
        assert_eq!(Sign::Tls(TlsTrouble::NoTls).class(), Class::Misconfigured);
    }

    #[test]
    fn a_broken_model_is_nobodys_fault() {
        assert_eq!(Sign::Status(500).class_of_broken_model(), Class::Unavailable);
        assert_eq!(Sign::Status(422).class_of_broken_model(), Class::Misconfigured);
        assert_eq!(Sign::Status(404).class_of_broken_model(), Class::Misconfigured);
        assert_eq!(Sign::Unreadable("no JSON").class_of_broken_model(), Class::Unavailable);
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
            let remedy = Sign::Status(status).remedy("/models/fraud/predict");
            assert!(words.iter().all(|word| remedy.contains(word)), "{status}: {remedy}");
            assert!(remedy.starts_with("check ML_API_URL"), "{remedy}");
        }
    }

    #[test]
    fn speaks_in_its_own_words() {
        assert_eq!(Sign::Status(422).to_string(), "HTTP status 422 Unprocessable Entity");
        assert_eq!(Sign::Status(599).to_string(), "HTTP status 599");
    }
}
