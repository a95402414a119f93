//! How ids that are no UUIDs become the stored identity of a transaction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of UUID that an id which is no UUID becomes. It belongs to the database: two schemes in one would store one
/// transaction twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum IdScheme {
    /// UUIDv5: a hash, in no order. The scheme of messages and runs that name none.
    #[default]
    V5,
    /// UUIDv8: in the order of ids that end in a number.
    V8,
}

impl IdScheme {
    /// Whether it is the scheme of messages that name none.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Its number.
impl fmt::Display for IdScheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        u8::from(*self).fmt(formatter)
    }
}

impl From<IdScheme> for u8 {
    fn from(scheme: IdScheme) -> Self {
        match scheme {
            IdScheme::V5 => 5,
            IdScheme::V8 => 8,
        }
    }
}

/// A number that is no scheme of ids known to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ids follow scheme {0}, which this version does not know: update it")]
pub struct UnknownIdScheme(u8);

impl TryFrom<u8> for IdScheme {
    type Error = UnknownIdScheme;

    fn try_from(number: u8) -> Result<Self, UnknownIdScheme> {
        match number {
            5 => Ok(Self::V5),
            8 => Ok(Self::V8),
            other => Err(UnknownIdScheme(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_its_number() {
        assert_eq!(serde_json::to_string(&[IdScheme::V5, IdScheme::V8]).unwrap(), "[5,8]");
        assert_eq!(serde_json::from_str::<Vec<IdScheme>>("[8,5]").unwrap(), [IdScheme::V8, IdScheme::V5]);
        let error = serde_json::from_str::<IdScheme>("7").unwrap_err().to_string();
        assert!(error.contains("update it"), "{error}");
        assert_eq!(IdScheme::V8.to_string(), "8");
        assert!(IdScheme::default().is_default() && !IdScheme::V8.is_default());
    }
}
