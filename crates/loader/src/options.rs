//! Settings of a load.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use assay_source::{FormatOptions, Inspection, SourceLayout, SourceUrl};
use assay_transaction::{Budgets, Columns, Mapping, Namespace, Ratio, RunId, RunSettings, TimeZone, parse_duration};
use clap::Args;

use crate::totals::TotalsOptions;

/// Bytes that the names of empty attributes may take in a chunk: a CSV source has each name once, a chunk has it in every row.
const MAX_ATTRIBUTE_BYTES: u32 = RunSettings::CHUNK_BYTES.get();

/// A source has so many chunks, where that leaves each as many rows as a request: a small one keeps several predictors busy.
const LEAST_CHUNKS: u64 = 20;

/// Settings of a load.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct LoadOptions {
    /// Rows read and validated together; the checkpoint moves after each batch
    #[arg(long, env = "ROW_BATCH_SIZE", default_value = "5000", value_name = "ROWS")]
    pub row_batch_size: NonZeroUsize,
    /// Name of the run: 1 to 64 letters, digits, `_` or `-` [default: batch_YYYYMMDD_HHMMSS_ and ten characters]
    #[arg(long, env = "BATCH_RUN_ID", value_name = "NAME")]
    pub batch_run_id: Option<RunId>,
    /// Load a source that was loaded before: a new run, whose known rows count as duplicates
    #[arg(long)]
    pub force: bool,
    /// Share of invalid rows, such as 0.01, above which the run is aborted [default: no limit]
    #[arg(long, env = "MAX_INVALID_RATIO", value_name = "SHARE")]
    pub max_invalid_ratio: Option<Ratio>,
    /// Share of rows that fail to be scored or stored, above which the run is aborted [default: no limit]
    #[arg(long, env = "MAX_FAILED_RATIO", value_name = "SHARE")]
    pub max_failed_ratio: Option<Ratio>,
    /// Reading.
    #[command(flatten)]
    pub read: ReadOptions,
    /// Control totals.
    #[command(flatten)]
    pub totals: TotalsOptions,
}

/// How rows are read and cut into chunks: frozen by a run, tried out by an inspection.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reading")]
pub struct ReadOptions {
    /// Most transactions in one request to the ML API
    #[arg(long, env = "API_BATCH_SIZE", default_value = "100", value_name = "ROWS")]
    pub api_batch_size: NonZeroU32,
    /// Most rows of a chunk, which travels as one message; a small source has fewer, but no fewer than `API_BATCH_SIZE` [default: 500, or
    /// `API_BATCH_SIZE` if that is more]
    #[arg(long, env = "CHUNK_ROWS", value_name = "ROWS")]
    pub chunk_rows: Option<NonZeroU32>,
    /// Time zone of timestamps without an offset, such as Europe/Paris
    #[arg(long, env = "TIME_ZONE", default_value = "UTC", value_name = "ZONE")]
    pub time_zone: TimeZone,
    /// Namespace in which ids are unique [default: that of the mapping, else the bucket and key, the absolute path of a local file,
    /// or stdin]
    #[arg(long, env = "ID_NAMESPACE", value_name = "TEXT")]
    pub id_namespace: Option<String>,
    /// Format of the source.
    #[command(flatten)]
    pub format: FormatOptions,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            api_batch_size: const { NonZeroU32::new(100).unwrap() },
            chunk_rows: None,
            time_zone: TimeZone::UTC,
            id_namespace: None,
            format: FormatOptions::default(),
        }
    }
}

impl ReadOptions {
    /// The settings of a run of an inspected source of that size, without budgets and with a durable broker.
    pub fn settings(&self, inspected: &Inspection, size: u64, url: &SourceUrl) -> RunSettings {
        let namespace = self.namespace().map_or_else(|| url.default_namespace(), str::to_owned);
        let chunk_rows = self.rows_for(inspected.estimated_rows(size)).min(rows_beside_names(&inspected.layout));
        let standard = RunSettings::standard(Namespace::new(&namespace));
        inspected.layout.clone().freeze(RunSettings { chunk_rows, time_zone: self.time_zone, ..standard })
    }

    /// The namespace of the setting, or else of the mapping.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let mapped = || self.format.mapping.as_deref().and_then(Mapping::namespace);
        self.id_namespace.as_deref().or_else(mapped)
    }

    /// Whether a namespace is named, which then overrides that of earlier runs.
    pub(crate) fn names_namespace(&self) -> bool {
        self.namespace().is_some()
    }

    /// Most rows of a chunk of any source.
    pub(crate) fn most_chunk_rows(&self) -> NonZeroU32 {
        self.chunk_rows.unwrap_or(RunSettings::CHUNK_ROWS.max(self.api_batch_size))
    }

    /// Rows per chunk for a source with about this many rows.
    fn rows_for(&self, rows: u64) -> NonZeroU32 {
        let spread = u32::try_from(rows.div_ceil(LEAST_CHUNKS)).unwrap_or(u32::MAX);
        let spread = NonZeroU32::new(spread).unwrap_or(NonZeroU32::MIN);
        self.most_chunk_rows().min(spread.max(self.api_batch_size))
    }
}

/// Most rows of a chunk for which the names of all attributes have room.
fn rows_beside_names(layout: &SourceLayout) -> NonZeroU32 {
    let columns = Columns::from_names(layout.header.clone(), layout.mapping.as_deref());
    // An unusable header is reported when rows are read.
    let row_bytes = columns.map_or(0, |columns| columns.attribute_bytes());
    let row_bytes = u32::try_from(row_bytes).unwrap_or(u32::MAX);
    let most = MAX_ATTRIBUTE_BYTES.checked_div(row_bytes).unwrap_or(u32::MAX);
    NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN)
}

impl LoadOptions {
    /// The limits that a new run freezes.
    pub(crate) fn budgets(&self) -> Budgets {
        Budgets { max_invalid: self.max_invalid_ratio, max_failed: self.max_failed_ratio }
    }
}

/// Settings of leases.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct LeaseOptions {
    /// Time without a renewal after which another loader may take over a run
    #[arg(long, env = "LEASE_TIMEOUT", default_value = "30s", value_parser = parse_lease, value_name = "DURATION")]
    pub lease_timeout: Duration,
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    if (SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) {
        Ok(lease)
    } else {
        Err("must be from 1s to 1h, such as 30s".to_owned())
    }
}

/// Long enough to be renewed over a slow connection.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_hours(1);

/// Whether and how long to wait until the run is complete.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct WaitOptions {
    /// Wait until every row is in the database; exit code 1 if rows failed
    #[arg(long)]
    pub wait: bool,
    /// Longest wait after the source is read; then exit code 3
    #[arg(long, env = "WAIT_TIMEOUT", default_value = "24h", value_parser = parse_duration, value_name = "DURATION")]
    pub wait_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use assay_source::{ByteStream, inspect};
    use assay_transaction::REQUIRED_COLUMNS;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        read: ReadOptions,
    }

    fn options(arguments: &[&str]) -> ReadOptions {
        Options::parse_from([&["test"], arguments].concat()).read
    }

    #[test]
    fn a_small_source_has_twenty_chunks_of_at_least_one_request() {
        let cases: [(&[&str], u64, u32); 14] = [
            (&[], 0, 100),
            (&[], 20, 100),
            (&[], 2_000, 100),
            (&[], 2_001, 101),
            (&[], 5_000, 250),
            (&[], 10_000, 500),
            (&[], u64::MAX, 500),
            (&["--api-batch-size", "10"], 2_000, 100),
            (&["--api-batch-size", "10"], 100, 10),
            (&["--api-batch-size", "800"], 1_000_000, 800),
            (&["--chunk-rows", "2000"], 1_000_000, 2_000),
            (&["--chunk-rows", "2000"], 10_000, 500),
            // As set, even if a request could hold more.
            (&["--chunk-rows", "10"], 1_000_000, 10),
            (&["--chunk-rows", "10"], 0, 10),
        ];
        for (arguments, rows, expected) in cases {
            assert_eq!(options(arguments).rows_for(rows).get(), expected, "{arguments:?}, {rows} rows");
        }
    }

    #[tokio::test]
    async fn chunks_of_many_long_names_have_fewer_rows() {
        let cases = [
            // Attributes, characters of each name, CHUNK_ROWS, rows.
            (0, 0, 800, 800),
            (24, 20, 800, 800),
            (180, 20, 100, 100),
            (294, 20, 1_000, 68),
            (10_000, 20, 100, 2),
            (10_000, 200, 100, 1),
        ];
        for (attributes, length, asked, rows) in cases {
            let required = REQUIRED_COLUMNS.map(str::to_owned);
            let header: Vec<String> =
                required.into_iter().chain((0..attributes).map(|number| format!("{number:0length$}"))).collect();
            let layout = SourceLayout { header, ..layout().await };
            let most = NonZeroU32::new(asked).unwrap().min(rows_beside_names(&layout));
            assert_eq!(most.get(), rows, "{attributes} names of {length}, {asked} asked for");
        }
    }

    /// Of a source with the required columns.
    async fn layout() -> SourceLayout {
        let head = format!("{}\n", REQUIRED_COLUMNS.join(","));
        let mut stream: ByteStream = Box::pin(std::io::Cursor::new(head.into_bytes()));
        inspect(&mut stream, &FormatOptions::default()).await.unwrap().layout
    }
}
