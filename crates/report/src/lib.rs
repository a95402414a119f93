//! What people are told of runs, in the same words on a terminal, as JSON and on a page of the console.
//!
//! - `state`: the state of a run as it is shown; `progress`: how far it is; `obstacles`: what is in its way
//! - `queues`: the messages of all runs; `live_counts`: the rows of a live run; `control_totals`: what was expected of a source
//! - `models`: the models that scored a run
//! - `row`: what became of a row; `lookup`, `transactions`: transactions by their id; `tombstones`: what was purged, erased or removed
//! - `text`, `audience`, `table`: numbers, times and text from outside, for people or for programs
//! - `fixture`: a run and a time for the tests of those who show runs
//!
//! No I/O but what the database and the broker are asked for. Text from outside is masked and escaped here and nowhere else.

mod audience;
mod control_totals;
pub mod fixture;
mod live_counts;
mod lookup;
mod models;
mod obstacles;
mod progress;
mod queues;
mod row;
mod state;
mod table;
mod text;
mod tombstones;
mod transactions;

pub use assay_transaction::human_duration;

pub use self::audience::{Tone, find_audience, grouped, toned, with_separators};
pub use self::control_totals::ControlTotals;
pub use self::live_counts::LiveCounts;
pub use self::lookup::{FoundTransactions, find_transactions};
pub use self::models::{Models, ShownModel};
pub use self::obstacles::{QueueState, obstacles, slowest_stage};
pub use self::progress::{
    ReadProgress, StoreProgress, TimeLeft, rate, read_progress, rows_so_far, store_progress, time_left,
};
pub use self::queues::{QueueDepth, QueueProbe, QueueSnapshot};
pub use self::row::{EarlierAttempt, RowFate, is_tombstone, raw_text};
pub use self::state::{ShownState, blocking_count, blocking_letters};
pub use self::table::{FieldList, Table};
pub use self::text::{
    counted, harmless, list_counts, masked_labels, moment, one_line, per_second, ranges, seconds_between, unmasked_line,
};
pub use self::tombstones::{describe_operation, describe_removal, show_tombstones};
pub use self::transactions::{FailedTransactionView, StoredTransactionView, TransactionView, replayable_entry};
