//! A model that breaks in the middle of a run, in one way after the other, for every request: not one row
//! fails for it, and the run continues by itself.

use std::fmt;
use std::time::{Duration, Instant};

use assay_transaction::Tally;
use tokio::time::sleep_until;

use super::generated::{self, DECIMAL_MARK, DELIMITER};
use crate::{DEADLINE, Running, STORED, Script, Stack, assert_same, content, law};

/// How large, and how long.
#[derive(Debug, Clone, Copy)]
pub struct BrokenModel {
    /// Rows of the file.
    pub rows: u64,
    /// How long the model is broken in each way, at least: until the predictors have noticed, too.
    pub each: Duration,
}

impl Default for BrokenModel {
    fn default() -> Self {
        Self { rows: 100_000, each: Duration::from_mins(1) }
    }
}

/// What it took.
#[derive(Debug)]
pub struct Figures {
    played: BrokenModel,
    chunks_before: usize,
    /// What the API did, how long, and how many requests to score it got meanwhile.
    phases: Vec<(&'static str, Duration, usize)>,
    /// From the API's return to the end of the run.
    rest: Duration,
}

/// Plays it.
pub async fn broken_model(played: BrokenModel) -> Figures {
    let file = generated::transactions(played.rows, 1).await;
    let chunks = usize::try_from(played.rows.div_ceil(100)).expect("chunks are counted in memory");
    let chunks_before = chunks / 4;
    let stack = Stack::new(Script::ScoreFirst(chunks_before)).await;
    let object = stack.s3.put("transactions", "broken_model.csv", &file);
    let mut predictors = [stack.predictor().start(), stack.predictor().start()];
    let _writer = stack.writer().start();
    let loader = stack.loader(&object).arg("--wait").env("WAIT_TIMEOUT", "1h").start();
    // From here on requests are kept waiting, whose answer is the first that is wrong.
    stack.ml_api.asked(chunks_before + 1).await;

    let mut phases = Vec::new();
    stack.ml_api.set(Script::Broken(500));
    phases.push(phase("answers 500", "HTTP status 500", &stack, &mut predictors, played.each).await);
    stack.ml_api.set(Script::Broken(422));
    phases.push(phase("answers 422", "HTTP status 422", &stack, &mut predictors, played.each).await);
    stack.ml_api.stop().await;
    phases.push(phase("refuses connections", "connection refused", &stack, &mut predictors, played.each).await);
    assert!(loader.is_running(), "the loader waits");
    stack.ml_api.set(Script::Score);
    stack.ml_api.start_again();

    let back = Instant::now();
    let ended = loader.end_within(2 * DEADLINE).await;
    let rest = back.elapsed();
    ended.expect_exit(0).expect_says(&format!("Pipeline complete: {} processed, 0 failed, 0 invalid", played.rows));
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: played.rows, ..Tally::default() });
    assert_same(&stack.database.texts(STORED).await, &content(&file, DELIMITER, DECIMAL_MARK));
    Figures { played, chunks_before, phases, rest }
}

/// Lasts until the time is over and every predictor has said what is wrong.
async fn phase(
    what: &'static str,
    words: &str,
    stack: &Stack,
    predictors: &mut [Running],
    lasts: Duration,
) -> (&'static str, Duration, usize) {
    let (began, before) = (tokio::time::Instant::now(), stack.ml_api.requests());
    for predictor in predictors {
        predictor.says(words).await;
    }
    // Nothing is waited for here: being broken for some time is what the scenario is about.
    sleep_until(began + lasts).await;
    (what, began.elapsed(), stack.ml_api.requests() - before)
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { played: BrokenModel { rows, .. }, chunks_before, phases, rest } = self;
        writeln!(formatter, "broken-model: {rows} rows; the model breaks after {chunks_before} requests")?;
        for (what, lasted, requests) in phases {
            writeln!(formatter, "  {what} for {:.1} s: {requests} requests to score", lasted.as_secs_f64())?;
        }
        write!(
            formatter,
            "  done {:.1} s after its return: {rows} predicted, 0 failed; the law holds",
            rest.as_secs_f64()
        )
    }
}
