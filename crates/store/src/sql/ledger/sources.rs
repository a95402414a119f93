//! How far runs have come with sources, and which rows of a source are stored already.

use std::collections::HashMap;

use assay_transaction::{Entry, KnownRow, Prediction, Run, SourceIdentity};
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::ask;
use super::dialect::{Pool, READING, as_json, is_any_of, json_elements, keys};
use super::operations::records::{read_content, stored_content};
use crate::values::to_json;
use crate::write::resolve_ids::is_same_content;
use crate::{EarlierIds, SourceState, StoreError};

/// Of a JSON array of locations, versions and positions: the positions that have runs, and whether one of those is
/// past loading.
const KNOWN: &str = concat!(
    "SELECT CAST(element.value->>2 AS bigint), max(CASE WHEN state = 'loading' THEN 0 ELSE 1 END) > 0 FROM ",
    json_elements!(as_json!("$1")),
    " JOIN runs ON source_location = element.value->>0 AND source_version = element.value->>1 GROUP BY 1"
);

/// Whether there are other runs, and whether one of them has the same namespace.
const EARLIER: &str =
    "SELECT count(*) > 0, count(CASE WHEN settings->>'namespace' = $2 THEN 1 END) > 0 FROM runs WHERE run_id <> $1";
const STORED_ALIKE: &str = concat!(
    "SELECT ",
    stored_content!(),
    ", p.prediction, p.fraud_score, p.model_version FROM transactions t JOIN predictions p ON p.transaction_id = t.id WHERE ",
    is_any_of!("t.id", "$1")
);

pub(crate) async fn earlier(pool: &Pool, run: &Run) -> Result<EarlierIds, StoreError> {
    let namespace = run.settings.namespace.to_string();
    let (has_others, has_namespace): (bool, bool) = ask(pool, READING, async |reading| {
        sqlx::query_as(EARLIER).bind(run.run_id.as_str()).bind(namespace).fetch_one(reading).await
    })
    .await?;
    Ok(match (has_others, has_namespace) {
        (_, true) => EarlierIds::Any,
        (true, false) => EarlierIds::Uuids,
        (false, false) => EarlierIds::Nothing,
    })
}

pub(crate) async fn stored_alike(pool: &Pool, entries: &[&Entry]) -> Result<Vec<KnownRow>, StoreError> {
    let mut by_id: HashMap<Uuid, Vec<&Entry>> = HashMap::with_capacity(entries.len());
    for entry in entries {
        // An entry without an id is not stored.
        if let Ok(id) = entry.transaction.id() {
            by_id.entry(id).or_default().push(entry);
        }
    }
    let ids: Vec<Uuid> = by_id.keys().copied().collect();
    let mut alike = Vec::new();
    let mut reading = pool.begin_with(READING).await?;
    let mut rows = sqlx::query(STORED_ALIKE).bind(keys(&ids)).fetch(&mut *reading);
    while let Some(row) = rows.try_next().await? {
        let stored = read_content(&row)?;
        let external_id: Option<String> = row.try_get("external_id")?;
        let prediction = Prediction {
            prediction: row.try_get("prediction")?,
            fraud_score: row.try_get("fraud_score")?,
            model_version: row.try_get("model_version")?,
            // It is not stored anew.
            ..Prediction::default()
        };
        for entry in by_id.get(&stored.id).into_iter().flatten() {
            let there = (&stored, external_id.as_deref());
            let is_same = |here| is_same_content((&here, entry.external_id.as_deref()), there);
            if entry.transaction.decode().is_ok_and(is_same) {
                alike.push(KnownRow { row: entry.row, prediction: prediction.clone() });
            }
        }
    }
    drop(rows);
    reading.commit().await?;
    Ok(alike)
}

pub(crate) async fn known(pool: &Pool, sources: &[SourceIdentity]) -> Result<Vec<SourceState>, StoreError> {
    let asked: Vec<_> =
        sources.iter().zip(0_u64..).map(|(source, at)| (&source.location, &source.version, at)).collect();
    let asked = to_json(&asked)?;
    let found: Vec<(i64, bool)> =
        ask(pool, READING, async |reading| sqlx::query_as(KNOWN).bind(asked).fetch_all(reading).await).await?;
    let mut known = vec![SourceState::Not; sources.len()];
    for (at, is_read) in found {
        if let Some(known) = usize::try_from(at).ok().and_then(|at| known.get_mut(at)) {
            *known = if is_read { SourceState::Read } else { SourceState::Loading };
        }
    }
    Ok(known)
}
