//! The ids that were erased, as digests with a key of this database: nobody reads an id from them, and a row with such an id is
//! known when it comes.

use std::collections::HashMap;

use uuid::Uuid;

use super::dialect::{Connection, Pool, WRITING, as_id, as_json, is_any_of, json_elements, keys, queue_up};
use crate::StoreError;
use crate::operations::privacy::ERASURES;
use crate::values::{signed, to_json};

/// Ids of one statement.
const GROUP: usize = 10_000;

const KEY: &str = "SELECT CAST(key AS text) FROM erasure_key";
/// None while nothing is erased, so that writers compute no digest.
const KEY_IF_NEEDED: &str = "SELECT CAST(key AS text) FROM erasure_key WHERE EXISTS (SELECT 1 FROM erased_ids)";
const AMONG: &str =
    concat!("SELECT CAST(digest AS text), operation FROM erased_ids WHERE ", is_any_of!("digest", "$1"));
const REFUSE: &str = concat!(
    "INSERT INTO erased_ids (digest, operation) SELECT ",
    as_id!("element.value->>0"),
    ", $2 FROM ",
    json_elements!(as_json!("$1")),
    " WHERE true ON CONFLICT (digest) DO NOTHING"
);

fn read(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::configuration("an erased id or the key of them cannot be read"))
}

fn digest(key: Uuid, id: Uuid) -> Uuid {
    Uuid::new_v5(&key, id.as_bytes())
}

/// Which ids were erased, each with its operation.
pub(crate) async fn among(connection: &mut Connection, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
    let key: Option<String> = sqlx::query_scalar(KEY_IF_NEEDED).fetch_optional(&mut *connection).await?;
    let Some(key) = key.filter(|_| !ids.is_empty()) else { return Ok(HashMap::new()) };
    let key = read(&key)?;
    let by_digest: HashMap<Uuid, Uuid> = ids.iter().map(|id| (digest(key, *id), *id)).collect();
    let digests: Vec<Uuid> = by_digest.keys().copied().collect();
    let found: Vec<(String, i64)> = sqlx::query_as(AMONG).bind(keys(&digests)).fetch_all(connection).await?;
    let mut erased = HashMap::with_capacity(found.len());
    for (digest, operation) in found {
        erased.extend(by_digest.get(&read(&digest)?).map(|id| (*id, operation)));
    }
    Ok(erased)
}

/// Lists ids as erased. No writer is at work at that moment: those before have committed, and those after find the ids.
pub(crate) async fn refuse(pool: &Pool, operation: u64, ids: &[Uuid]) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    queue_up(&mut transaction, ERASURES).await?;
    let key: String = sqlx::query_scalar(KEY).fetch_one(&mut *transaction).await?;
    let key = read(&key)?;
    for group in ids.chunks(GROUP) {
        let digests: Vec<[Uuid; 1]> = group.iter().map(|id| [digest(key, *id)]).collect();
        sqlx::query(REFUSE).bind(to_json(&digests)?).bind(signed(operation)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}
