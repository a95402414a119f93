//! The requests: send transactions, and ask for one.

use std::sync::Arc;
use std::time::Duration;

use assay_transaction::{Entry, RejectReason, RejectedRow, RunId, parse_duration, split_transactions};
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Served;
use super::refusal::{Refusal, json};
use crate::acceptance::Refused;
use crate::lookup::{Fate, Sought};

/// How long a body may take to come.
const READ: Duration = Duration::from_secs(30);
/// The longest wait for predictions.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is said of transactions that were accepted.
#[derive(Serialize)]
struct Sent {
    message: String,
    run_id: RunId,
    transactions: Vec<SentTransaction>,
}

#[derive(Serialize)]
struct SentTransaction {
    id: Uuid,
    external_id: Option<String>,
    #[serde(flatten)]
    fate: Option<Told>,
}

/// What became of a transaction, with its run only where that is another one.
#[derive(Serialize)]
#[serde(transparent)]
struct Told(serde_json::Map<String, serde_json::Value>);

/// What is said of one transaction.
#[derive(Serialize)]
struct Found {
    id: Uuid,
    #[serde(flatten)]
    fate: Fate,
}

/// `POST /transactions`
pub(super) async fn send(State(served): State<Arc<Served>>, request: Request) -> Result<Response, Refusal> {
    let permit = served.admit(request.headers())?;
    let wait = wait_of(request.uri())?;
    let body = read(&served, request).await?;
    let entries = judge(&served, &body)?;
    drop(body);
    let mut transactions = Vec::with_capacity(entries.len());
    let mut sought = Vec::new();
    for entry in &entries {
        let id = entry.transaction.id().map_err(Refused::from)?;
        transactions.push(SentTransaction { id, external_id: entry.external_id.clone(), fate: None });
        if wait.is_some() {
            let content = Some(entry.transaction.decode().map_err(Refused::from)?);
            sought.push(Sought { id, content, failed_before: Vec::new() });
        }
    }
    // Else one that failed before, and is sent again, would be told that at once.
    served.lookup.note_failures(&mut sought).await.map_err(Refusal::Ledger)?;
    let began = Instant::now();
    // A task of its own: it ends what it began although the sender may go away, and that counts as a request until then.
    let accepting = served.tasks.spawn({
        let (served, permit) = (Arc::clone(&served), Arc::clone(&permit));
        async move {
            let accepted = served.acceptance.accept(&Uuid::new_v4().to_string(), entries).await;
            drop(permit);
            accepted
        }
    });
    let accepted = accepting.await.map_err(|_| Refusal::Broken)??;
    if let Some(wait) = wait {
        // It is accepted: an error of the ledger only means that nobody can say more of it.
        let fates = served.lookup.settle(&sought, began + wait, &served.shutdown).await.unwrap_or_default();
        for (transaction, fate) in transactions.iter_mut().zip(fates) {
            transaction.fate = fate.map(|fate| Told::of(&fate, &accepted.run_id));
        }
    }
    drop(permit);
    let sent = Sent { message: accepted.message, run_id: accepted.run_id, transactions };
    Ok(json(StatusCode::ACCEPTED, &sent))
}

/// `GET /transactions/{id}`
pub(super) async fn ask(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let _permit = served.admit(request.headers())?;
    let until = Instant::now() + wait_of(request.uri())?.unwrap_or_default();
    let sought = [Sought { id: served.namespace.identify(&id).0, content: None, failed_before: Vec::new() }];
    let found = served.lookup.settle(&sought, until, &served.shutdown).await.map_err(Refusal::Ledger)?;
    let fate = found.into_iter().next().flatten().ok_or(Refusal::NotStored(id))?;
    let [Sought { id, .. }] = sought;
    Ok(json(StatusCode::OK, &Found { id, fate }))
}

impl Told {
    fn of(fate: &Fate, run_id: &RunId) -> Self {
        let mut told = match serde_json::to_value(fate) {
            Ok(serde_json::Value::Object(told)) => told,
            _ => serde_json::Map::new(),
        };
        if fate.run_id == *run_id {
            told.remove("run_id");
        }
        Self(told)
    }
}

/// The body, which is not waited for without end.
async fn read(served: &Served, request: Request) -> Result<Bytes, Refusal> {
    match timeout(READ, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Refusal::BodyTooLong(served.max_body_bytes))
        }
        Ok(Err(_)) => Err(Refusal::Unread),
        Err(_) => Err(Refusal::Slow(READ.as_secs())),
    }
}

/// The transactions of a body, if each of them is valid.
fn judge(served: &Served, body: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let rows = split_transactions(body)?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut invalid: Vec<RejectedRow> = Vec::new();
    for (row, json) in (1..).zip(&rows) {
        match served.rules.judge(row, json).map_err(Refused::from)? {
            Ok(entry) => entries.push(entry),
            Err(rejected) => invalid.push(rejected),
        }
    }
    if invalid.is_empty() {
        return Ok(entries);
    }
    let is_text = |json: &&[u8]| serde_json::from_slice::<IgnoredAny>(json).is_err();
    if entries.is_empty()
        && invalid.iter().all(|row| row.reason == RejectReason::JsonFormat)
        && rows.iter().all(is_text)
    {
        return Err(Refusal::Plain(assay_transaction::PlainError::Json));
    }
    Err(Refusal::Invalid(invalid))
}

/// How long the sender waits for predictions, if it does: `?wait=500ms`.
fn wait_of(uri: &Uri) -> Result<Option<Duration>, Refusal> {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let Some(wait) = parameters.find_map(|parameter| parameter.strip_prefix("wait=")) else { return Ok(None) };
    parse_duration(wait).map(|wait| Some(wait.min(LONGEST_WAIT))).map_err(Refusal::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded() {
        for (uri, expected) in [
            ("/transactions", None),
            ("/transactions?", None),
            ("/transactions?a=1&wait=500ms", Some(500)),
            ("/transactions?wait=1h", Some(30_000)),
        ] {
            let wait = wait_of(&uri.parse().unwrap()).unwrap();
            assert_eq!(wait, expected.map(Duration::from_millis), "{uri}");
        }
        for uri in ["/transactions?wait=", "/transactions?wait=5"] {
            assert!(wait_of(&uri.parse().unwrap()).unwrap_err().to_string().contains("such as 30s"), "{uri}");
        }
    }
}
