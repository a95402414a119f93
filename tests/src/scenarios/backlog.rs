//! A file far larger than the queues, without predictors: the broker's queue stays within its bound, the loader waits
//! in constant memory, and resumes by itself once there are predictors.

use std::fmt;
use std::time::{Duration, Instant};

use assay_transaction::Tally;
use tokio::time::{interval, timeout};

use super::generated;
use crate::{DEADLINE, Program, Queue, Running, Script, Stack, law};

/// Rows of a chunk.
const CHUNK_ROWS: u64 = 100;
/// Between two looks at the queue and at the loader's memory.
const LOOK: Duration = Duration::from_millis(100);
/// How many looks in a row must show the same before the loader is taken to wait: what it had begun when the queue was full
/// still comes.
const LOOKS: u32 = 20;
/// How much the memory of a loader that waits may go up and down.
const SLACK_KIB: u64 = 1024;

/// How large, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// Rows of the file.
    pub rows: u64,
    /// How long the queue is full before the predictors come.
    pub waits: Duration,
    /// `QUEUE_MAX_LENGTH`
    pub queue_max_length: u32,
    /// `PUBLISH_WINDOW`
    pub publish_window: u32,
}

impl Default for Backlog {
    fn default() -> Self {
        // The lengths are those that the programs have by default.
        Self { rows: 1_000_000, waits: Duration::from_mins(1), queue_max_length: 2_000, publish_window: 64 }
    }
}

/// The least and the most of what was seen.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: u64,
    most: u64,
}

/// What was seen.
#[derive(Debug)]
pub struct Figures {
    played: Backlog,
    /// How many messages were in the queue at most.
    depth: u32,
    until_full: Duration,
    /// The loader's memory, in KiB: while it waited, and from then on to its end.
    waiting: Range,
    working: Range,
    /// From the predictors' start to the end of the run.
    rest: Duration,
}

/// Plays it.
pub async fn backlog(played: Backlog) -> Figures {
    assert!(played.rows > CHUNK_ROWS * u64::from(played.bound()), "the queue cannot hold {} rows", played.rows);
    let file = generated::transactions(played.rows, 1).await;
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "backlog.csv", file);
    let size = |program: Program| {
        program
            .env("QUEUE_MAX_LENGTH", played.queue_max_length.to_string())
            .env("PUBLISH_WINDOW", played.publish_window.to_string())
    };
    let began = Instant::now();
    let chunk_rows = CHUNK_ROWS.to_string();
    let mut loader =
        size(stack.loader(&object)).env("CHUNK_ROWS", chunk_rows).arg("--wait").env("WAIT_TIMEOUT", "1h").start();
    loader.says("Pipeline Run ID").await;
    let mut watch = Watch { queue: stack.broker.look_at("transactions.batch").await, bound: played.bound(), depth: 0 };
    let full = watch.until(&loader, |depth| depth >= played.queue_max_length);
    timeout(DEADLINE, full).await.expect("the queue fills");
    let until_full = began.elapsed();
    // For this it has opened another connection by then, once.
    loader.says("no consumer on transactions.batch").await;
    let (mut before, mut same) = (None, 0);
    let settled = watch.until(&loader, |depth| {
        let now = Some((depth, loader.resident_kib()));
        same = if before == now { same + 1 } else { 0 };
        before = now;
        same >= LOOKS
    });
    timeout(DEADLINE, settled).await.expect("the loader comes to rest");
    let over = Instant::now() + played.waits;
    let waiting = watch.until(&loader, |_| Instant::now() >= over).await;
    assert!(loader.is_running(), "the loader waits");
    assert_eq!(stack.database.count("SELECT count(*) FROM runs WHERE state = 'loading'").await, 1);
    assert!(waiting.most - waiting.least <= SLACK_KIB, "memory of a loader that waits: {waiting}");

    let back = Instant::now();
    let _stages = [stack.predictor(), stack.predictor(), stack.writer()].map(|stage| size(stage).start());
    let time_limit = DEADLINE + Duration::from_millis(played.rows);
    let working = timeout(time_limit, watch.until(&loader, |_| !loader.is_running())).await.expect("the run ends");
    let ended = loader.end().await;
    let rest = back.elapsed();
    ended
        .expect_exit(0)
        .expect_silent_about(" - ERROR - ")
        .expect_says(&format!("Pipeline complete: {} processed, 0 failed, 0 invalid", played.rows));
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: played.rows, ..Tally::default() });
    Figures { played, depth: watch.depth, until_full, waiting, working, rest }
}

impl Backlog {
    /// What the queue may hold at most: those that are on their way when it is full are taken as well.
    fn bound(&self) -> u32 {
        self.queue_max_length + self.publish_window
    }
}

/// Looks at the queue and at the loader.
struct Watch {
    queue: Queue,
    bound: u32,
    /// How deep the queue was at most.
    depth: u32,
}

impl Watch {
    /// Looks again and again, until it is so for the depth of the queue; tells the loader's memory meanwhile.
    async fn until(&mut self, loader: &Running, mut is_so: impl FnMut(u32) -> bool) -> Range {
        let mut looks = interval(LOOK);
        let mut memory = Range { least: u64::MAX, most: 0 };
        loop {
            looks.tick().await;
            let depth = self.queue.depth().await;
            assert!(depth <= self.bound, "{depth} messages in a queue that takes {}", self.bound);
            self.depth = self.depth.max(depth);
            if let Some(kib) = loader.resident_kib() {
                memory = Range { least: memory.least.min(kib), most: memory.most.max(kib) };
            }
            if is_so(depth) {
                return memory;
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {} KiB", self.least, self.most)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backlog { rows, waits, queue_max_length, publish_window } = self.played;
        writeln!(formatter, "backlog: {rows} rows, and no predictor for {:.0} s", waits.as_secs_f64())?;
        writeln!(
            formatter,
            "  transactions.batch: at most {} messages; bound: {queue_max_length} and {publish_window} on their way",
            self.depth
        )?;
        writeln!(formatter, "  full after {:.1} s", self.until_full.as_secs_f64())?;
        writeln!(formatter, "  the loader's memory while it waits: {}", self.waiting)?;
        writeln!(formatter, "  and from then on to the end: {}", self.working)?;
        write!(
            formatter,
            "  done {:.1} s after the predictors' start: {rows} predicted, 0 failed; the law holds",
            self.rest.as_secs_f64()
        )
    }
}
