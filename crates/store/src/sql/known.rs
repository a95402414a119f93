//! Sources that no run has read.

use assay_transaction::SourceIdentity;

use super::dialect::{Pool, json, json_elements};
use crate::StoreError;

/// Which of the sources in a JSON array of locations, versions and positions have a run.
const READ: &str = concat!(
    "SELECT DISTINCT CAST(element.value->>2 AS bigint) FROM ",
    json_elements!(json!("$1")),
    " JOIN runs ON source_location = element.value->>0 AND source_version = element.value->>1 WHERE state <> 'loading'"
);

pub(super) async fn unread(pool: &Pool, sources: &[SourceIdentity]) -> Result<Vec<bool>, StoreError> {
    let asked: Vec<_> =
        sources.iter().zip(0_u64..).map(|(source, at)| (&source.location, &source.version, at)).collect();
    let asked = serde_json::to_string(&asked).map_err(|error| StoreError::data(error.to_string()))?;
    let read: Vec<i64> = sqlx::query_scalar(READ).bind(asked).fetch_all(pool).await?;
    let mut unread = vec![true; sources.len()];
    for at in read {
        if let Some(unread) = usize::try_from(at).ok().and_then(|at| unread.get_mut(at)) {
            *unread = false;
        }
    }
    Ok(unread)
}
