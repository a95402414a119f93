//! A generated file, and what is to become of each of its rows: as its manifest says, and as another CSV reader than
//! Assay's reads it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use assay_testkit::Dice;

use super::content::{Content, Fingerprint};
use super::plan::FilePlan;
use crate::Program;

/// A file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// In the order of the file, the first one being row 1.
    pub(super) rows: Vec<Row>,
    /// What the ML API answers 500 to.
    pub(super) broken: HashSet<Fingerprint>,
    /// What it answers 422 to.
    pub(super) refused: HashSet<Fingerprint>,
}

/// A row of it.
#[derive(Debug)]
pub(super) enum Row {
    /// Breaks a rule, with this reason; and its own bytes.
    Invalid { reason: String, raw: Raw },
    /// A transaction, or one of several with the same id, of which one is stored.
    Valid { id: String, content: Content },
}

/// The bytes of a row, shown as text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some have 256 KiB.
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0[..self.0.len().min(300)]))
    }
}

/// What is to become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    Invalid(&'a str),
    /// Stored, or a duplicate of one that is.
    Stored,
    /// Failed, with this class.
    Failed(&'static str),
}

impl Source {
    /// Generates a file into a folder.
    pub(super) async fn generate(
        plan: &FilePlan,
        wide: usize,
        broken: usize,
        refused: usize,
        dice: &mut Dice,
        folder: &Path,
    ) -> Self {
        let path = folder.join("transactions.csv");
        let manifest = folder.join("manifest.csv");
        let generate =
            Program::new("assay").arg("generate").arg("--output").arg(&path).arg("--manifest").arg(&manifest);
        plan.arguments.iter().fold(generate, Program::arg).run().await.expect_exit(0);
        let mut file = std::fs::read(&path).expect("the file is there");
        let mut rows = read(plan, &file, &manifest);
        if wide > 0 {
            file = widened(plan, &file, &rows, wide, dice);
            rows = read(plan, &file, &manifest);
            std::fs::write(&path, &file).expect("the file is ours");
        }
        let mut source = Self { path, rows, broken: HashSet::new(), refused: HashSet::new() };
        source.broken = source.some(broken, dice);
        source.refused = source.some(refused, dice);
        source
    }

    /// The contents of so many valid rows.
    fn some(&self, count: usize, dice: &mut Dice) -> HashSet<Fingerprint> {
        let valid: Vec<&Content> = self.rows.iter().filter_map(Row::content).collect();
        (0..count).map(|_| valid[dice.below(valid.len())].fingerprint()).collect()
    }

    pub(super) fn fate<'a>(&self, row: &'a Row) -> Fate<'a> {
        match row {
            Row::Invalid { reason, .. } => Fate::Invalid(reason),
            Row::Valid { content, .. } => {
                let fingerprint = content.fingerprint();
                // Where it is both, the API answers 500, as it has to answer something.
                if self.broken.contains(&fingerprint) {
                    Fate::Failed("suspect")
                } else if self.refused.contains(&fingerprint) {
                    Fate::Failed("rejected")
                } else {
                    Fate::Stored
                }
            }
        }
    }

    /// How many rows are to be stored, failed and invalid; the rest are duplicates.
    pub(super) fn foretold(&self) -> (usize, usize, usize) {
        let (mut ids, mut failed, mut invalid) = (HashSet::new(), 0, 0);
        for row in &self.rows {
            match (self.fate(row), row) {
                (Fate::Stored, Row::Valid { id, .. }) => drop(ids.insert(id)),
                (Fate::Failed(_), _) => failed += 1,
                _ => invalid += 1,
            }
        }
        (ids.len(), failed, invalid)
    }
}

impl Row {
    fn content(&self) -> Option<&Content> {
        match self {
            Self::Invalid { .. } => None,
            Self::Valid { content, .. } => Some(content),
        }
    }
}

/// The file with descriptions of some rows made long: of letters, or of a control character that JSON writes with six. Only rows
/// whose id comes once, as those that repeat another must repeat all of it.
fn widened(plan: &FilePlan, file: &[u8], rows: &[Row], count: usize, dice: &mut Dice) -> Vec<u8> {
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        if let Row::Valid { id, .. } = row {
            *ids.entry(id).or_default() += 1;
        }
    }
    let mut widened = file.to_vec();
    let mut left = count;
    // From the end, so that what comes before stays where it is.
    for ((span, _), row) in records(plan, file).1.iter().zip(rows).rev() {
        let Row::Valid { id, content } = row else { continue };
        let description = content.description.as_bytes();
        if left == 0 || ids[id.as_str()] > 1 || !description.is_ascii() || !dice.one_in(20) {
            continue;
        }
        let Some(at) = file[span.clone()].windows(description.len().max(1)).position(|window| window == description)
        else {
            continue;
        };
        let filler = if dice.one_in(2) { b'w' } else { 1 };
        let at = span.start + at + description.len();
        widened.splice(at..at, vec![filler; dice.between(100_000, 250_000)]);
        left -= 1;
    }
    assert!(left < count, "not one row could be made wide");
    widened
}

/// The names of the header, and each record with where it begins and ends.
fn records(plan: &FilePlan, file: &[u8]) -> (csv::ByteRecord, Vec<(Range<usize>, csv::ByteRecord)>) {
    let content = file.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(file);
    let skipped = file.len() - content.len();
    let mut reader = csv::ReaderBuilder::new().delimiter(plan.delimiter).flexible(true).from_reader(content);
    let names = reader.byte_headers().expect("the file has a header").clone();
    let mut records = Vec::new();
    let mut record = csv::ByteRecord::new();
    loop {
        let start = skipped + offset(&reader);
        if !reader.read_byte_record(&mut record).expect("the file is CSV") {
            return (names, records);
        }
        records.push((start..skipped + offset(&reader), record.clone()));
    }
}

fn read(plan: &FilePlan, file: &[u8], manifest: &Path) -> Vec<Row> {
    let text = |bytes: &[u8]| {
        if plan.is_windows_1252 {
            // All that is generated and valid is in Latin-1, whose characters have their own numbers.
            bytes.iter().map(|byte| char::from(*byte)).collect()
        } else {
            String::from_utf8(bytes.to_vec()).expect("a valid row is UTF-8")
        }
    };
    let (names, records) = records(plan, file);
    let names: Vec<String> = names.iter().map(text).collect();
    let mut foretold = csv::Reader::from_path(manifest).expect("the manifest is there").into_records();
    let mut rows = Vec::new();
    let mut seen: HashMap<String, Content> = HashMap::new();
    for (span, record) in records {
        let row = foretold.next().expect("the manifest has a line for each row").expect("the manifest is CSV");
        assert_eq!(row[0], (rows.len() + 1).to_string(), "the rows of the manifest");
        if &row[1] == "invalid" {
            let line = &file[span];
            // Where lines end with CR LF, the reader takes the LF for the beginning of the next one.
            let line = line.strip_prefix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let raw = Raw(line.strip_suffix(b"\r").unwrap_or(line).to_vec());
            rows.push(Row::Invalid { reason: row[2].to_owned(), raw });
            continue;
        }
        let fields: Vec<String> = record.iter().map(text).collect();
        let (id, content) = transaction(plan, &names, &fields);
        assert_eq!(row[3], id, "the id of row {} in the manifest", &row[0]);
        let earlier = seen.insert(id.clone(), content.clone());
        assert_eq!(earlier.is_some(), &row[1] == "duplicate", "row {} of the manifest", &row[0]);
        assert!(earlier.is_none_or(|earlier| earlier == content), "a duplicate repeats a row exactly");
        rows.push(Row::Valid { id, content });
    }
    assert!(foretold.next().is_none(), "the manifest has more lines than the file has rows");
    assert_eq!(rows.len(), plan.rows);
    rows
}

fn offset(reader: &csv::Reader<&[u8]>) -> usize {
    usize::try_from(reader.position().byte()).expect("it is in memory")
}

fn transaction(plan: &FilePlan, names: &[String], fields: &[String]) -> (String, Content) {
    let mut by_name: BTreeMap<String, String> = names.iter().cloned().zip(fields.iter().cloned()).collect();
    let mut take = |name: &str| by_name.remove(name).unwrap_or_else(|| panic!("the file has a column {name}"));
    let id = take("id");
    let content = Content {
        description: take("description"),
        amount: Content::amount(&take("amount"), plan.decimal_mark),
        timestamp: take("timestamp"),
        merchant: take("merchant"),
        operation_type: take("operation_type"),
        side: take("side"),
        attributes: BTreeMap::new(),
    };
    (id, Content { attributes: by_name, ..content })
}
