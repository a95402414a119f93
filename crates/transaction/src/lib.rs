//! The domain of Assay: transactions, chunks, runs, the rules that a row must pass, and the reasons it may fail for.
//!
//! Everything here is pure: no I/O, no clock, no environment. The stages (`loader`, `predictor`, `writer`) and the
//! seams (`source`, `queue`, `scoring`, `store`) all depend on this crate, and it depends on none of them.
//!
//! The way of a row: the source hands its fields to [`Rules::check`], which makes a [`Transaction`] or a
//! [`Rejection`]; the [`Chunker`] cuts both into [`Chunk`]s; a predictor turns a [`Chunk`] into a [`ScoredChunk`]; the
//! store books it. At any time a row is in exactly one of the lists of its chunk, so that the law holds:
//! `rows_read = predicted + invalid + failed + duplicate`.

mod amount;
mod amount_sum;
mod card_number;
mod chunk;
mod chunker;
mod columns;
mod content;
mod control;
mod cutting;
mod derivation;
mod dialect;
mod duration;
mod exit;
mod feed;
mod format;
mod header_rows;
mod identity;
mod json_fields;
mod live;
mod lookalikes;
mod mapping;
mod names;
mod occurrences;
mod raw_text;
mod reading;
mod reason;
mod rejections;
mod replay;
mod rules;
mod run;
mod scored;
mod stop;
mod text;
mod timestamp;
mod transaction;

pub use amount::{Amount, AmountError, DecimalMark, Notation, Readings, readings};
pub use amount_sum::AmountSum;
pub use card_number::mask_card_numbers;
pub use chunk::{Chunk, ChunkId, EncodedTransaction, Entry, KnownRow, Lane, RowRange, WireError};
pub use chunker::{Chunker, Cut, Judged};
pub use columns::{Columns, Fields, FoundNames, HeaderError, OPTIONAL_COLUMNS, REQUIRED_COLUMNS};
pub use content::{escaped, is_unseen, json_problem, shape};
pub use control::{Expected, Trailer};
pub use cutting::{Cutting, RowBytes};
pub use dialect::{Delimiter, Dialect, Encoding};
pub use duration::parse_duration;
pub use exit::Exit;
pub use feed::PredictionNotice;
pub use format::{Compression, Format};
pub use header_rows::{HeaderRow, HeaderRows};
pub use identity::Namespace;
pub use json_fields::{JsonFields, JsonNames, json_members};
pub use live::{
    Day, LiveId, LiveMessage, LiveRules, LiveRun, MAX_LIVE_ROWS, Numbered, ParseProducerError, PlainError, Producer,
    ScoredLive, split_transactions,
};
pub use lookalikes::{LookalikeCount, Lookalikes};
pub use mapping::{Mapping, PathError};
pub use names::name_key;
pub use occurrences::{Occurrences, TooManyRows};
pub use raw_text::RawText;
pub use reading::{AmountText, CsvText, Decided, DecidedBy, Decision, ReadingRules};
pub use reason::{FailureClass, RejectReason};
pub use rejections::{Prevailing, Rejections};
pub use replay::{ReplayId, ReplayPart, ScoredReplay};
pub use rules::{MAX_RAW_KEPT, MAX_ROW_BYTES, RejectedRow, Rejection, Rules, ValidRow};
pub use run::{
    Checkpoint, Counted, ParseRunError, Position, Removal, Run, RunId, RunSettings, RunState, Sealed, SourceIdentity,
    Tally,
};
pub use scored::{FailedRow, Predicted, Prediction, ScoredChunk};
pub use stop::{Budgets, ParseShareError, Share, StopKind, StopNotice, StopOrder};
pub use text::{quoted, trimmed};
pub use timestamp::{Pattern, TimeZone, Timestamp, TimestampError, TimestampFormat};
pub use transaction::{Transaction, has_attributes};
