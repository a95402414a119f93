//! Parts of statements that several rooms share.

/// The columns of a transaction's content, in the order in which writers bind them.
macro_rules! content_columns {
    () => {
        "id, external_id, description, amount, \"timestamp\", merchant, operation_type, side, attributes"
    };
}
/// The columns of `predictions`, in the order in which writers bind them.
macro_rules! prediction_columns {
    () => {
        "transaction_id, prediction, fraud_score, model_version, run_id, predicted_at, reasons, endpoint"
    };
}
/// The end of an insertion into `predictions` that replaces what is there.
macro_rules! or_replace_prediction {
    () => {
        " ON CONFLICT (transaction_id) DO UPDATE SET prediction = excluded.prediction, fraud_score = excluded.fraud_score, \
         model_version = excluded.model_version, run_id = excluded.run_id, predicted_at = excluded.predicted_at, \
         reasons = excluded.reasons, endpoint = excluded.endpoint"
    };
}
/// The columns of `invalid_transactions`.
macro_rules! invalid_columns {
    () => {
        "run_id, row_number, line, reason, message, raw"
    };
}
/// The columns of `failed_transactions`.
macro_rules! failed_columns {
    () => {
        "run_id, row_number, transaction_id, class, reason, attempts, payload, operation"
    };
}
/// Whether a failed row is no tombstone yet.
macro_rules! has_content {
    () => {
        "class NOT IN ('removed', 'purged', 'erased')"
    };
}
/// Runs with their ends, as `RunEnd::read` takes them; the condition on `run_id` follows.
macro_rules! run_ends {
    () => {
        "SELECT run_id, rows_read, chunks_total, stop_kind IS NOT NULL, removal_at IS NOT NULL FROM runs WHERE run_id"
    };
}
/// The range of a chunk `c`, and what is recorded around and of it, as `ChunkNeighbours::read` takes it.
macro_rules! chunk_neighbours {
    () => {
        "c.first_row, c.rows,
        (SELECT below.first_row + below.rows FROM chunks below
            WHERE below.run_id = c.run_id AND below.chunk < c.chunk ORDER BY below.chunk DESC LIMIT 1),
        (SELECT above.first_row FROM chunks above
            WHERE above.run_id = c.run_id AND above.chunk > c.chunk ORDER BY above.chunk LIMIT 1),
        (SELECT left_over.row_number FROM failed_transactions left_over
            WHERE left_over.run_id = c.run_id AND left_over.row_number >= c.first_row
                AND left_over.row_number < c.first_row + c.rows ORDER BY left_over.row_number LIMIT 1),
        (SELECT left_over.row_number FROM invalid_transactions left_over
            WHERE left_over.run_id = c.run_id AND left_over.row_number >= c.first_row
                AND left_over.row_number < c.first_row + c.rows ORDER BY left_over.row_number LIMIT 1)"
    };
}
/// The last recorded chunk of a run that begins at or before a row: the only one that can cover it, as chunks do not overlap.
macro_rules! covering_chunk {
    ($run_id:literal, $row:literal) => {
        concat!(
            "(SELECT below.chunk FROM chunks below WHERE below.run_id = ",
            $run_id,
            " AND below.first_row <= ",
            $row,
            " AND below.rows > 0 ORDER BY below.first_row DESC LIMIT 1)"
        )
    };
}
pub(crate) use {
    chunk_neighbours, content_columns, covering_chunk, failed_columns, has_content, invalid_columns,
    or_replace_prediction, prediction_columns, run_ends,
};
