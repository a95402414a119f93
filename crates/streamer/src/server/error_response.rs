//! Errors of requests, and their responses.

use assay_http_server::BodyError;
use assay_store::StoreError;
use assay_transaction::{LiveBodyError, RejectedRow, mask_card_numbers};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::debug;

use crate::accept::AcceptError;

/// `Retry-After` in seconds, if there is no room or a service is unreachable.
const RETRY_FULL: &str = "1";
const RETRY_UNREACHABLE: &str = "5";

/// Why a request is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ErrorResponse {
    #[error("a valid token is required: send Authorization: Bearer …")]
    Unauthorized,
    #[error("too many concurrent requests (MAX_REQUESTS): send it again later")]
    Busy,
    #[error("the body is longer than {0} bytes (MAX_BODY_BYTES): send several requests")]
    BodyTooLong(u32),
    #[error(transparent)]
    Unread(BodyError),
    #[error("the body cannot be used: {0}")]
    Plain(#[from] LiveBodyError),
    /// Some rows are invalid; nothing was published.
    #[error("{} rows are not valid: nothing was accepted", .0.len())]
    Invalid(Vec<RejectedRow>),
    #[error("`wait` cannot be used: {0}")]
    Wait(String),
    #[error("the id in the path is not UTF-8")]
    Id,
    #[error("the content type {0} is not supported: send JSON or JSON Lines")]
    Kind(String),
    #[error("the content encoding {0} is not supported: send the body uncompressed")]
    Encoded(String),
    #[error(transparent)]
    NotAccepted(#[from] AcceptError),
    #[error("the ledger is unreachable: {0}")]
    Ledger(StoreError),
    #[error("no transaction {0} is stored: it is unknown, or still being processed")]
    NotStored(String),
    #[error("no such path: use POST /transactions or GET /transactions/ID")]
    NoSuchPath,
    #[error("method not allowed: use POST /transactions or GET /transactions/ID")]
    NoSuchMethod,
    #[error("the request could not be processed")]
    Broken,
}

#[derive(Serialize)]
struct RowError<'a> {
    row: u64,
    reason: &'a str,
    message: std::borrow::Cow<'a, str>,
}

impl ErrorResponse {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Busy | Self::Unread(BodyError::NoRoom) | Self::NotAccepted(AcceptError::Full) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Unread(error) => error.status(),
            Self::BodyTooLong(_)
            | Self::Plain(LiveBodyError::TooMany(_))
            | Self::NotAccepted(AcceptError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Plain(_) | Self::Wait(_) | Self::Id => StatusCode::BAD_REQUEST,
            Self::Kind(_) | Self::Encoded(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotAccepted(AcceptError::Broker(_) | AcceptError::NotBegun(_) | AcceptError::Uncounted)
            | Self::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotStored(_) | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAccepted(AcceptError::Wire(_)) | Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status = self.status();
        match &self {
            // The requested id or parameter is not logged.
            Self::NotStored(_) | Self::Wait(_) => debug!(status = status.as_u16(), "refused"),
            error => debug!(status = status.as_u16(), "refused: {error}"),
        }
        let mut response = match &self {
            Self::Invalid(rows) => {
                let errors: Vec<_> = rows.iter().map(RowError::from).collect();
                json_response(status, &serde_json::json!({ "errors": errors }))
            }
            _ => json_response(status, &serde_json::json!({ "error": self.to_string() })),
        };
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"assay\""));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_FULL));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_UNREACHABLE));
            }
            _ => {}
        }
        response
    }
}

impl<'a> From<&'a RejectedRow> for RowError<'a> {
    fn from(row: &'a RejectedRow) -> Self {
        // The message quotes the value, and the client may log it.
        Self { row: row.row, reason: row.reason.code(), message: mask_card_numbers(&row.message) }
    }
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLong(most) => Self::BodyTooLong(most),
            other => Self::Unread(other),
        }
    }
}

pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
