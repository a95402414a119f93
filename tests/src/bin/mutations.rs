//! `scripts/mutations`: files with one mutation each, as many as were asked for.

use std::io::Write as _;
use std::process::ExitCode;

use assay_tests::mutations::{self, Options};
use clap::Parser;

/// Make well-formed files of every style, change one byte or so in the rows of each, and compare what becomes of its lines
///
/// Every line that the mutation does not touch must end as before: as the same transaction, or rejected for the same reason.
/// Counted apart, and at most one file in a hundred each: files in which the mutation made a well-formed row of several lines,
/// which swallows others, and files that are refused as a whole. Exits 1 where that is not so, and names the files.
#[derive(Debug, Parser)]
#[command(name = "scripts/mutations")]
struct Arguments {
    /// How many files
    #[arg(long, default_value_t = 100_000)]
    files: u64,
    /// The seed of them all
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads read them
    #[arg(long, default_value_t = default_threads())]
    threads: u64,
    /// Write the two files of one that went wrong to this folder instead, by its number
    #[arg(long, value_name = "NUMBER", requires = "to")]
    show: Option<u64>,
    /// Where to
    #[arg(long, value_name = "FOLDER")]
    to: Option<std::path::PathBuf>,
}

fn default_threads() -> u64 {
    std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64)
}

fn main() -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let Arguments { files, seed, threads, show, to } = Arguments::parse();
    if let (Some(number), Some(folder)) = (show, to) {
        let (original, mutated, flags) = mutations::show(number);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("original.txt"), original)?;
        std::fs::write(folder.join("mutated.txt"), mutated)?;
        writeln!(out, "{}", flags.join(" "))?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = mutations::run(&Options { files, seed, threads: threads.max(1) });
    write!(out, "{summary}")?;
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
