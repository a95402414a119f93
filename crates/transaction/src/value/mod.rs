//! Values of a row: how amounts, timestamps and texts are parsed, stored and shown.
//!
//! `text` trims and quotes, `raw_text` carries bytes that may be no text, and `redact` and `card_number` keep row contents out of
//! logs and messages.

pub(crate) mod amount;
pub(crate) mod card_number;
mod duration;
mod raw_text;
pub(crate) mod redact;
pub(crate) mod text;
pub(crate) mod timestamp;

pub use amount::{Amount, AmountError, AmountNotation, AmountReadings, AmountSum, DecimalMark, amount_readings};
pub use card_number::{mask_card_numbers, mask_card_numbers_in_bytes};
pub use duration::{human_duration, parse_duration};
pub use raw_text::RawText;
pub use redact::{escaped, escaped_json, is_unprintable, json_problem, shape};
pub use text::{place_in_text, problem_in_text, quoted, trimmed};
pub use timestamp::{TimeZone, Timestamp, TimestampError, TimestampFormat, TimestampPattern};
