//! How a source writes its rows, and which of its columns is which field of a transaction.
//!
//! `format` and `dialect` describe the source, `decisions` records what was set or recognised. `columns` finds fields in a header,
//! by name or by a `mapping`; `derivation` reads them from a row. `header_rows` finds repeated headers, `json_fields` makes a row of
//! a JSON object, and `names` compares column names.

pub(crate) mod columns;
mod decisions;
pub(crate) mod derivation;
mod dialect;
mod format;
mod header_rows;
pub(crate) mod json_fields;
pub(crate) mod mapping;
pub(crate) mod names;

pub use columns::{Columns, FieldAccess, FoundNames, HeaderError, OPTIONAL_COLUMNS, REQUIRED_COLUMNS};
pub(crate) use decisions::numbered_versions;
pub use decisions::{DecidedBy, Decision, DecisionSubject, ReadingRules};
pub use dialect::{AmountSyntax, CsvSyntax, Delimiter, Dialect, Encoding};
pub use format::{Compression, Format};
pub use header_rows::{HeaderRow, HeaderRowFinder};
pub use json_fields::{JsonFields, JsonNames, json_members};
pub use mapping::{Mapping, PathError};
pub use names::name_key;
