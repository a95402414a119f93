//! Files as banks send them, and malformed ones: each goes through `assay run`, and has the outcome that is listed here.
//!
//! `tests/real_world` holds those of every format, packing and dialect; the corpus of `crates/source` holds malformed bytes, and
//! runs here as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assay_tests::{Program, law};
use sqlx::SqlitePool;

/// What becomes of a file.
enum Expected {
    /// It is read to its end: so many rows, those rejected by reason, and so many that repeat others.
    Loaded(u64, &'static [(&'static str, u64)], u64),
    /// It is read up to so many rows, which are kept; the run has failed, and says why.
    Broken(u64, &'static str),
    /// It is refused before any row, and says why.
    Refused(&'static str),
}
use Expected::{Broken, Loaded, Refused};

type Case = (&'static str, &'static [&'static str], Expected);

const AMBIGUOUS: &str = "one date by %d/%m/%Y %H:%M, and another by %m/%d/%Y %H:%M; set TIMESTAMP_FORMAT";

const BLANKS: &[(&str, u64)] = &[
    ("amount_empty", 1),
    ("description_empty", 1),
    ("operation_type_empty", 1),
    ("side_empty", 1),
    ("timestamp_empty", 1),
];

const AWKWARD: &[Case] = &[
    ("gzip.csv.gz", &[], Loaded(3, &[], 0)),
    ("gzip-named-csv.csv", &[], Loaded(3, &[], 0)),
    ("plain-named-gzip.csv.gz", &[], Loaded(3, &[], 0)),
    ("gzip-of-three-members.csv.gz", &[], Loaded(3, &[], 0)),
    ("gzip-of-nothing.csv.gz", &[], Refused("the source is empty")),
    ("gzip-of-a-header.csv.gz", &[], Loaded(0, &[], 0)),
    (
        "gzip-cut-off.csv.gz",
        &[],
        Broken(996, "from row 997 (line 998) on: its gzip data are damaged: they end too early"),
    ),
    ("gzip-with-a-wrong-checksum.csv.gz", &[], Broken(3, "from row 4 (line 5) on: its gzip data are damaged")),
    ("gzip-with-rubbish-behind.csv.gz", &[], Broken(3, "from row 4 (line 5) on: its gzip data are damaged")),
    ("zstd.csv.zst", &[], Loaded(3, &[], 0)),
    ("zstd-of-two-frames.csv", &[], Loaded(3, &[], 0)),
    ("zstd-cut-off.csv.zst", &[], Broken(1_014, "from row 1015 (line 1016) on: its zstd data are damaged")),
    ("json-lines.jsonl", &[], Loaded(3, &[], 0)),
    ("json-lines-of-numbers.jsonl", &[], Loaded(7, &[("amount_empty", 1), ("amount_scale", 1)], 0)),
    ("json-lines-with-a-broken-line.jsonl", &[], Loaded(3, &[("json_format", 1)], 0)),
    ("json-lines-with-a-name-twice.jsonl", &[], Loaded(2, &[("json_format", 1)], 0)),
    ("json-lines-with-names-missing.jsonl", &[], Loaded(3, &[("side_empty", 1)], 0)),
    ("json-lines-with-other-attributes.jsonl", &[], Loaded(3, &[], 0)),
    ("json-lines-in-bom-and-crlf.jsonl", &[], Loaded(2, &[], 0)),
    ("json-lines-in-gzip.jsonl.gz", &[], Loaded(4, &[], 0)),
    ("json-lines-with-an-array-between.jsonl", &[], Loaded(3, &[("json_format", 1)], 0)),
    ("json-lines-without-a-column.jsonl", &[], Refused("missing required columns `amount`, `side`")),
    ("json-array.json", &[], Refused("write one object on each line")),
    ("json-on-many-lines.json", &[], Refused("write one object on each line")),
    ("parquet.parquet", &[], Loaded(5, &[], 0)),
    ("parquet-in-zstd-pages.parquet", &[], Loaded(5, &[], 0)),
    ("parquet-of-doubles.parquet", &[], Loaded(5, &[], 0)),
    ("parquet-of-row-groups.parquet", &[], Loaded(250, &[], 0)),
    ("parquet-with-nulls.parquet", &[], Loaded(5, &[("amount_empty", 1), ("id_empty", 1)], 0)),
    ("parquet-of-dates.parquet", &[], Loaded(5, &[], 0)),
    ("parquet-without-a-column.parquet", &[], Refused("missing required column `side`")),
    ("parquet-cut-off.parquet", &[], Refused("its Parquet data are damaged")),
    ("parquet-in-gzip.parquet.gz", &[], Refused("a Parquet file inside of gzip")),
    ("dates-day-first.csv", &[], Loaded(6, &[], 0)),
    ("dates-month-first.csv", &[], Loaded(6, &[], 0)),
    ("dates-of-two-readings.csv", &[], Refused(AMBIGUOUS)),
    ("dates-of-two-readings.csv", &["--timestamp-format", "%d/%m/%Y %H:%M"], Loaded(5, &[], 0)),
    // No year of our century tells the first part from the last one.
    (
        "dates-in-two-digit-years.csv",
        &[],
        Refused("`NN.NN.NN` in row 1 are ambiguous: one date by %d.%m.%y, and another by %y.%m.%d"),
    ),
    ("dates-in-two-digit-years.csv", &["--timestamp-format", "%d.%m.%y"], Loaded(4, &[], 0)),
    ("dates-in-half-days.csv", &[], Loaded(4, &[], 0)),
    ("dates-with-a-few-others.csv", &[], Refused("10 of 13 timestamps read by %d/%m/%Y %H:%M, too few")),
    (
        "dates-with-a-few-others.csv",
        &["--timestamp-format", "%d/%m/%Y %H:%M"],
        Loaded(13, &[("timestamp_format", 3)], 0),
    ),
    ("dates-alone.csv", &[], Loaded(3, &[], 0)),
    ("dates-in-iso-of-every-kind.csv", &[], Loaded(5, &[("timestamp_format", 2)], 0)),
    ("dates-in-a-spring-hour.csv", &["--time-zone", "Europe/Paris"], Loaded(2, &[("timestamp_gap", 1)], 0)),
    ("windows-1252-undeclared.csv", &[], Refused("in windows-1252 it is `é`; set ENCODING")),
    ("windows-1252-declared.csv", &["--encoding", "windows-1252"], Loaded(2, &[], 0)),
    (
        "decimal-commas-in-quotes-and-one-point.csv",
        &[],
        Refused("1 of 5 as `N.NN` in row 5, and 4 of 5 as `N,NN` in row 1; set DECIMAL_MARK"),
    ),
    ("decimal-commas-in-quotes-and-one-point.csv", &["--decimal-mark", "comma"], Loaded(5, &[("amount_format", 1)], 0)),
    ("thousands-separators.csv", &[], Loaded(4, &[], 0)),
    ("currencies-in-amounts.csv", &[], Loaded(5, &[("amount_format", 2)], 0)),
    ("tabs.tsv", &[], Loaded(2, &[], 0)),
    ("pipes.csv", &[], Loaded(2, &[], 0)),
    ("fields-far-too-long.csv.gz", &[], Loaded(4, &[("row_too_large", 1)], 0)),
    ("a-line-of-a-hundred-megabytes.csv.gz", &[], Loaded(3, &[("row_too_large", 1)], 0)),
    ("json-line-far-too-long.jsonl.gz", &[], Loaded(3, &[("row_too_large", 1)], 0)),
    ("ids-twice.csv", &[], Loaded(4, &[], 2)),
    ("ids-twice-with-other-content.csv", &[], Loaded(3, &[], 0)),
    ("ids-of-every-kind.csv", &[], Loaded(6, &[("id_empty", 1)], 2)),
    ("blank-fields.csv", &[], Loaded(6, BLANKS, 0)),
    ("semicolons-in-bom-and-crlf.csv", &[], Loaded(3, &[], 0)),
    ("quoted-line-ends.csv", &[], Loaded(3, &[], 0)),
    ("zstd-of-nothing.csv.zst", &[], Refused("the source is empty")),
    ("gzip-in-gzip.csv.gz", &[], Refused("the source is gzip data inside of gzip: unpack it once")),
    ("parquet-of-no-rows.parquet", &[], Loaded(0, &[], 0)),
    ("json-lines-and-blank-lines.jsonl", &[], Loaded(2, &[], 0)),
    ("a-column-without-name.csv", &[], Loaded(2, &[], 0)),
];

/// What became of a file, in words.
async fn outcome(path: &Path, options: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::new("assay").arg("run").within(folder.path());
    for option in options {
        program = program.arg(option);
    }
    let ended = program.arg(path).run().await;
    let database = folder.path().join("assay.db");
    let held = law::holds_in_file(&database).await;
    let pool = SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    let rejected: Vec<(String, i64)> =
        sqlx::query_as("SELECT reason, count(*) FROM invalid_transactions GROUP BY reason ORDER BY reason")
            .fetch_all(&pool)
            .await
            .unwrap();
    let runs: Vec<(String, Option<i64>)> =
        sqlx::query_as("SELECT state, rows_read FROM runs").fetch_all(&pool).await.unwrap();
    pool.close().await;
    let tally = held.values().next().copied().unwrap_or_default();
    let rejected: BTreeMap<String, i64> = rejected.into_iter().collect();
    let error = ended.stderr.lines().filter(|line| line.contains(" ERROR ")).collect::<Vec<_>>().join(" ");
    format!("exit {:?}, {runs:?}, {tally:?}, {rejected:?}, {error}", ended.code)
}

/// Whether it is what was expected.
fn is_expected(outcome: &str, expected: &Expected) -> bool {
    match expected {
        Loaded(rows, rejects, duplicate) => {
            let rejected: BTreeMap<_, _> = rejects.iter().copied().collect();
            outcome.contains(&format!("[(\"complete\", Some({rows}))]"))
                && outcome.contains(&format!("duplicate: {duplicate} }}, {rejected:?}, "))
        }
        Broken(rows, words) => {
            outcome.starts_with("exit Some(4)")
                && outcome.contains(&format!("[(\"failed\", Some({rows}))]"))
                && outcome.contains(words)
        }
        Refused(words) => outcome.starts_with("exit Some(4), []") && outcome.contains(words),
    }
}

#[tokio::test]
async fn every_real_world_file_has_its_expected_outcome() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("real_world");
    let mut unexpected = Vec::new();
    for (name, options, expected) in AWKWARD {
        let outcome = outcome(&directory.join(name), options).await;
        if !is_expected(&outcome, expected) {
            unexpected.push(format!("{name} {options:?}: {outcome}"));
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let there = std::fs::read_dir(directory).unwrap().count();
    let named: std::collections::BTreeSet<_> = AWKWARD.iter().map(|(name, ..)| name).collect();
    assert_eq!(there, named.len(), "each file is named here");
}

/// No file of the lower corpus, whatever is in it, ends in anything but a load, a run without a valid row, or one clear line.
#[tokio::test]
async fn no_malformed_file_breaks_a_run() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/source/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 40);
    for file in files {
        let outcome = outcome(&file, &[]).await;
        let is_loaded = outcome.contains("[(\"complete\", Some(");
        let is_refused = outcome.starts_with("exit Some(4), []") && outcome.matches(" ERROR ").count() == 1;
        let has_nothing_valid =
            outcome.starts_with("exit Some(1), [(\"failed\", Some(") && outcome.contains("rows is valid");
        assert!(is_loaded || is_refused || has_nothing_valid, "{}: {outcome}", file.display());
    }
}
