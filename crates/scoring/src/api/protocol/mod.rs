//! The protocols of ML APIs: how a request is written, and how a response is read. Each has a module of its own; only [`Protocol`]
//! knows which there are.
//!
//! A reader trusts nothing: whatever the bytes are, it neither panics nor takes more memory than a small multiple of them, and a
//! fault in one entry costs that row only.

pub(crate) mod native;

use assay_transaction::{EncodedTransaction, Prediction};
use bytes::Bytes;
use uuid::Uuid;

use crate::reason::Reason;

/// Why a row was not scored: the response does not contain it.
pub(crate) const MISSING: &str = "missing from the response";

/// The prediction for a row of the request, or why there is none.
pub(crate) type RowResult = Result<Prediction, Reason>;

/// The protocol that an ML API speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// Assay's own: an array of transactions, an array of predictions.
    #[default]
    Native,
}

impl Protocol {
    /// Where transactions are sent, below the API's address.
    pub(crate) fn predict_path(self) -> &'static str {
        match self {
            Self::Native => native::PREDICT_PATH,
        }
    }

    /// The health check, below the API's address.
    pub(crate) fn health_path(self) -> &'static str {
        match self {
            Self::Native => native::HEALTH_PATH,
        }
    }

    /// The body of a request about these transactions.
    pub(crate) fn write_request<'a>(self, transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone) -> Bytes {
        match self {
            Self::Native => native::write_request(transactions),
        }
    }

    /// The body of a request about no transaction, which shows whether the API responds at all.
    pub(crate) fn empty_request(self) -> &'static str {
        match self {
            Self::Native => native::EMPTY_REQUEST,
        }
    }

    /// The longest response about this many rows.
    pub(crate) fn max_response_bytes(self, rows: usize) -> usize {
        match self {
            Self::Native => native::max_response_bytes(rows),
        }
    }

    /// Reads a response: a result for each id of the request, in that order. `Err` if it is no response at all. The ids must differ.
    pub(crate) fn read_response(self, body: &[u8], asked: &[Uuid]) -> Result<Vec<RowResult>, Reason> {
        match self {
            Self::Native => native::read_response(body, asked),
        }
    }
}
