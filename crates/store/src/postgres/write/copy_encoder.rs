//! Rows in the binary format of PostgreSQL's COPY: fast, for rows whose ids are new. COPY has no ON CONFLICT, so an
//! id that is stored already ends the transaction.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format". The driver encodes the values.

use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::{PgArgumentBuffer, PgConnection};
use sqlx::{Error, Postgres};

use super::{content_columns, prediction_columns};
use crate::StoreError;
use crate::values::signed;
use crate::write::transaction::StagedRow;

const TRANSACTIONS: &str = concat!(
    "COPY transactions (",
    content_columns!(),
    ", run_id, row_number, processing_type) FROM STDIN (FORMAT binary)"
);
const PREDICTIONS: &str = concat!("COPY predictions (", prediction_columns!(), ") FROM STDIN (FORMAT binary)");

/// Signature, flags, and the length of an extension that is not there.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a tuple's number of fields.
const TRAILER: i16 = -1;
/// In place of a value's length.
const NULL: i32 = -1;
/// The first byte of a binary `jsonb`; its text follows.
const JSONB_VERSION: u8 = 1;
/// The rough size of a row.
const ROW_BYTES: usize = 256;

/// Stores new transactions with their predictions, neither of which may be stored already.
pub(super) async fn copy(connection: &mut PgConnection, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
    send(connection, TRANSACTIONS, encode_rows(rows, encode_transaction)?).await?;
    send(connection, PREDICTIONS, encode_rows(rows, encode_prediction)?).await
}

async fn send(connection: &mut PgConnection, statement: &'static str, tuples: Tuples) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(statement).await?;
    match copy.send(tuples.finish()).await {
        Ok(_) => copy.finish().await.map(drop).map_err(StoreError::from),
        Err(error) => {
            // The first error is the informative one.
            let _ = copy.abort("it could not be sent").await;
            Err(error.into())
        }
    }
}

fn encode_rows(
    rows: &[&StagedRow<'_>],
    row: fn(&mut Tuples, &StagedRow<'_>) -> Result<(), StoreError>,
) -> Result<Tuples, StoreError> {
    let mut tuples = Tuples::with_capacity(rows.len() * ROW_BYTES);
    for staged in rows {
        row(&mut tuples, staged)?;
    }
    Ok(tuples)
}

fn encode_transaction(tuples: &mut Tuples, row: &StagedRow<'_>) -> Result<(), StoreError> {
    let content = &row.transaction;
    tuples.begin(12);
    tuples.value(&content.id)?;
    tuples.value(&row.external_id())?;
    tuples.value(&content.description.as_str())?;
    tuples.value(&content.amount.as_decimal())?;
    tuples.value(&content.timestamp.as_datetime())?;
    tuples.value(&content.merchant.as_deref())?;
    tuples.value(&content.operation_type.as_str())?;
    tuples.value(&content.side.as_str())?;
    tuples.jsonb(row.attributes)?;
    tuples.value(&row.run_id.as_str())?;
    tuples.value(&signed(row.entry.row))?;
    tuples.value(&row.processing_type())
}

fn encode_prediction(tuples: &mut Tuples, row: &StagedRow<'_>) -> Result<(), StoreError> {
    tuples.begin(6);
    tuples.value(&row.transaction.id)?;
    tuples.value(&&*row.prediction.prediction)?;
    tuples.value(&row.prediction.fraud_score)?;
    tuples.value(&row.prediction.model_version.as_deref())?;
    tuples.value(&row.run_id.as_str())?;
    tuples.value(&row.predicted_at.as_datetime())
}

/// The data of a COPY statement.
struct Tuples {
    buffer: PgArgumentBuffer,
}

impl Tuples {
    fn with_capacity(bytes: usize) -> Self {
        let mut buffer = PgArgumentBuffer::default();
        buffer.reserve(HEADER.len() + bytes);
        buffer.extend_from_slice(HEADER);
        Self { buffer }
    }

    fn begin(&mut self, fields: i16) {
        self.buffer.extend_from_slice(&fields.to_be_bytes());
    }

    fn value<'q>(&mut self, value: &impl Encode<'q, Postgres>) -> Result<(), StoreError> {
        let length_at = self.buffer.len();
        self.buffer.extend_from_slice(&NULL.to_be_bytes());
        if let IsNull::No = value.encode_by_ref(&mut self.buffer).map_err(Error::Encode)? {
            self.set_length(length_at)?;
        }
        Ok(())
    }

    fn jsonb(&mut self, text: Option<&str>) -> Result<(), StoreError> {
        let length_at = self.buffer.len();
        self.buffer.extend_from_slice(&NULL.to_be_bytes());
        let Some(text) = text else { return Ok(()) };
        self.buffer.push(JSONB_VERSION);
        self.buffer.extend_from_slice(text.as_bytes());
        self.set_length(length_at)
    }

    /// Sets the length of the value written last.
    fn set_length(&mut self, at: usize) -> Result<(), StoreError> {
        let begin = at + size_of_val(&NULL);
        let length = i32::try_from(self.buffer.len() - begin)
            .map_err(|_| StoreError::data("a value does not fit the database: it has more than 2 GiB"))?;
        self.buffer[at..begin].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.buffer.extend_from_slice(&TRAILER.to_be_bytes());
        std::mem::take(&mut *self.buffer)
    }
}
