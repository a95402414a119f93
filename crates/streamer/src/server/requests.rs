//! Handlers of the requests: send transactions, look one up.

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
use tracing::Instrument as _;
use uuid::Uuid;

use super::ServerState;
use super::error_response::{ErrorResponse, json_response};
use crate::accept::AcceptError;
use crate::lookup::{LookupTarget, TransactionResult};

/// The description of this API. A test compares it with the responses.
const OPENAPI: &str = include_str!("../../openapi.json");
/// The longest wait for predictions.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Response to accepted transactions.
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

/// Outcome of a transaction, with its run only if that is another one.
#[derive(Serialize)]
#[serde(transparent)]
struct ResultFields(serde_json::Map<String, serde_json::Value>);

/// Response to a lookup.
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
    // Holds the room of the body until the response, as long as its transactions live.
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
    // Otherwise, the response would report an earlier failure of a transaction that is sent again.
    state.lookup.note_failures(&mut targets).await.map_err(ErrorResponse::Ledger)?;
    let began = Instant::now();
    // In its own task, which finishes even if the client goes away, and counts as a request until then.
    let accepting = state.tasks.spawn({
        let (state, permit) = (Arc::clone(&state), Arc::clone(&permit));
        async move {
            let accepted = state.acceptor.accept(&Uuid::new_v4().to_string(), entries).await;
            drop(permit);
            accepted
        }
        .in_current_span()
    });
    let accepted = accepting.await.map_err(|_| ErrorResponse::Broken)??;
    if let Some(wait) = wait {
        // The transactions are accepted: an error of the ledger only hides their outcomes.
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
    let (stored_id, _) = state.namespace.identify(state.ids, &id);
    let targets = [LookupTarget { id: stored_id, content: None, failed_before: Arc::default() }];
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
        let mut fields = match serde_json::to_value(result) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        if result.run_id == *run_id {
            fields.remove("run_id");
        }
        Self(fields)
    }
}

/// The transactions of a body, if all of them are valid.
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
        return Err(ErrorResponse::Plain(assay_transaction::LiveBodyError::Json));
    }
    Err(ErrorResponse::Invalid(invalid))
}

/// Rejects compressed bodies, and content types other than JSON. `curl -d` sends the type of a form, and many clients send none.
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

/// The content type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// The wait for predictions, as in `?wait=500ms`.
fn wait_of(uri: &Uri) -> Result<Option<Duration>, ErrorResponse> {
    let mut waits = uri.query().unwrap_or_default().split('&').filter_map(|parameter| parameter.strip_prefix("wait="));
    let Some(wait) = waits.next() else { return Ok(None) };
    if waits.next().is_some() {
        return Err(ErrorResponse::Wait("it is given twice".to_owned()));
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
    fn a_body_is_json_unless_its_headers_differ() {
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
