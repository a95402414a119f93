//! The requests: send transactions, and ask for one.

use std::sync::Arc;
use std::time::Duration;

use assay_http_server::ReadBody;
use assay_transaction::{Entry, RejectReason, RejectedRow, RunId, parse_duration, split_transactions};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use uuid::Uuid;

use super::Served;
use super::error_response::{Refusal, json};
use crate::accept::Refused;
use crate::lookup::{Fate, Sought};

/// The description of this API, written by hand, and held to what is answered by a test.
const OPENAPI: &str = include_str!("../../openapi.json");
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
    check_kind(request.headers())?;
    // The room of the body is taken until the answer: so long lives what was made of it.
    let ReadBody { bytes, room: _room } = served.bodies.read(request).await?;
    let entries = judge(&served, &bytes)?;
    drop(bytes);
    let mut transactions = Vec::with_capacity(entries.len());
    let mut sought = Vec::new();
    for entry in &entries {
        let id = entry.transaction.id().map_err(Refused::from)?;
        transactions.push(SentTransaction { id, external_id: entry.external_id.clone(), fate: None });
        if wait.is_some() {
            sought.push(Sought { id, content: Some(entry.transaction.clone()), failed_before: Arc::default() });
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
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let _permit = served.admit(request.headers())?;
    let Path(id) = id.map_err(|_| Refusal::Id)?;
    let until = Instant::now() + wait_of(request.uri())?.unwrap_or_default();
    let sought = [Sought { id: served.namespace.identify(&id).0, content: None, failed_before: Arc::default() }];
    let found = served.lookup.settle(&sought, until, &served.shutdown).await.map_err(Refusal::Ledger)?;
    let fate = found.into_iter().next().flatten().ok_or(Refusal::NotStored(id))?;
    let [Sought { id, .. }] = sought;
    Ok(json(StatusCode::OK, &Found { id, fate }))
}

/// `GET /openapi.json`
pub(super) async fn describe() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
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

/// Refuses a body that says of itself that it is something else: compressed, or of a type that no JSON has. `curl -d` and the like
/// say that it is a form, and many say nothing.
fn check_kind(headers: &HeaderMap) -> Result<(), Refusal> {
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        return Err(Refusal::Encoded(encoding));
    }
    let Some(kind) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.contains("json") || matches!(kind, "" | FORM | "application/octet-stream" | "text/plain");
    if is_json { Ok(()) } else { Err(Refusal::Kind(kind.to_owned())) }
}

/// What the body of a form is said to be.
const FORM: &str = "application/x-www-form-urlencoded";

/// How long the sender waits for predictions, if it does: `?wait=500ms`.
fn wait_of(uri: &Uri) -> Result<Option<Duration>, Refusal> {
    let mut waits = uri.query().unwrap_or_default().split('&').filter_map(|parameter| parameter.strip_prefix("wait="));
    let Some(wait) = waits.next() else { return Ok(None) };
    if waits.next().is_some() {
        return Err(Refusal::Wait("it is there twice".to_owned()));
    }
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
        for (uri, expected) in [
            ("/transactions?wait=", "such as 30s"),
            ("/transactions?wait=5", "such as 30s"),
            ("/transactions?wait=1s&wait=1s", "twice"),
        ] {
            assert!(wait_of(&uri.parse().unwrap()).unwrap_err().to_string().contains(expected), "{uri}");
        }
    }

    #[test]
    fn a_body_is_json_unless_it_says_otherwise() {
        let check = |name: &'static str, value: &'static str| {
            check_kind(&HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]))
        };
        for fine in [
            "",
            "application/json; charset=utf-8",
            "Application/X-NDJSON",
            "application/vnd.till+json",
            FORM,
            "text/plain",
        ] {
            assert!(check("content-type", fine).is_ok(), "{fine}");
        }
        check_kind(&HeaderMap::new()).unwrap();
        check("content-encoding", "identity").unwrap();
        for (name, value) in
            [("content-type", "application/xml"), ("content-type", "multipart/form-data"), ("content-encoding", "gzip")]
        {
            let refusal = check(name, value).unwrap_err().to_string();
            assert!(refusal.contains(value), "{refusal}");
        }
    }
}
