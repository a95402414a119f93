//! How many rows a second this machine reads, validates and cuts into chunks: the loader without its broker and its ledger.

use std::time::{Duration, Instant};

use assay_source::{SourceUrl, Sources};
use assay_transaction::{Checkpoint, Chunker, EncodedChunk, RunId};

use crate::load::judge::Judge;
use crate::{LoadError, ReadOptions};

/// Rows that are read together.
const BATCH_ROWS: usize = 5_000;
/// Chunks that are kept, for the measurements of what follows.
const KEPT: usize = 10;

/// What [`measure_reading`] measured.
#[derive(Debug)]
pub struct ReadRate {
    /// Rows that were read and judged.
    pub rows: u64,
    /// How long that took.
    pub took: Duration,
    /// The first chunks.
    pub chunks: Vec<EncodedChunk>,
}

/// Reads a source again and again for that long. Publishes and records nothing.
pub async fn measure_reading(
    sources: &Sources,
    url: &SourceUrl,
    options: &ReadOptions,
    run_id: &RunId,
    time: Duration,
) -> Result<ReadRate, LoadError> {
    let found = sources.identify(url).await?;
    let inspected = sources
        .inspect(url, &found, &options.format)
        .await
        .map_err(|cause| LoadError::Layout { location: url.to_string(), cause: Box::new(cause) })?;
    let settings = options.settings(&inspected, found.size, url);
    let (mut rows, mut chunks, began) = (0, Vec::new(), Instant::now());
    while began.elapsed() < time {
        let (mut judge, before) = (Judge::of_run(&settings)?, rows);
        let mut chunker = Chunker::new(run_id.clone(), &settings, Checkpoint::START);
        let mut reader = sources.rows(url, &found, &settings, Checkpoint::START.at).await?;
        while let Some(batch) = reader.next_batch(BATCH_ROWS).await? {
            for row in batch.rows() {
                let Ok(judged) = judge.judge(&row) else { break };
                rows += 1;
                if let Some(cut) = chunker.push(judged)?
                    && chunks.len() < KEPT
                {
                    chunks.push(cut.chunk);
                }
            }
            if began.elapsed() >= time {
                break;
            }
        }
        if rows == before {
            break;
        }
    }
    Ok(ReadRate { rows, took: began.elapsed(), chunks })
}
