//! What runs have made of sources.

use assay_transaction::SourceIdentity;

use super::dialect::{Pool, json, json_elements};
use crate::{Known, StoreError};

/// Of a JSON array of locations, versions and positions: the positions that have runs, and whether one of those is past
/// loading.
const KNOWN: &str = concat!(
    "SELECT CAST(element.value->>2 AS bigint), max(CASE WHEN state = 'loading' THEN 0 ELSE 1 END) > 0 FROM ",
    json_elements!(json!("$1")),
    " JOIN runs ON source_location = element.value->>0 AND source_version = element.value->>1 GROUP BY 1"
);

pub(super) async fn known(pool: &Pool, sources: &[SourceIdentity]) -> Result<Vec<Known>, StoreError> {
    let asked: Vec<_> =
        sources.iter().zip(0_u64..).map(|(source, at)| (&source.location, &source.version, at)).collect();
    let asked = serde_json::to_string(&asked).map_err(|error| StoreError::data(error.to_string()))?;
    let found: Vec<(i64, bool)> = sqlx::query_as(KNOWN).bind(asked).fetch_all(pool).await?;
    let mut known = vec![Known::Not; sources.len()];
    for (at, is_read) in found {
        if let Some(known) = usize::try_from(at).ok().and_then(|at| known.get_mut(at)) {
            *known = if is_read { Known::Read } else { Known::Loading };
        }
    }
    Ok(known)
}
