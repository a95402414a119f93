//! Reads one row of a run's source again, to show what the file said.
//!
//! Reads from the first row, with the reader, the rules and the frozen settings of the load: the row gets the same outcome.
//! Publishes and records nothing.

use std::time::Duration;

use assay_source::{FoundSource, SourceUrl, Sources};
use assay_transaction::{Checkpoint, CutChunk, Entry, FieldAccess as _, RejectedRow, Run};
use tokio::sync::mpsc;

use crate::load::READ_AHEAD;
use crate::load::begin::{first_row, identify};
use crate::load::read::{ReadEnd, ReaderMessage, read};
use crate::{LoadError, LoadProgress};

/// Rows that are read together.
const BATCH_ROWS: usize = 5_000;
/// Beyond every chunk. With an end, the reader checks no budget.
const NO_CHUNK: u64 = u64::MAX;

/// A row of the source, and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct RereadRow {
    /// The physical line at which it starts, from 1.
    pub line: u64,
    /// Its text, decoded; truncated if it is very long.
    pub raw: String,
    /// Its fields, in the order of the run's header. Empty if the row is malformed.
    pub fields: Vec<String>,
    /// Further fields, by name.
    pub extras: Vec<(String, String)>,
    /// Its outcome by the rules of the run.
    pub judged: Result<Entry, RejectedRow>,
}

/// Reads one row of a run's source again. None if the source has fewer rows. Fails if the source was replaced.
pub async fn reread_row(
    sources: &Sources,
    run: &Run,
    row: u64,
    startup: Duration,
    progress: &LoadProgress,
) -> Result<Option<RereadRow>, LoadError> {
    let (url, found) = same_source(sources, run, startup).await?;
    progress.set_source_bytes(found.size);
    let from = first_row(sources, &url, run).await?;
    let reader = sources.rows(&url, &found, &run.settings, from.at).await?;
    let (sender, mut messages) = mpsc::channel(READ_AHEAD);
    // Dropping the receiver once the row is found stops the reader.
    let find = async move {
        let mut before = from;
        while let Some(read) = messages.recv().await {
            let ReaderMessage::Cut(CutChunk { chunk, next }) = read else { continue };
            if next.rows_before() >= row {
                let chunk = chunk.decode()?;
                let valid = chunk.transactions.into_iter().find(|entry| entry.row == row).map(Ok);
                return Ok(valid
                    .or_else(|| chunk.rejected.into_iter().find(|rejected| rejected.row == row).map(Err))
                    .map(|judged| (before, judged)));
            }
            before = next;
        }
        Ok::<_, LoadError>(None)
    };
    let (end, judged) = tokio::join!(read(reader, run, from, Some(NO_CHUNK), BATCH_ROWS, progress, sender), find);
    match (end?.0, judged?) {
        (_, Some((before, judged))) => text_of(sources, (&url, &found), run, row, before, judged).await,
        (ReadEnd::Broken(error, _), None) => Err(error.into()),
        _ => Ok(None),
    }
}

/// The source of a run, if it still has the version that the run has read.
pub(crate) async fn same_source(
    sources: &Sources,
    run: &Run,
    startup: Duration,
) -> Result<(SourceUrl, FoundSource), LoadError> {
    let location = &run.source.location;
    if run.source.is_live() {
        return Err(LoadError::NoSource { run_id: run.run_id.clone() });
    }
    let url = SourceUrl::of(&run.source)?;
    let found = identify(sources, &url, startup).await?;
    if found.identity.version != run.source.version {
        return Err(LoadError::SourceReplaced {
            run_id: run.run_id.clone(),
            location: location.clone(),
            read: run.source.version.clone(),
            found: found.identity.version,
        });
    }
    Ok((url, found))
}

/// Finds the row in its source, from the start of its chunk.
async fn text_of(
    sources: &Sources,
    (url, found): (&SourceUrl, &FoundSource),
    run: &Run,
    row: u64,
    before: Checkpoint,
    judged: Result<Entry, RejectedRow>,
) -> Result<Option<RereadRow>, LoadError> {
    let encoding = run.settings.encoding_of_rows();
    let text = |bytes: &[u8]| encoding.decode(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes)).into_owned();
    let mut reader = sources.rows(url, found, &run.settings, before.at).await?;
    while let Some(batch) = reader.next_batch(BATCH_ROWS).await? {
        if let Some(row) = batch.rows().find(|found| found.number == row) {
            return Ok(Some(RereadRow {
                line: row.line,
                raw: text(row.raw),
                fields: (0..row.fields.count()).map(|index| text(row.fields.get(index).unwrap_or_default())).collect(),
                extras: row.fields.extras().map(|(name, value)| (text(name), text(value))).collect(),
                judged,
            }));
        }
    }
    Ok(None)
}
