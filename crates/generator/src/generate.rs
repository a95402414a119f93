//! Writes the transactions of a seed as a CSV file, with some rows broken and some repeated, in constant memory.

use std::collections::VecDeque;
use std::io::{self, Write};

use assay_transaction::{Encoding, Exit};

use crate::fault::FaultSource;
use crate::layout::{DatasetLayout, LayoutRows};
use crate::options::GenerateOptions;
use crate::random::{Random, RandomStream};
use crate::row::{RowBuffer, RowFormat};
use crate::transactions::Transactions;

/// How far back a duplicate may reach, which bounds the memory.
const REMEMBERED: usize = 1_000;
const WRITE_BUFFER: usize = 256 * 1024;

/// Counts of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GenerateSummary {
    /// Data rows.
    pub rows: u64,
    /// Invalid rows.
    pub invalid: u64,
    /// Rows that repeat an earlier one.
    pub duplicates: u64,
    /// Rows labelled as fraud.
    pub fraud: u64,
}

/// Why writing failed.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The shares exceed all rows.
    #[error("--invalid {invalid} and --duplicates {duplicates} exceed all rows; together they may be at most 1")]
    Shares {
        /// The share of invalid rows.
        invalid: f64,
        /// The share of duplicates.
        duplicates: f64,
    },
    /// The encoding has no byte order mark.
    #[error("--bom marks UTF-8, and --encoding is windows-1252; leave one of them out")]
    Bom,
    /// The output cannot be written.
    #[error("cannot write the rows: {0}; give a writable file with --output")]
    Output(#[source] io::Error),
    /// The manifest cannot be written.
    #[error("cannot write the manifest: {0}; give a writable file with --manifest")]
    Manifest(#[source] io::Error),
}

impl GenerateError {
    /// The exit code of the program.
    pub fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Writes the rows to `out`, and the expected outcome of each to `manifest`.
pub fn generate(
    options: &GenerateOptions,
    out: impl Write,
    manifest: Option<&mut dyn Write>,
) -> Result<GenerateSummary, GenerateError> {
    let shares = RowShares::new(options)?;
    if options.bom && options.encoding != Encoding::UTF_8 {
        return Err(GenerateError::Bom);
    }
    let mut file = OutputFiles {
        out: io::BufWriter::with_capacity(WRITE_BUFFER, out),
        manifest: manifest.map(|manifest| io::BufWriter::with_capacity(WRITE_BUFFER, manifest)),
        summary: GenerateSummary::default(),
    };
    if let Some(layout) = options.layout {
        return write_layout(layout, options, file);
    }
    let format = RowFormat::new(options);
    file.write_header(options.bom, &format.header())?;

    let faults = FaultSource::new(&options.invalid_kinds);
    let mut fault_random = Random::new(options.seed, RandomStream::FaultSource);
    let mut transactions = Transactions::new(options.seed, options.uuid_ids);
    let mut recent = RecentRows::default();
    let mut row = RowBuffer::new(options.encoding);
    let mut line = Vec::new();
    for _ in 0..options.rows {
        let outcome = shares.draw(&mut fault_random);
        if outcome == ExpectedOutcome::Duplicate
            && let Some(repeated) = recent.pick(&mut fault_random)
        {
            file.write(repeated, ExpectedOutcome::Duplicate, "")?;
            continue;
        }
        let generated = transactions.draw();
        format.fill(&mut row, &generated);
        let reason =
            if outcome == ExpectedOutcome::Invalid { faults.apply(&mut row, &mut fault_random).code() } else { "" };
        line.clear();
        format.write(&row, &mut line);
        let written = WrittenRow { line: &line[..], id: generated.id, is_fraud: generated.is_fraud };
        if outcome == ExpectedOutcome::Invalid {
            file.write(&written, ExpectedOutcome::Invalid, reason)?;
        } else {
            file.write(&written, ExpectedOutcome::Valid, "")?;
            recent.remember(written);
        }
    }
    file.finish()
}

/// Writes the rows of another layout; all are valid by a suitable mapping.
fn write_layout<W: Write>(
    layout: DatasetLayout,
    options: &GenerateOptions,
    mut file: OutputFiles<'_, W>,
) -> Result<GenerateSummary, GenerateError> {
    let format = RowFormat::new(&DatasetLayout::dialect(options));
    file.write_header(options.bom, &format.header_with(layout.header()))?;
    let (mut rows, mut row, mut line) =
        (LayoutRows::new(layout, options), RowBuffer::new(options.encoding), Vec::new());
    for index in 0..options.rows {
        let (id, is_fraud) = rows.fill(&mut row, index);
        line.clear();
        format.write(&row, &mut line);
        file.write(&WrittenRow { line: &line[..], id, is_fraud }, ExpectedOutcome::Valid, "")?;
    }
    file.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedOutcome {
    Valid,
    Invalid,
    Duplicate,
}

/// Thresholds of 2^32 for invalid and repeated rows.
struct RowShares {
    invalid: u64,
    invalid_or_duplicate: u64,
}

impl RowShares {
    fn new(options: &GenerateOptions) -> Result<Self, GenerateError> {
        let GenerateOptions { invalid, duplicates, .. } = *options;
        // Not `sum > 1`, which NaN would pass.
        if !(invalid >= 0.0 && duplicates >= 0.0 && invalid + duplicates <= 1.0) {
            return Err(GenerateError::Shares { invalid, duplicates });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32 is in 0..=2^32")]
        let part = |share: f64| (share * 4_294_967_296.0) as u64;
        Ok(Self { invalid: part(invalid), invalid_or_duplicate: part(invalid + duplicates) })
    }

    fn draw(&self, random: &mut Random) -> ExpectedOutcome {
        match u64::from(random.bits()) {
            bits if bits < self.invalid => ExpectedOutcome::Invalid,
            bits if bits < self.invalid_or_duplicate => ExpectedOutcome::Duplicate,
            _ => ExpectedOutcome::Valid,
        }
    }
}

struct WrittenRow<Line> {
    line: Line,
    id: String,
    is_fraud: bool,
}

#[derive(Default)]
struct RecentRows(VecDeque<WrittenRow<Vec<u8>>>);

impl RecentRows {
    /// A random one; none while there is none.
    fn pick(&self, random: &mut Random) -> Option<&WrittenRow<Vec<u8>>> {
        let count = u32::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        self.0.get(random.below(count) as usize)
    }

    /// Keeps a copy of the row, reusing the memory of the oldest.
    fn remember(&mut self, written: WrittenRow<&[u8]>) {
        let forgotten = if self.0.len() == REMEMBERED { self.0.pop_front() } else { None };
        let mut line = forgotten.map(|forgotten| forgotten.line).unwrap_or_default();
        line.clear();
        line.extend_from_slice(written.line);
        self.0.push_back(WrittenRow { line, id: written.id, is_fraud: written.is_fraud });
    }
}

struct OutputFiles<'a, W: Write> {
    out: io::BufWriter<W>,
    manifest: Option<io::BufWriter<&'a mut dyn Write>>,
    summary: GenerateSummary,
}

impl<W: Write> OutputFiles<'_, W> {
    fn write_header(&mut self, bom: bool, header: &[u8]) -> Result<(), GenerateError> {
        if bom {
            self.out.write_all("\u{FEFF}".as_bytes()).map_err(GenerateError::Output)?;
        }
        self.out.write_all(header).map_err(GenerateError::Output)?;
        if let Some(manifest) = &mut self.manifest {
            manifest.write_all(b"row,outcome,reason,id,label\n").map_err(GenerateError::Manifest)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        row: &WrittenRow<impl AsRef<[u8]>>,
        outcome: ExpectedOutcome,
        reason: &str,
    ) -> Result<(), GenerateError> {
        self.out.write_all(row.line.as_ref()).map_err(GenerateError::Output)?;
        self.summary.rows += 1;
        self.summary.fraud += u64::from(row.is_fraud);
        let outcome = match outcome {
            ExpectedOutcome::Valid => "valid",
            ExpectedOutcome::Invalid => {
                self.summary.invalid += 1;
                "invalid"
            }
            ExpectedOutcome::Duplicate => {
                self.summary.duplicates += 1;
                "duplicate"
            }
        };
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        writeln!(manifest, "{},{outcome},{reason},{},{}", self.summary.rows, row.id, u8::from(row.is_fraud))
            .map_err(GenerateError::Manifest)
    }

    fn finish(mut self) -> Result<GenerateSummary, GenerateError> {
        self.out.flush().map_err(GenerateError::Output)?;
        if let Some(manifest) = &mut self.manifest {
            manifest.flush().map_err(GenerateError::Manifest)?;
        }
        Ok(self.summary)
    }
}
