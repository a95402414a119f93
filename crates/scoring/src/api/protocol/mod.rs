//! The protocols of ML APIs: how a request is written, and how a response is read. Each has a module of its own; only [`Protocol`]
//! knows which there are.
//!
//! A reader trusts nothing: whatever the bytes are, it neither panics nor takes more memory than a small multiple of them, and a
//! fault in one entry costs that row only.

pub(crate) mod native;

use assay_transaction::{EncodedTransaction, Prediction};
use bytes::Bytes;
use uuid::Uuid;

pub use self::native::Matching;
use crate::reason::Reason;

/// Why a row was not scored: the response does not contain it.
pub(crate) const MISSING: &str = "missing from the response";

/// The prediction for a row of the request, or why there is none.
pub(crate) type RowResult = Result<Prediction, Reason>;

/// Why nothing of a response is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseError {
    /// It is no response of the protocol.
    Unreadable(Reason),
    /// It may be one, but in a form that must be declared by a setting.
    Undeclared {
        /// What it is like.
        what: Reason,
        /// The setting that declares it.
        remedy: Reason,
    },
}

impl<T: Into<Reason>> From<T> for ResponseError {
    fn from(why: T) -> Self {
        Self::Unreadable(why.into())
    }
}

impl ResponseError {
    /// Says of which content type the response is, if that may be why it cannot be read.
    pub(crate) fn with_content_type(self, other: Option<&str>) -> Self {
        match (self, other) {
            (Self::Unreadable(why), Some(other)) => format!("{why} (its content type is {other})").into(),
            (error, _) => error,
        }
    }
}

/// The protocol that an ML API speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Assay's own: an array of transactions, an array of predictions.
    Native(Matching),
}

impl Protocol {
    /// Where transactions are sent, below the API's address.
    pub(crate) fn predict_path(self) -> &'static str {
        match self {
            Self::Native(_) => native::PREDICT_PATH,
        }
    }

    /// The health check, below the API's address.
    pub(crate) fn health_path(self) -> &'static str {
        match self {
            Self::Native(_) => native::HEALTH_PATH,
        }
    }

    /// The body of a request about these transactions.
    pub(crate) fn write_request<'a>(self, transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone) -> Bytes {
        match self {
            Self::Native(_) => native::write_request(transactions),
        }
    }

    /// The body of a request about no transaction, which shows whether the API responds at all.
    pub(crate) fn empty_request(self) -> &'static str {
        match self {
            Self::Native(_) => native::EMPTY_REQUEST,
        }
    }

    /// The longest response about this many rows.
    pub(crate) fn max_response_bytes(self, rows: usize) -> usize {
        match self {
            Self::Native(_) => native::max_response_bytes(rows),
        }
    }

    /// Reads a response: a result for each id of the request, in that order, with its score as it came. `Err` if it is no response at
    /// all. The ids must differ.
    pub(crate) fn read_response(self, body: &[u8], asked: &[Uuid]) -> Result<Vec<RowResult>, ResponseError> {
        match self {
            Self::Native(matching) => native::read_response(body, asked, matching),
        }
    }
}
