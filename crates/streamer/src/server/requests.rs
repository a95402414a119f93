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

use super::ServerState;
use super::error_response::{ErrorResponse, json_response};
use crate::accept::AcceptError;
use crate::lookup::{LookupTarget, TransactionResult};

/// The description of this API, written by hand, and held to what is answered by a test.
const OPENAPI: &str = include_str!("../../openapi.json");
/// The longest wait for predictions.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is said of transactions that were accepted.
#[derive(Serialize)]
struct AcceptedResponse {
    message: String,
    run_id: RunId,
    transactions: Vec<AcceptedTransaction>,
}

#[derive(Serialize)]
struct AcceptedTransaction {
    id: Uuid,
    external_id: Option<String>,
    #[serde(flatten)]
    result: Option<ResultFields>,
}

/// What became of a transaction, with its run only where that is another one.
#[derive(Serialize)]
#[serde(transparent)]
struct ResultFields(serde_json::Map<String, serde_json::Value>);

/// What is said of one transaction.
#[derive(Serialize)]
struct LookupResponse {
    id: Uuid,
    #[serde(flatten)]
    result: TransactionResult,
}

/// `POST /transactions`
pub(super) async fn send(State(state): State<Arc<ServerState>>, request: Request) -> Result<Response, ErrorResponse> {
    let permit = state.admit(request.headers())?;
    let wait = wait_of(request.uri())?;
    check_kind(request.headers())?;
    // The room of the body is taken until the answer: so long lives what was made of it.
    let ReadBody { bytes, room: _room } = state.bodies.read(request).await?;
    let entries = judge(&state, &bytes)?;
    drop(bytes);
    let mut transactions = Vec::with_capacity(entries.len());
    let mut targets = Vec::new();
    for entry in &entries {
        let id = entry.transaction.id().map_err(AcceptError::from)?;
        transactions.push(AcceptedTransaction { id, external_id: entry.external_id.clone(), result: None });
        if wait.is_some() {
            targets.push(LookupTarget { id, content: Some(entry.transaction.clone()), failed_before: Arc::default() });
        }
    }
    // Else one that failed before, and is sent again, would be told that at once.
    state.lookup.note_failures(&mut targets).await.map_err(ErrorResponse::Ledger)?;
    let began = Instant::now();
    // A task of its own: it ends what it began although the sender may go away, and that counts as a request until then.
    let accepting = state.tasks.spawn({
        let (state, permit) = (Arc::clone(&state), Arc::clone(&permit));
        async move {
            let accepted = state.acceptor.accept(&Uuid::new_v4().to_string(), entries).await;
            drop(permit);
            accepted
        }
    });
    let accepted = accepting.await.map_err(|_| ErrorResponse::Broken)??;
    if let Some(wait) = wait {
        // It is accepted: an error of the ledger only means that nobody can say more of it.
        let results = state.lookup.wait_for_results(&targets, began + wait, &state.shutdown).await.unwrap_or_default();
        for (transaction, result) in transactions.iter_mut().zip(results) {
            transaction.result = result.map(|result| ResultFields::of(&result, &accepted.run_id));
        }
    }
    drop(permit);
    let sent = AcceptedResponse { message: accepted.message, run_id: accepted.run_id, transactions };
    Ok(json_response(StatusCode::ACCEPTED, &sent))
}

/// `GET /transactions/{id}`
pub(super) async fn ask(
    State(state): State<Arc<ServerState>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ErrorResponse> {
    let _permit = state.admit(request.headers())?;
    let Path(id) = id.map_err(|_| ErrorResponse::Id)?;
    let until = Instant::now() + wait_of(request.uri())?.unwrap_or_default();
    let targets = [LookupTarget { id: state.namespace.identify(&id).0, content: None, failed_before: Arc::default() }];
    let found = state.lookup.wait_for_results(&targets, until, &state.shutdown).await.map_err(ErrorResponse::Ledger)?;
    let result = found.into_iter().next().flatten().ok_or(ErrorResponse::NotStored(id))?;
    let [LookupTarget { id, .. }] = targets;
    Ok(json_response(StatusCode::OK, &LookupResponse { id, result }))
}

/// `GET /openapi.json`
pub(super) async fn describe() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

impl ResultFields {
    fn of(result: &TransactionResult, run_id: &RunId) -> Self {
        let mut told = match serde_json::to_value(result) {
            Ok(serde_json::Value::Object(told)) => told,
            _ => serde_json::Map::new(),
        };
        if result.run_id == *run_id {
            told.remove("run_id");
        }
        Self(told)
    }
}

/// The transactions of a body, if each of them is valid.
fn judge(state: &ServerState, body: &[u8]) -> Result<Vec<Entry>, ErrorResponse> {
    let rows = split_transactions(body)?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut invalid: Vec<RejectedRow> = Vec::new();
    for (row, json) in (1..).zip(&rows) {
        match state.rules.judge(row, json).map_err(AcceptError::from)? {
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
        return Err(ErrorResponse::Plain(assay_transaction::PlainError::Json));
    }
    Err(ErrorResponse::Invalid(invalid))
}

/// Refuses a body that says of itself that it is something else: compressed, or of a type that no JSON has. `curl -d` and the like
/// say that it is a form, and many say nothing.
fn check_kind(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        return Err(ErrorResponse::Encoded(encoding));
    }
    let Some(kind) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.contains("json") || matches!(kind, "" | FORM | "application/octet-stream" | "text/plain");
    if is_json { Ok(()) } else { Err(ErrorResponse::Kind(kind.to_owned())) }
}

/// What the body of a form is said to be.
const FORM: &str = "application/x-www-form-urlencoded";

/// How long the sender waits for predictions, if it does: `?wait=500ms`.
fn wait_of(uri: &Uri) -> Result<Option<Duration>, ErrorResponse> {
    let mut waits = uri.query().unwrap_or_default().split('&').filter_map(|parameter| parameter.strip_prefix("wait="));
    let Some(wait) = waits.next() else { return Ok(None) };
    if waits.next().is_some() {
        return Err(ErrorResponse::Wait("it is there twice".to_owned()));
    }
    parse_duration(wait).map(|wait| Some(wait.min(LONGEST_WAIT))).map_err(ErrorResponse::Wait)
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
            let error = check(name, value).unwrap_err().to_string();
            assert!(error.contains(value), "{error}");
        }
    }
}
