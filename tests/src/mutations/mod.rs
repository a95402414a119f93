//! Files with one mutation each, and the promise that it costs no line but its own.
//!
//! `files` makes well-formed files of every style, `mutate` changes one place in the rows of each, `reading` reads both as a
//! loader does, and `compare` holds one against the other: every line that the mutation does not touch must end as before, as the
//! same transaction or rejected for the same reason. Lines are compared by their content, not by their numbers.

mod compare;
mod files;
mod mutate;
mod reading;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use assay_testkit::Dice;

use self::compare::{Compared, compare};
use self::mutate::{Difference, lines};
use self::reading::Reader;

/// Examples of what went wrong that are shown.
const SHOWN: usize = 10;
/// The most files in a hundred whose mutation makes other rows of their lines, or whose mutation has them refused.
const MOST_OF_A_HUNDRED: u64 = 1;

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many files.
    pub files: u64,
    /// What their dice begin with.
    pub seed: u64,
    /// How many threads read them.
    pub threads: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    files: u64,
    rows: u64,
    untouched: u64,
    wrong: u64,
    rereadings: u64,
    refused: u64,
    panics: u64,
    /// The reasons for refusing, each by its first words.
    reasons: BTreeMap<String, u64>,
    /// Which files show what is wrong, and how.
    examples: Vec<String>,
    took: Duration,
}

/// Makes, mutates and reads files.
pub fn run(options: &Options) -> Summary {
    let began = Instant::now();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let worker = |thread: u64| {
        let path = folder.path().join(format!("{thread}.txt"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let (mut reader, mut summary) = (Reader::new(path), Summary::default());
        for number in (thread..options.files).step_by(usize::try_from(options.threads).unwrap_or(1)) {
            let seed = options.seed.wrapping_mul(1_000_000_007).wrapping_add(number);
            let tried = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(one(&mut reader, seed))));
            summary.add(seed, tried.ok());
        }
        summary
    };
    let mut whole = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        let summaries = workers.into_iter().map(|worker| worker.join().expect("panics are caught"));
        summaries.fold(Summary::default(), Summary::with)
    });
    whole.took = began.elapsed();
    whole
}

/// What came of one file.
enum Tried {
    Compared {
        rows: u64,
        compared: Compared,
    },
    Refused(String),
    /// The file is well-formed, and must be read.
    RefusedUnmutated(String),
}

async fn one(reader: &mut Reader, seed: u64) -> Tried {
    let mut dice = Dice::new(seed);
    let file = files::make(&mut dice);
    let mutated = mutate::throw(&mut dice, &file).apply(&file.bytes);
    let before = match reader.read(&file.bytes, &file.flags).await {
        Ok(rows) => rows,
        Err(why) => return Tried::RefusedUnmutated(why),
    };
    let after = match reader.read(&mutated, &file.flags).await {
        Ok(rows) => rows,
        Err(why) => return Tried::Refused(why),
    };
    let (old, new) = (lines(&file.bytes, file.is_json), lines(&mutated, file.is_json));
    let compared = compare(&file, &before, &after, &new, Difference::of(&old, &new));
    Tried::Compared { rows: before.len() as u64, compared }
}

/// The files of a seed, the well-formed and the mutated one, and what must be declared of them: to look at one that went wrong.
pub fn show(seed: u64) -> (Vec<u8>, Vec<u8>, Vec<&'static str>) {
    let mut dice = Dice::new(seed);
    let file = files::make(&mut dice);
    let mutated = mutate::throw(&mut dice, &file).apply(&file.bytes);
    (file.bytes, mutated, file.flags)
}

impl Summary {
    /// Whether every untouched line ended as before, and few files were refused or read in another way.
    pub fn is_good(&self) -> bool {
        let is_rare = |count: u64| count * 100 <= self.files * MOST_OF_A_HUNDRED;
        self.wrong == 0 && self.panics == 0 && is_rare(self.rereadings) && is_rare(self.refused)
    }

    fn add(&mut self, seed: u64, tried: Option<Tried>) {
        self.files += 1;
        match tried {
            None => {
                self.panics += 1;
                self.examples.push(format!("file {seed}: a panic"));
            }
            Some(Tried::RefusedUnmutated(why)) => {
                self.wrong += 1;
                self.examples.push(format!("file {seed}, not mutated, is refused: {why}"));
            }
            Some(Tried::Refused(why)) => {
                self.refused += 1;
                let words: Vec<&str> = why.split_whitespace().take(5).collect();
                *self.reasons.entry(words.join(" ")).or_default() += 1;
            }
            Some(Tried::Compared { rows, compared: Compared { untouched, swallowed, wrong } }) => {
                self.rows += rows;
                self.untouched += untouched;
                self.rereadings += u64::from(swallowed > 0);
                self.wrong += wrong.len() as u64;
                self.examples
                    .extend(wrong.first().map(|row| format!("file {seed}: {} lines, such as {row}", wrong.len())));
            }
        }
        self.examples.truncate(SHOWN);
    }

    fn with(mut self, other: Self) -> Self {
        self.files += other.files;
        self.rows += other.rows;
        self.untouched += other.untouched;
        self.wrong += other.wrong;
        self.rereadings += other.rereadings;
        self.refused += other.refused;
        self.panics += other.panics;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.examples.truncate(SHOWN);
        self
    }
}

/// The most memory that this process has ever had, in MiB, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    peak.parse::<u64>().ok().map(|kib| kib / 1024)
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peak = peak_mib().map_or("unknown".to_owned(), |mib| format!("{mib} MiB"));
        let lines = [
            ("files, each with one mutation", self.files.to_string()),
            ("rows", self.rows.to_string()),
            ("lines that no mutation touches", self.untouched.to_string()),
            ("of these, not as before", self.wrong.to_string()),
            ("files with a well-formed rereading", self.rereadings.to_string()),
            ("files refused", self.refused.to_string()),
            ("panics", self.panics.to_string()),
            ("peak memory", peak),
            ("seconds", format!("{:.1}", self.took.as_secs_f64())),
        ];
        for (name, value) in lines {
            writeln!(out, "{name:<36} {value:>12}")?;
        }
        for (reason, count) in &self.reasons {
            writeln!(out, "  refused: {count:>6}  {reason} …")?;
        }
        self.examples.iter().try_for_each(|example| writeln!(out, "  WRONG: {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_costs_no_line_but_its_own() {
        let summary = run(&Options { files: 300, seed: 1, threads: 2 });
        // Of so few files, one that is refused or reread is more than one in a hundred on some days.
        assert_eq!((summary.files, summary.wrong, summary.panics), (300, 0, 0), "{summary}");
        assert!(summary.rereadings + summary.refused <= 9 && summary.untouched > 5_000, "{summary}");
    }

    #[test]
    fn a_seed_always_makes_the_same_files() {
        let (one, mutated, _) = show(42);
        assert_eq!((&one, &mutated), (&show(42).0, &show(42).1));
        assert_ne!(one, mutated);
        assert_ne!(one, show(43).0);
    }
}
