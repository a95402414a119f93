//! What predictors tell each other about the ML API: `assay.hold.v1` and `assay.predictor.v1`.

use serde::{Deserialize, Serialize};

use super::message;

/// A pause that one predictor was asked for or takes, for all that send to the same ML API: `assay.hold.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldNotice {
    /// The predictor that tells it.
    pub predictor: String,
    /// The address of the ML API, without credentials. The hold is for this one alone.
    pub endpoint: String,
    /// Whether it binds.
    pub kind: HoldKind,
    /// How long it lasts from now on, in milliseconds. Readers cap it.
    pub hold_ms: u64,
    /// What was seen, in a few words.
    pub reason: String,
    /// Transactions a second that the predictor sends after the hold, if the API refuses what is beyond a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<u64>,
}

/// What a hold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The API said when to come back: all obey.
    RetryAfter,
    /// A circuit opened: a predictor that scores at the time goes on.
    Circuit,
    /// One of a newer version, which says nothing to this one.
    #[serde(other)]
    Unknown,
}

message!(HoldNotice, "assay.hold.v1", |notice| {
    if notice.predictor.len() > MAX_TEXT || notice.endpoint.len() > MAX_TEXT || notice.reason.len() > MAX_TEXT {
        return Err(TOO_LONG);
    }
    Ok(())
});

/// A sign of life of a predictor, while `API_RATE_LIMIT` is shared out: `assay.predictor.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictorNotice {
    /// The predictor.
    pub predictor: String,
    /// The address of the ML API, without credentials.
    pub endpoint: String,
    /// Whether it has sent anything lately: an idle one leaves most of its share to the others.
    #[serde(default = "yes")]
    pub is_busy: bool,
    /// Whether it stops, and needs no share any more.
    #[serde(default)]
    pub is_leaving: bool,
}

message!(PredictorNotice, "assay.predictor.v1", |notice| {
    if notice.predictor.len() > MAX_TEXT || notice.endpoint.len() > MAX_TEXT { Err(TOO_LONG) } else { Ok(()) }
});

/// The longest text of a notice, in bytes: more than names and addresses have.
const MAX_TEXT: usize = 1_000;
const TOO_LONG: &str = "a text of it is too long";

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> HoldNotice {
        HoldNotice {
            predictor: "host/7/0a1b2c3d".into(),
            endpoint: "http://ml-api:8000".into(),
            kind: HoldKind::RetryAfter,
            hold_ms: 1_000,
            reason: "status 429".into(),
            rows_per_second: Some(2_500),
        }
    }

    #[test]
    fn a_hold_is_pinned_and_read_tolerantly() {
        let body = r#"{"predictor":"host/7/0a1b2c3d","endpoint":"http://ml-api:8000","kind":"retry_after","hold_ms":1000,"reason":"status 429","rows_per_second":2500}"#;
        assert_eq!(hold().encode().unwrap(), body.as_bytes());
        assert_eq!(HoldNotice::decode(body.as_bytes()).unwrap(), hold());
        let without_rate = HoldNotice { kind: HoldKind::Circuit, rows_per_second: None, ..hold() };
        assert_eq!(HoldNotice::decode(&without_rate.encode().unwrap()).unwrap(), without_rate);
        let newer = body.replace("retry_after", "lunch").replace(r#""hold_ms""#, r#""more":[1],"hold_ms""#);
        assert_eq!(HoldNotice::decode(newer.as_bytes()).unwrap().kind, HoldKind::Unknown);
        for wrong in ["{}", "[]", &body.replace("1000", "-1"), &body.replace("1000", "1e99")] {
            assert!(HoldNotice::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let long = HoldNotice { reason: "x".repeat(MAX_TEXT + 1), ..hold() };
        assert!(HoldNotice::decode(&long.encode().unwrap()).is_err());
    }

    #[test]
    fn a_sign_of_life_is_pinned_and_read_tolerantly() {
        let (predictor, endpoint) = ("host/7/0a1b2c3d".to_owned(), "http://ml-api:8000".to_owned());
        let notice = PredictorNotice { predictor, endpoint, is_busy: true, is_leaving: false };
        let body =
            r#"{"predictor":"host/7/0a1b2c3d","endpoint":"http://ml-api:8000","is_busy":true,"is_leaving":false}"#;
        assert_eq!(notice.encode().unwrap(), body.as_bytes());
        let short = body.replace(r#","is_busy":true,"is_leaving":false"#, "");
        assert_eq!(PredictorNotice::decode(short.as_bytes()).unwrap(), notice);
        let long = PredictorNotice { endpoint: "x".repeat(MAX_TEXT + 1), ..notice };
        assert!(PredictorNotice::decode(&long.encode().unwrap()).is_err());
    }
}
