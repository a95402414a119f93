//! The notice to predictors of how the ids of the database become identities, `assay.identities.v1`.

use serde::{Deserialize, Serialize};

use super::message;
use crate::IdScheme;

/// The scheme of ids of the writers' database, repeated while they run: predictors have no database, and must identify the
/// transactions of external producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitiesNotice {
    /// The scheme.
    pub ids: IdScheme,
}

message!(IdentitiesNotice, "assay.identities.v1");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_pinned() {
        let notice = IdentitiesNotice { ids: IdScheme::V8 };
        let body = notice.encode().unwrap();
        assert_eq!(body, br#"{"ids":8}"#);
        assert_eq!(IdentitiesNotice::decode(&body).unwrap(), notice);
        for unknown in ["{}", r#"{"ids":7}"#] {
            assert!(IdentitiesNotice::decode(unknown.as_bytes()).is_err());
        }
    }
}
