//! Rows that the ML API fails on, and rows that it refuses, scattered over a large file: they fail, each with its class, and
//! nothing else does; and finding them costs few requests.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use assay_transaction::Tally;
use serde::Deserialize;
use uuid::Uuid;

use super::generated::{self, DECIMAL_MARK, DELIMITER};
use crate::{DEADLINE, Program, STORED, Script, Stack, assert_same, content, law};

/// Rows of a chunk, which is a request.
const CHUNK: usize = 100;
/// `MAX_RETRIES`.
const RETRIES: usize = 3;

/// Row numbers and the class in which they fail.
type Faults = BTreeMap<u64, &'static str>;

/// How large, and where the faults are.
#[derive(Debug, Clone, Copy)]
pub struct RowsAtFault {
    /// Rows of the file.
    pub rows: u64,
    /// How many of them the API answers 500 to.
    pub failing: usize,
    /// And how many 422.
    pub refused: usize,
    /// Scatters them, and makes the file.
    pub seed: u64,
}

impl Default for RowsAtFault {
    fn default() -> Self {
        Self { rows: 100_000, failing: 50, refused: 20, seed: 1 }
    }
}

/// What it took.
#[derive(Debug)]
pub struct Figures {
    played: RowsAtFault,
    calls: Calls,
    took: Duration,
}

/// Plays it.
pub async fn rows_at_fault(played: RowsAtFault) -> Figures {
    let faults = played.scatter();
    let file = mark(&generated::transactions(played.rows, played.seed).await, &faults);
    let stack = Stack::new(Script::Refuse).await;
    let object = stack.s3.put("transactions", "rows_at_fault.csv", &file);
    let size = |program: Program| program.env("API_BATCH_SIZE", CHUNK.to_string());
    let began = Instant::now();
    let _stages = [size(stack.predictor()), size(stack.predictor()), stack.writer()]
        .map(|stage| stage.env("MAX_RETRIES", RETRIES.to_string()).start());
    let loader = size(stack.loader(&object)).env("CHUNK_ROWS", CHUNK.to_string());
    let ended = loader.arg("--wait").start().end_within(2 * DEADLINE).await;
    let took = began.elapsed();

    let tally = Tally { predicted: played.rows - faults.len() as u64, failed: faults.len() as u64, ..Tally::default() };
    ended
        .expect_exit(1)
        .expect_says(&format!("Pipeline complete: {} processed, {} failed, 0 invalid", tally.predicted, tally.failed));
    assert_eq!(law::holds_for_one_run(&stack.database).await, tally);
    let failed = "SELECT concat_ws('|', row_number, class) FROM failed_transactions ORDER BY row_number";
    let expected: Vec<String> = faults.iter().map(|(row, class)| format!("{row}|{class}")).collect();
    assert_same(&stack.database.texts(failed).await, &expected);
    let rows = (1..).zip(content(&file, DELIMITER, DECIMAL_MARK));
    let predicted: Vec<String> = rows.filter(|(row, _)| !faults.contains_key(row)).map(|(_, text)| text).collect();
    assert_same(&stack.database.texts(STORED).await, &predicted);

    let calls = Calls::count(&stack.ml_api.bodies());
    assert_eq!(calls.all, stack.ml_api.requests());
    let figures = Figures { played, calls, took };
    figures.check();
    figures
}

impl RowsAtFault {
    fn scatter(&self) -> Faults {
        let mut random = self.seed;
        let mut faults = Faults::new();
        while faults.len() < self.failing + self.refused {
            let class = if faults.len() < self.failing { "suspect" } else { "rejected" };
            // SplitMix64, as a good generator is not needed and another dependency neither.
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            faults.entry((mixed ^ (mixed >> 31)) % self.rows + 1).or_insert(class);
        }
        faults
    }
}

/// The file, with descriptions that the API fails on or refuses where there are faults.
fn mark(file: &[u8], faults: &Faults) -> Vec<u8> {
    let mut reader = csv::ReaderBuilder::new().delimiter(DELIMITER).has_headers(false).from_reader(file);
    let mut marked = csv::WriterBuilder::new().delimiter(DELIMITER).from_writer(Vec::with_capacity(file.len()));
    for (number, row) in reader.byte_records().enumerate() {
        let row = row.expect("the file is CSV");
        let description = match faults.get(&(number as u64)) {
            Some(&"suspect") => b"fail on me",
            Some(_) => &b"refuse me"[..],
            None => &row[1],
        };
        marked.write_record([&row[0], description].into_iter().chain(row.iter().skip(2))).expect("memory takes it");
    }
    marked.into_inner().expect("memory takes it")
}

/// Requests by what they were for.
#[derive(Debug, Default)]
struct Calls {
    all: usize,
    /// Of whole chunks, for the first time.
    chunks: usize,
    /// Of parts of chunks, for the first time.
    parts: usize,
    /// The same body again.
    repeated: usize,
    /// Whether the model still scores what it has scored before, or a made-up transaction.
    controls: usize,
}

impl Calls {
    fn count(bodies: &[String]) -> Self {
        #[derive(Deserialize)]
        struct Row {
            id: Uuid,
            description: String,
        }
        let mut calls = Self { all: bodies.len(), ..Self::default() };
        let (mut seen, mut scored, mut cut) = (HashSet::new(), HashSet::new(), HashSet::new());
        for body in bodies {
            let rows: Vec<Row> = serde_json::from_str(body).expect("a request is an array of transactions");
            let is_control =
                rows.len() == 1 && (scored.contains(&rows[0].id) || rows[0].description == "Assay connection check");
            if is_control {
                calls.controls += 1;
                continue;
            }
            let is_scored = |row: &Row| !["fail on me", "refuse me"].contains(&row.description.as_str());
            if rows.iter().all(is_scored) {
                scored.extend(rows.iter().map(|row| row.id));
            }
            if !seen.insert(body) {
                calls.repeated += 1;
            } else if cut.contains(&rows[0].id) {
                calls.parts += 1;
            } else {
                calls.chunks += 1;
            }
            cut.extend(rows.iter().map(|row| row.id));
        }
        calls
    }
}

impl Figures {
    fn faults(&self) -> usize {
        self.played.failing + self.played.refused
    }

    /// `2·k·⌈log2 n⌉`
    fn bound(&self) -> usize {
        2 * self.faults() * CHUNK.next_power_of_two().ilog2() as usize
    }

    /// Each failing row makes its chunk be repeated, and is repeated itself; a refused one is asked for once more.
    fn most_repeated(&self) -> usize {
        2 * RETRIES * self.played.failing + self.played.refused
    }

    fn check(&self) {
        let Calls { chunks, parts, repeated, controls, .. } = self.calls;
        let rows = usize::try_from(self.played.rows).expect("rows are counted in memory");
        assert_eq!(chunks, rows.div_ceil(CHUNK), "{self}");
        assert!(parts <= self.bound(), "{self}");
        assert!(repeated <= self.most_repeated(), "{self}");
        assert!(controls <= 2 * self.faults(), "{self}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowsAtFault { rows, failing, refused, seed } = self.played;
        let Calls { all, chunks, parts, repeated, controls } = self.calls;
        writeln!(
            formatter,
            "rows-at-fault: {rows} rows, {failing} answered 500, {refused} answered 422 (seed {seed})"
        )?;
        writeln!(formatter, "  failed: exactly those {}; everything else predicted; the law holds", self.faults())?;
        writeln!(formatter, "  API calls: {all} for {chunks} chunks, so {} extra", all - chunks)?;
        writeln!(formatter, "    parts of chunks: {parts}, at most 2*k*log2 = {}", self.bound())?;
        writeln!(formatter, "    repetitions: {repeated}, at most {}; controls: {controls}", self.most_repeated())?;
        write!(formatter, "  took {:.1} s", self.took.as_secs_f64())
    }
}
