//! Choice and size of the measurements.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::peers::Peer;

/// What `--full` adds.
const LARGEST: u64 = 10_000_000;

/// Measures Assay on real services, compares it with baselines of the same run, and prints one table of ratios
///
/// Every measured run is audited; a failed audit ends this program with exit code 101.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/bench")]
pub(crate) struct Options {
    /// Measure only this; may be repeated [default: all but `memory`, which `end-to-end` includes, `growth`, `console` and `peers`]
    #[arg(long, value_enum, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// Use a tenth of every size
    #[arg(long)]
    quick: bool,
    /// Compare 10,000,000 rows too
    #[arg(long)]
    full: bool,
    /// Also write the tables to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Setting for every program of Assay, such as API_BATCH_SIZE=200; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,

    /// end-to-end, memory, growth, console, peers: rows of the object; several sizes separated by commas [default: 100000,1000000;
    /// growth: 1000000,10000000; console: 10000000; peers: 2000,1000000]
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u64>,
    /// end-to-end, memory, baseline, peers: number of predictors, with one loader and one writer
    #[arg(long, default_value_t = 2)]
    pub(crate) predictors: usize,
    /// end-to-end, memory: loads of each size; the median counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) times: u32,
    /// baseline: rows of the object
    #[arg(long, default_value_t = 100_000)]
    pub(crate) baseline_rows: u64,
    /// stages: rows of the object; several sizes separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    pub(crate) stage_rows: Vec<u64>,
    /// scale-out: numbers of predictors, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    pub(crate) fleets: Vec<usize>,
    /// scale-out: rows of the object per predictor
    #[arg(long, default_value_t = 28_000)]
    pub(crate) rows_each: u64,
    /// scale-out: milliseconds of the ML API for each request
    #[arg(long, default_value_t = 50)]
    pub(crate) latency: u64,
    /// start-up: rows of the file
    #[arg(long, default_value_t = 10_000)]
    pub(crate) start_up_rows: u64,
    /// start-up: number of runs; the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) start_up_times: u32,
    /// peers: who takes part, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::value_variants().to_vec())]
    pub(crate) peers: Vec<Peer>,
    /// peers: attempts of each, in turns; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) turns: u32,
    /// peers: which ML API scores
    #[arg(long, value_enum, default_value_t = Api::Reference)]
    pub(crate) api: Api,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// From the start of the loader to its end, compared with COPY of the same rows; CPU and memory of each process.
    EndToEnd,
    /// Comparison with a typical Python job, with the reference ML API and with a FastAPI one.
    Baseline,
    /// Each stage alone, and its cost of a row by the number of rows.
    Stages,
    /// More and more predictors, one request at a time each, with a slow ML API.
    ScaleOut,
    /// The same loads as `end-to-end`, without COPY.
    Memory,
    /// From `assay run` to the first stored row.
    StartUp,
    /// `assay run` into PostgreSQL beside COPY of the same rows, in a large file and a larger one.
    Growth,
    /// Pages of the console, with ten thousand runs and ten million rows.
    Console,
    /// Next to what somebody would write instead: a Polars script, Celery, Dramatiq, in turns.
    Peers,
}

/// An ML API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// Assay's own.
    Reference,
    /// FastAPI and Pydantic in one process.
    Fastapi,
}

impl Options {
    /// Returns the chosen measurements, in order.
    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        let chosen = |measurement: &Measurement| match self.only.as_slice() {
            [] => !matches!(
                measurement,
                Measurement::Memory | Measurement::Growth | Measurement::Console | Measurement::Peers
            ),
            only => only.contains(measurement),
        };
        Measurement::value_variants().iter().copied().filter(chosen).collect()
    }

    /// Applies `--full` and `--quick` to the sizes.
    pub(crate) fn sized(mut self) -> Self {
        self.stage_rows = self.size(&self.stage_rows);
        if self.quick {
            smaller(&mut self.baseline_rows);
            smaller(&mut self.rows_each);
            smaller(&mut self.start_up_rows);
        }
        self
    }

    /// Returns the sizes of `--rows`, or these.
    pub(crate) fn rows_or(&self, default: &[u64]) -> Vec<u64> {
        self.size(if self.rows.is_empty() { default } else { &self.rows })
    }

    fn size(&self, sizes: &[u64]) -> Vec<u64> {
        let mut sizes = sizes.to_vec();
        if self.full && !sizes.contains(&LARGEST) {
            sizes.push(LARGEST);
        }
        if self.quick {
            sizes.iter_mut().for_each(smaller);
        }
        sizes
    }

    /// Latency of the ML API in `scale-out`.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }
}

/// A tenth, but some.
fn smaller(rows: &mut u64) {
    *rows = (*rows / 10).max(1_000);
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
