//! What becomes of the rows of a file: looked at, read, judged and cut by the parts that a loader is made of, in this process.

use std::collections::HashMap;
use std::path::PathBuf;

use assay_loader::ReadOptions;
use assay_source::{S3Options, SourceUrl, Sources};
use assay_transaction::{CheckedRow, Checkpoint, Chunker, Entry, RawText, RejectedRow, RowBytes, Rules};
use clap::Parser;

/// What becomes of a row, and where it stands.
#[derive(Debug)]
pub(super) struct Row {
    /// Its first physical line, from 1.
    pub(super) first: u64,
    /// Its last one.
    pub(super) last: u64,
    /// Its content: the transaction that it is, or the rule it breaks and its own text. No number of it is in here.
    pub(super) outcome: String,
}

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    read: ReadOptions,
}

/// A place where files are read.
pub(super) struct Reader {
    sources: Sources,
    path: PathBuf,
    options: HashMap<Vec<&'static str>, ReadOptions>,
}

impl Reader {
    /// One that writes each file to this path.
    pub(super) fn new(path: PathBuf) -> Self {
        let sources = Sources::new(&S3Options::default()).expect("the defaults of S3 are right");
        Self { sources, path, options: HashMap::new() }
    }

    /// What becomes of the rows of a file; why it is refused, where none is read.
    pub(super) async fn read(&mut self, bytes: &[u8], flags: &[&'static str]) -> Result<Vec<Row>, String> {
        std::fs::write(&self.path, bytes).expect("the folder of the test can be written");
        let options = self.options.entry(flags.to_vec()).or_insert_with(|| {
            let fixed = ["mutations", "--id-namespace", "mutations", "--chunk-rows", "7"];
            Flags::parse_from(fixed.iter().chain(flags)).read
        });
        let url = SourceUrl::File(self.path.clone());
        let told = |error: assay_source::SourceError| error.to_string();
        let found = self.sources.identify(&url).await.map_err(told)?;
        let inspected = self.sources.inspect(&url, &found, &options.format).await.map_err(told)?;
        let settings = options.settings(&inspected, found.size, &url);
        let from = Checkpoint::first(settings.start.expect("a new run knows where its rows begin"));
        let rules = Rules::of_run(&settings).map_err(|error| error.to_string())?;
        let row_bytes = RowBytes::of_run(&settings, rules.columns());
        let mut chunker = Chunker::new("mutations".parse().expect("a name"), &settings, from);
        let mut reader = self.sources.rows(&url, &found, &settings, from.at).await.map_err(told)?;
        let (mut rows, mut in_chunks) = (Vec::new(), 0);
        while let Some(batch) = reader.next_batch(1_000).await.map_err(told)? {
            for row in batch.rows() {
                let checked =
                    row.rejection().map_or_else(|| rules.check_fields(row.number, 1, &row.fields, row.raw_bytes), Err);
                let (outcome, judged) = match checked {
                    Ok(fields) => {
                        let mut valid = fields.clone().into_valid_row();
                        // A name that another line has made up is nothing in this one.
                        valid.transaction.attributes.retain(|_, value| !value.is_empty());
                        let plain = Entry::new(0, &valid).expect("a transaction is JSON");
                        (format!("{:?} {}", plain.external_id, plain.transaction.as_json()), Ok(fields))
                    }
                    Err(rejection) => {
                        let outcome = format!("{} {}", rejection.reason.code(), row.raw.escape_ascii());
                        let (reason, raw) = (rejection.reason, RawText::from(row.raw.to_vec()));
                        let (number, line) = (row.number, row.line);
                        (outcome, Err(RejectedRow { row: number, line, reason, message: rejection.message, raw }))
                    }
                };
                let bytes = row_bytes.of(row.raw, row.raw_bytes, &row.fields);
                let judged = CheckedRow { row: judged, amount: None, other_reading: false, bytes, end: row.end };
                in_chunks += chunker.push(judged).expect("a chunk is JSON").map_or(0, |cut| cut.chunk.range.rows);
                let last = row.line.max(row.end.line.saturating_sub(1));
                rows.push(Row { first: row.line, last, outcome });
            }
        }
        in_chunks += chunker.finish(reader.position()).expect("a chunk is JSON").map_or(0, |cut| cut.chunk.range.rows);
        assert_eq!(in_chunks, rows.len() as u64, "each row is in one chunk");
        // Where the source ends without a line end, nothing says that its last line is over.
        if let Some(last) = rows.last_mut() {
            last.last = u64::MAX;
        }
        Ok(rows)
    }
}
