//! `assay doctor --measure`: runs each stage alone for a few seconds, and names the one with the lowest ceiling and the setting to
//! change.
//!
//! It leaves nothing behind: rows are generated into a file that is removed, messages go through a queue that ends with the
//! connection, and rows are copied into temporary tables that are rolled back. The ML API scores transactions that are made up and
//! marked as such, whose answers are dropped.

use std::fmt::{self, Display};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_generator::GenerateOptions;
use assay_loader::{ReadOptions, measure_reading};
use assay_queue::{BrokerOptions, Message};
use assay_scoring::{ApiOptions, ConcurrencyMode, Scorer, made_up_transaction};
use assay_source::{S3Options, SourceUrl, Sources};
use assay_store::DatabaseOptions;
use assay_transaction::{
    Chunk, ChunkScores, EncodedChunk, EncodedTransaction, Lane, Prediction, RunId, ScoredChunk, UnscoredChunk,
};
use chrono::Utc;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;
use crate::output::{Table, grouped, per_second};

/// How long each stage is measured.
const TIME: Duration = Duration::from_secs(3);
/// How long each number of requests at a time is.
const STEP_TIME: Duration = Duration::from_secs(1);
/// Rows of the generated file.
const ROWS: u64 = 50_000;

/// What the stages can do, each alone.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    stages: Vec<Stage>,
    /// The stage with the lowest ceiling, if more than one was measured.
    bottleneck: Option<&'static str>,
    /// What to change for more.
    remedy: Option<&'static str>,
}

/// One stage.
#[derive(Debug, Serialize)]
struct Stage {
    name: &'static str,
    rows_per_second: Option<u64>,
    /// How it was measured, or why not.
    note: String,
}

impl Stage {
    fn measured(stage: &'static str, rows: u64, took: Duration, note: impl Into<String>) -> Self {
        Self { name: stage, rows_per_second: Some(per_second(rows, took)), note: note.into() }
    }

    fn not_measured(stage: &'static str, why: impl Into<String>) -> Self {
        Self { name: stage, rows_per_second: None, note: why.into() }
    }
}

const READING: &str = "read and validate";
const QUEUE: &str = "queue round trip";
const ML_API: &str = "ml_api";
const COPY: &str = "copy into the database";

/// What is measured, and by which settings. Nothing stands for what is unset or does not work.
pub(super) struct Measurement<'a> {
    pub(super) read: ReadOptions,
    pub(super) broker: Option<&'a BrokerOptions>,
    pub(super) api: Option<&'a ApiOptions>,
    pub(super) database: Option<&'a DatabaseOptions>,
    /// Longest time to connect.
    pub(super) limit: Duration,
}

impl Measurement<'_> {
    /// Measures one stage after the other, so that none takes from another.
    pub(super) async fn run(&self) -> Result<Measured, CommandError> {
        let run_id: RunId = "doctor".parse().unwrap_or_else(|_| unreachable!("it is a name of a run"));
        let file = GeneratedFile::new()?;
        let sources = Sources::new(&S3Options::default())?;
        let url = SourceUrl::File(file.0.clone());
        let read = measure_reading(&sources, &url, &self.read, &run_id, TIME).await?;
        drop(file);
        let mut stages = vec![Stage::measured(READING, read.rows, read.took, "generated CSV, one loader")];
        stages.push(self.queue(&run_id, read.chunks.first()).await);
        stages.push(self.ml_api().await);
        stages.push(self.copy(&read.chunks).await);
        Ok(Measured::of(stages))
    }

    async fn queue(&self, run_id: &RunId, chunk: Option<&EncodedChunk>) -> Stage {
        let (Some(broker), Some(chunk)) = (self.broker, chunk) else { return Stage::not_measured(QUEUE, UNSET) };
        let message = Message::new(chunk.id.to_string(), Chunk::MESSAGE_TYPE, run_id, chunk.body.clone());
        match assay_queue::measure_round_trip(broker, message, TIME, self.limit).await {
            Ok(trip) => {
                let note = format!("chunks of {} rows, PUBLISH_WINDOW {}", chunk.range.rows, broker.publish_window);
                Stage::measured(QUEUE, trip.messages * chunk.range.rows, trip.took, note)
            }
            Err(error) => Stage::not_measured(QUEUE, error.to_string()),
        }
    }

    /// With more and more requests at a time, up to API_MAX_WORKERS.
    async fn ml_api(&self) -> Stage {
        let Some(api) = self.api else { return Stage::not_measured(ML_API, UNSET) };
        let (mut best, mut steps) = (0, Vec::new());
        for workers in workers_up_to(api.api_max_workers) {
            match scored_per_second(api, workers, self.read.api_batch_size.get() as usize).await {
                Ok(0) => return Stage::not_measured(ML_API, "no made-up transaction was scored"),
                Ok(rate) => {
                    steps.push(format!("{workers}: {}", grouped(rate)));
                    best = best.max(rate);
                }
                Err(error) => return Stage::not_measured(ML_API, error.to_string()),
            }
        }
        let note =
            format!("{} rows a request; rows/s by requests at a time: {}", self.read.api_batch_size, steps.join(", "));
        Stage { name: ML_API, rows_per_second: Some(best), note }
    }

    async fn copy(&self, chunks: &[EncodedChunk]) -> Stage {
        let Some(database) = self.database else { return Stage::not_measured(COPY, UNSET) };
        let scored: Vec<ScoredChunk> = chunks.iter().filter_map(scored).collect();
        match assay_store::measure_copy(database, &scored, TIME, self.limit).await {
            Ok(rate) => Stage::measured(COPY, rate.rows, rate.took, "one writer, tables without log: an upper bound"),
            Err(error) => Stage::not_measured(COPY, error.to_string()),
        }
    }
}

const UNSET: &str = "it is not set, or does not work";

/// 1, 2, 4, … and the most.
fn workers_up_to(most: u16) -> Vec<u16> {
    let mut workers: Vec<u16> = (0..16).map(|power| 1 << power).take_while(|workers| *workers < most).collect();
    workers.push(most);
    workers
}

/// Rows that the ML API scores with so many requests at a time, each sent as soon as one is answered.
async fn scored_per_second(api: &ApiOptions, workers: u16, rows: usize) -> Result<u64, CommandError> {
    let options = ApiOptions { api_max_workers: workers, api_concurrency: ConcurrencyMode::Fixed, ..api.clone() };
    let scorer = Arc::new(Scorer::from_options(&options)?);
    let transactions: Arc<Vec<EncodedTransaction>> =
        Arc::new((0..rows).filter_map(|_| made_up_transaction()).collect());
    let size = NonZeroUsize::new(rows).unwrap_or(NonZeroUsize::MIN);
    let (stop, began) = (CancellationToken::new(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (scorer, transactions, stop) = (Arc::clone(&scorer), Arc::clone(&transactions), stop.clone());
        tasks.spawn(async move {
            let mut rows = 0_u64;
            while began.elapsed() < STEP_TIME {
                // Ends early with the measurement alone: an outage is waited out.
                let Ok(outcomes) = scorer.score(&transactions, size, &stop).await else { break };
                rows += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            }
            rows
        });
    }
    // Requests that are on their way may still end.
    let stopping = stop.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(STEP_TIME + options.api_timeout).await;
        stopping.cancel();
    });
    let mut total = 0;
    while let Some(ended) = tasks.join_next().await {
        total += ended.unwrap_or_default();
    }
    timer.abort();
    Ok(per_second(total, began.elapsed()))
}

/// A chunk as a predictor would pass it on.
fn scored(chunk: &EncodedChunk) -> Option<ScoredChunk> {
    let unscored = UnscoredChunk::decode_within(&chunk.body).ok()?;
    let prediction = Prediction {
        prediction: "legitimate".into(),
        fraud_score: Some(0.125),
        model_version: Some("doctor".into()),
        ..Prediction::default()
    };
    let outcomes = unscored.to_score().iter().map(|_| Ok(prediction.clone())).collect();
    ChunkScores::new(&unscored, Lane::Batch, Utc::now().into(), outcomes).with_chunk(&chunk.body).ok()
}

/// Generated rows in a file for this process, removed with it.
struct GeneratedFile(PathBuf);

impl GeneratedFile {
    fn new() -> Result<Self, CommandError> {
        let path = std::env::temp_dir().join(format!("assay-doctor-{}.csv", assay_connect::random_suffix()));
        let failed = |error| CommandError::Output { path: path.display().to_string(), error };
        let out = std::fs::File::create_new(&path).map_err(failed)?;
        let file = Self(path);
        assay_generator::generate(&GenerateOptions { rows: ROWS, ..GenerateOptions::default() }, out, None)?;
        Ok(file)
    }
}

impl Drop for GeneratedFile {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Measured {
    /// With the lowest ceiling as the bottleneck.
    fn of(stages: Vec<Stage>) -> Self {
        let measured = stages.iter().filter_map(|stage| Some((stage.rows_per_second?, stage.name)));
        let bottleneck = if stages.iter().filter(|stage| stage.rows_per_second.is_some()).count() > 1 {
            measured.min().map(|(_, stage)| stage)
        } else {
            None
        };
        Self { bottleneck, remedy: bottleneck.map(remedy), stages }
    }
}

fn remedy(stage: &str) -> &'static str {
    match stage {
        READING => "start more loaders, each with a source of its own, or raise MAX_LOADS: a loader uses one core",
        QUEUE => "raise PUBLISH_WINDOW or CHUNK_ROWS; give RabbitMQ faster disks",
        ML_API => {
            "if the rate still rises with the requests at a time, raise API_MAX_WORKERS or start more predictors; else raise \
             API_BATCH_SIZE, or give the ML API more processors"
        }
        _ => "raise DB_ROW_BATCH_SIZE, start another writer, or give PostgreSQL what docs/scaling.md says",
    }
}

impl Display for Measured {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["stage", ">rows/s", "how"]);
        for Stage { name, rows_per_second, note } in &self.stages {
            let rate = rows_per_second.map_or_else(|| "-".to_owned(), grouped);
            table.add([(*name).to_owned(), rate, note.clone()]);
        }
        write!(out, "{table}")?;
        if let (Some(bottleneck), Some(remedy)) = (self.bottleneck, self.remedy) {
            writeln!(out, "bottleneck: {bottleneck}; to do: {remedy}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ceiling_is_the_bottleneck() {
        let stage = |name, rows| Stage { name, rows_per_second: rows, note: String::new() };
        let measured = Measured::of(vec![stage(READING, Some(900)), stage(QUEUE, None), stage(ML_API, Some(80))]);
        assert_eq!(measured.bottleneck, Some(ML_API));
        assert!(measured.remedy.is_some_and(|remedy| remedy.contains("API_MAX_WORKERS")));
        let text = measured.to_string();
        assert!(text.contains("queue round trip        -") && text.contains("bottleneck: ml_api; to do: if"), "{text}");
        let shape = serde_json::to_value(&measured).unwrap();
        assert_eq!(shape["stages"][1], serde_json::json!({"name": QUEUE, "rows_per_second": null, "note": ""}));
        assert!(shape["bottleneck"] == ML_API && shape["remedy"].is_string(), "{shape}");
        // Of one stage alone, nothing is the lowest.
        assert_eq!(Measured::of(vec![stage(READING, Some(900)), stage(ML_API, None)]).bottleneck, None);
    }

    #[test]
    fn requests_at_a_time_are_doubled() {
        assert_eq!(workers_up_to(1), [1]);
        assert_eq!(workers_up_to(5), [1, 2, 4, 5]);
        assert_eq!(workers_up_to(8), [1, 2, 4, 8]);
    }

    #[test]
    fn the_generated_file_is_removed() {
        let file = GeneratedFile::new().unwrap();
        let path = file.0.clone();
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }
}
