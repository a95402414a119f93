//! The domain of Assay: transactions, chunks, runs, the rules a row must pass, and the reasons it may fail.
//!
//! Everything here is pure: no I/O, no clock, no environment. All other crates depend on this one; it depends on none
//! of them.
//!
//! A row's path: the source passes its fields to [`Rules::check`], which returns a [`ValidRow`] or a [`Rejection`]; the
//! [`Chunker`] groups rows into [`Chunk`]s; a predictor turns a [`Chunk`] into a [`ScoredChunk`]; the store records it.
//! A row is always in exactly one list of its chunk, so the law holds: `rows_read = predicted + invalid + failed +
//! duplicate`.

mod message;
mod rules;
mod run;
mod schema;
mod value;

pub use message::{
    Chunk, ChunkId, Day, EncodedTransaction, Entry, FailedRow, KnownRow, Lane, LiveId, LiveMessage, LiveRules, LiveRun,
    MAX_LIVE_ROWS, Numbered, ParseProducerError, PlainError, Predicted, Prediction, PredictionNotice, Producer,
    ReplayId, ReplayPart, RowRange, ScoredChunk, ScoredLive, ScoredReplay, StopNotice, Transaction, WireError,
    has_attributes, split_transactions,
};
pub use rules::{
    FailureClass, MAX_RAW_KEPT, MAX_ROW_BYTES, Prevailing, RejectReason, RejectedRow, Rejection, Rejections, Rules,
    ValidRow,
};
pub use run::{
    Budgets, Checkpoint, Chunker, Counted, Cut, Cutting, Exit, Expected, Judged, LookalikeCount, Lookalikes, Namespace,
    Occurrences, ParseRunError, ParseShareError, Position, Removal, RowBytes, Run, RunId, RunSettings, RunState,
    Sealed, Share, SourceIdentity, StopKind, StopOrder, Tally, TooManyRows, Trailer,
};
pub use schema::{
    AmountText, Columns, Compression, CsvText, Decided, DecidedBy, Decision, Delimiter, Dialect, Encoding, Fields,
    Format, FoundNames, HeaderError, HeaderRow, HeaderRows, JsonFields, JsonNames, Mapping, OPTIONAL_COLUMNS,
    PathError, REQUIRED_COLUMNS, ReadingRules, json_members, name_key,
};
pub use value::{
    Amount, AmountError, AmountSum, DecimalMark, Notation, Pattern, RawText, Readings, TimeZone, Timestamp,
    TimestampError, TimestampFormat, escaped, is_unseen, json_problem, mask_card_numbers, parse_duration, quoted,
    readings, shape, trimmed,
};
