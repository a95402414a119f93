//! How values go into columns and come out of them.

use std::borrow::Cow;

use serde::Serialize;

use crate::StoreError;

/// A count as a signed column takes it. Validated counts fit, and nothing else comes near the limit.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count from a column, which holds none below zero.
pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// The body of what is removed.
pub(crate) const NO_BYTES: &[u8] = &[];

/// JSON to bind as text.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::data(error.to_string()))
}

/// A text without NUL, which PostgreSQL does not take. What broke a row must not break its record.
pub(crate) fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

/// Labels, each with its number of rows and their mean score.
pub(crate) type LabelCounts = Vec<(String, i64, Option<f64>)>;
