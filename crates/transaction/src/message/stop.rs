//! The notice to predictors that a run ends early, `assay.stop.v1`.

use serde::{Deserialize, Serialize};

use super::message;
use crate::{RunId, StopKind};

/// A stop order for the predictors, repeated while the run is not finished: `assay.stop.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNotice {
    /// The run whose chunks must not be scored any more.
    pub run_id: RunId,
    /// Who ends it.
    pub kind: StopKind,
    /// Why.
    pub reason: String,
}

message!(StopNotice, "assay.stop.v1");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_pinned() {
        let notice = StopNotice { run_id: "run".parse().unwrap(), kind: StopKind::Cancelled, reason: "mistake".into() };
        let body = notice.encode().unwrap();
        assert_eq!(body, br#"{"run_id":"run","kind":"cancelled","reason":"mistake"}"#);
        assert_eq!(StopNotice::decode(&body).unwrap(), notice);
    }
}
