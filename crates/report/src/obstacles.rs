//! What is in the way of a run, judged by database and queues: plain lines, each with what to do. No I/O.

use assay_queue::{QueueKind, Route};
use assay_store::RunOverview;
use assay_transaction::{Lane, Run, RunState};

use crate::blocking_count;
use crate::{QueueDepth, QueueSnapshot};
use crate::{counted, grouped, human_duration, one_line};

/// A run without stored rows for this long has an obstacle. Requests to a slow ML API take nearly as long.
const QUIET_MILLIS: u64 = 30_000;
/// Longest location or error that is shown.
const TEXT: usize = 300;

/// The state of the queues.
#[derive(Debug, Clone, Copy)]
pub struct QueueState<'a> {
    /// None if no broker is set.
    pub queues: Option<&'a QueueSnapshot>,
    /// Length at which a queue is full (`QUEUE_MAX_LENGTH`).
    pub full_at: u64,
}

/// The obstacles of an unfinished run.
pub fn obstacles(overview: &RunOverview, seen: QueueState<'_>) -> Vec<String> {
    let RunOverview { run, held_by, progress, .. } = overview;
    if run.state.is_finished() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let blocking = blocking_count(run, overview.blocking);
    if blocking > 0 {
        found.push(format!(
            "{} the run from being complete: `assay failures {1}` shows why, `assay repair {1}` publishes the rows again",
            counted(blocking, "dead letter keeps", "dead letters keep"),
            run.run_id
        ));
    }
    let is_live = run.source.is_live();
    let has_lost_loader = run.state == RunState::Loading && held_by.is_none() && run.stop.is_none() && !is_live;
    if has_lost_loader {
        let (program, location) = (program(overview), one_line(&run.source.location, TEXT));
        found.push(format!("no loader reads its source: resume with `{program} {location}`"));
    }
    let is_quiet = overview.quiet_millis >= QUIET_MILLIS;
    let is_all_recorded = run.sealed.is_some_and(|sealed| progress.chunks_recorded >= sealed.chunks_total);
    match seen.queues {
        Some(QueueSnapshot::Unknown { error }) => {
            found.push(format!("RabbitMQ is unreachable, so the queues are not known: {}", one_line(error, TEXT)));
        }
        Some(QueueSnapshot::Known(queues)) if !is_all_recorded => {
            let lane = if is_live { Lane::Realtime } else { Lane::Batch };
            let of = |work| {
                let name = Route { kind: work, lane }.to_string();
                queues.iter().find(move |depth| depth.queue == name)
            };
            if let (Some(transactions), Some(scored)) = (of(QueueKind::Transactions), of(QueueKind::Scored)) {
                let quiet = is_quiet && !has_lost_loader && !is_live;
                found.extend(in_the_queues(transactions, scored, seen.full_at, quiet.then_some(overview.quiet_millis)));
            }
        }
        None if is_quiet && !is_all_recorded && !has_lost_loader && !is_live => {
            let quiet = quiet(overview.quiet_millis);
            found.push(if run.settings.durable_broker {
                format!("{quiet}: set AMQP_URL to see the queues too")
            } else {
                format!("{quiet}: see the log of the `assay run` that loads it")
            });
        }
        Some(QueueSnapshot::Known(_)) | None => {}
    }
    found
}

/// The stage that an unfinished run waits for at the moment, by what waits in the queues; none if they are not known. A predictor and a writer take some
/// messages ahead, so a message that waits has found all of them busy.
pub fn slowest_stage(run: &Run, queues: Option<&QueueSnapshot>) -> Option<String> {
    let Some(QueueSnapshot::Known(queues)) = queues else { return None };
    if run.state.is_finished() || run.source.is_live() || !run.settings.durable_broker {
        return None;
    }
    let waiting = |kind| {
        let name = Route { kind, lane: Lane::Batch }.to_string();
        queues.iter().find(|depth| depth.queue == name).map_or(0, |depth| depth.waiting)
    };
    let (transactions, scored) = (waiting(QueueKind::Transactions), waiting(QueueKind::Scored));
    Some(if scored > transactions {
        format!(
            "writing: {} for a writer; the database, or another writer, would make it faster",
            counted(scored, "chunk waits", "chunks wait")
        )
    } else if transactions > 0 {
        format!(
            "scoring: {} for a predictor; more predictors, or a faster ML API, would make it faster",
            counted(transactions, "chunk waits", "chunks wait")
        )
    } else if run.state == RunState::Loading {
        "reading: no chunk waits, so predictors and writers are faster than the loader".to_owned()
    } else {
        return None;
    })
}

/// The program that resumes the run.
fn program(overview: &RunOverview) -> &'static str {
    if overview.run.settings.durable_broker { "loader" } else { "assay run" }
}

fn quiet(millis: u64) -> String {
    format!("nothing was stored for {}", human_duration(millis / 1_000))
}

/// The obstacles in the queues of a lane. `quiet_millis` is the time without stored rows, if it is too long.
fn in_the_queues(
    transactions: &QueueDepth,
    scored: &QueueDepth,
    full_at: u64,
    quiet_millis: Option<u64>,
) -> Vec<String> {
    let mut found = Vec::new();
    let full = |depth: &QueueDepth, who: &str, whom: &str| {
        (depth.waiting >= full_at).then(|| {
            format!("{} is full, with {} messages: {who} waits for {whom}", depth.queue, grouped(depth.waiting))
        })
    };
    if transactions.consumers == 0 {
        found.push(format!(
            "no predictor consumes {}: start one; a running one has paused because its ML API is unreachable, see its log \
             and GET /health/ready",
            transactions.queue
        ));
    }
    if scored.consumers == 0 {
        found.push(format!("no writer consumes {}: start one", scored.queue));
    }
    found.extend(full(transactions, "the loader", "the predictors"));
    found.extend(full(scored, "every predictor", "the writers"));
    if let (Some(millis), true) = (quiet_millis, transactions.consumers > 0 && scored.consumers > 0) {
        let quiet = quiet(millis);
        found.push(if scored.waiting > 0 {
            format!(
                "{quiet}, and {} has {}: the writers wait for the database, such as for disk space; see their log",
                scored.queue,
                counted(scored.waiting, "message", "messages")
            )
        } else {
            format!(
                "{quiet}, though predictors are connected: their ML API is unreachable, slow, or fails every request; see \
                 their log and GET /health/ready"
            )
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::example;
    use assay_store::{RecordedProgress, RunPace};
    use assay_transaction::{RunSettings, SourceIdentity, Tally};

    fn overview(run: Run) -> RunOverview {
        RunOverview {
            run,
            held_by: Some("host/1/2/x".into()),
            progress: RecordedProgress { chunks_recorded: 4, rows_recorded: 400 },
            pace: RunPace::default(),
            quiet_millis: 1_000,
            tally: Tally { predicted: 400, ..Tally::default() },
            invalid: Vec::new(),
            failed: Vec::new(),
            models: Vec::new(),
            predictions: None,
            blocking: 0,
        }
    }

    fn loading() -> RunOverview {
        overview(Run { state: RunState::Loading, sealed: None, finished_at: None, ..example() })
    }

    fn queues(transactions: (u64, u32), scored: (u64, u32)) -> QueueSnapshot {
        let depth = |queue: &str, (waiting, consumers)| QueueDepth { queue: queue.into(), waiting, consumers };
        QueueSnapshot::Known(vec![depth("transactions.batch", transactions), depth("predictions.batch", scored)])
    }

    fn found(overview: &RunOverview, queues: Option<&QueueSnapshot>) -> Vec<String> {
        obstacles(overview, QueueState { queues, full_at: 2_000 })
    }

    #[test]
    fn each_obstacle_is_named_with_what_to_do() {
        let quiet = RunOverview { quiet_millis: 45_000, ..loading() };
        let gone = RunOverview { held_by: None, ..loading() };
        let in_process = RunOverview {
            run: Run { settings: RunSettings { durable_broker: false, ..RunSettings::example() }, ..quiet.run.clone() },
            ..quiet.clone()
        };
        let cases: [(&RunOverview, Option<QueueSnapshot>, &[&str]); 12] = [
            (&loading(), Some(queues((0, 2), (0, 1))), &[]),
            (&loading(), None, &[]),
            (&loading(), Some(queues((7, 0), (0, 1))), &["no predictor consumes transactions.batch: start one"]),
            (&loading(), Some(queues((7, 2), (3, 0))), &["no writer consumes predictions.batch: start one"]),
            (
                &loading(),
                Some(queues((2_000, 2), (2_100, 1))),
                &[
                    "transactions.batch is full, with 2,000 messages: the loader waits",
                    "predictions.batch is full, with 2,100 messages: every predictor waits",
                ],
            ),
            (&quiet, Some(queues((7, 2), (0, 1))), &["nothing was stored for 45 s, though predictors are connected"]),
            (
                &quiet,
                Some(queues((7, 2), (9, 1))),
                &["predictions.batch has 9 messages: the writers wait for the database"],
            ),
            (&quiet, Some(queues((7, 0), (0, 1))), &["no predictor consumes"]),
            (&quiet, None, &["nothing was stored for 45 s: set AMQP_URL"]),
            (&in_process, None, &["nothing was stored for 45 s: see the log of the `assay run`"]),
            (
                &gone,
                Some(queues((0, 2), (0, 1))),
                &["no loader reads its source: resume with `loader s3://transactions/2026.csv`"],
            ),
            (
                &loading(),
                Some(QueueSnapshot::Unknown { error: "cannot reach it".into() }),
                &["the queues are not known: cannot reach it"],
            ),
        ];
        for (overview, queues, expected) in cases {
            let found = found(overview, queues.as_ref());
            assert_eq!(found.len(), expected.len(), "{found:?}, {expected:?}");
            for (line, words) in found.iter().zip(expected) {
                assert!(line.contains(words), "{line}\n{words}");
            }
        }
        let letters = found(&RunOverview { blocking: 1, ..loading() }, None);
        assert!(letters[0].starts_with("1 dead letter keeps the run from being complete: `assay failures batch_"));
    }

    #[test]
    fn the_slowest_stage_is_the_one_that_others_wait_for() {
        let loading = loading().run;
        let sealed = Run { state: RunState::Sealed, ..loading.clone() };
        let in_process = RunSettings { durable_broker: false, ..RunSettings::example() };
        let in_process = Run { settings: in_process, ..loading.clone() };
        for (run, waiting, expected) in [
            (&loading, Some((20, 3)), Some("scoring: 20 chunks wait for a predictor")),
            (&loading, Some((2, 9)), Some("writing: 9 chunks wait for a writer")),
            (&loading, Some((0, 0)), Some("reading: no chunk waits")),
            (&sealed, Some((1, 0)), Some("scoring: 1 chunk waits")),
            (&sealed, Some((0, 0)), None),
            (&loading, None, None),
            (&in_process, Some((5, 0)), None),
            (&example(), Some((5, 0)), None),
        ] {
            let queues = waiting.map(|(transactions, scored)| queues((transactions, 2), (scored, 1)));
            let found = slowest_stage(run, queues.as_ref());
            match expected {
                Some(words) => assert!(found.as_ref().is_some_and(|line| line.starts_with(words)), "{found:?} {words}"),
                None => assert_eq!(found, None),
            }
        }
    }

    #[test]
    fn a_finished_run_and_an_idle_live_run_have_no_obstacles() {
        let finished = overview(example());
        let unattended = queues((0, 0), (0, 0));
        assert!(found(&RunOverview { quiet_millis: 90_000, held_by: None, ..finished }, Some(&unattended)).is_empty());
        let source = SourceIdentity { location: "live:shop".into(), version: "2026-01-11".into() };
        let live =
            RunOverview { run: Run { source, ..loading().run }, held_by: None, quiet_millis: 3_600_000, ..loading() };
        let queues = QueueSnapshot::Known(vec![
            QueueDepth { queue: "transactions.realtime".into(), waiting: 0, consumers: 1 },
            QueueDepth { queue: "predictions.realtime".into(), waiting: 0, consumers: 1 },
        ]);
        assert_eq!(found(&live, Some(&queues)), [""; 0]);
    }
}
