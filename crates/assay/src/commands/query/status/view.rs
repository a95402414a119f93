//! The status of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use assay_store::{DeadLetterOutcome, DeadLetterRecord, OperationRecord, PredictionCount, ReplayCounts, Tombstones};
use assay_transaction::{RunId, StopOrder, Tally, Timestamp};
use serde::Serialize;

use super::rows_selected;
use crate::output::{
    FieldList, Table, Tone, counted, grouped, human_duration, list_counts, moment, one_line, seconds_between, toned,
    unmasked_line,
};
use assay_report::{
    ControlTotals, LiveCounts, Models, QueueSnapshot, ReadProgress, ShownState, StoreProgress, TimeLeft,
    show_tombstones,
};

/// Longest text from outside that is shown.
const TEXT: usize = 300;

/// The status of a run.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) run_id: RunId,
    pub(super) state: ShownState,
    pub(super) is_finished: bool,
    pub(super) source: String,
    pub(super) version: String,
    pub(super) source_bytes: Option<u64>,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) error: Option<String>,
    pub(super) stop: Option<StopOrder>,
    pub(super) read: ReadProgress,
    pub(super) stored: StoreProgress,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_totals: Option<ControlTotals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<LiveCounts>,
    /// Of the last minute; none for a finished run.
    pub(super) rows_per_second: Option<u64>,
    pub(super) left: Option<TimeLeft>,
    /// The obstacles, one a line.
    pub(super) in_the_way: Vec<String>,
    pub(super) outcome: OutcomeCounts,
    pub(super) models: Models,
    /// Rows that were purged or erased.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tombstones: Vec<Tombstones>,
    pub(super) replays: Vec<ReplayProgress>,
    pub(super) dead_letters: DeadLetterCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queues: Option<QueueSnapshot>,
}

/// Outcomes of the rows so far.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OutcomeCounts {
    #[serde(flatten)]
    pub(super) tally: Tally,
    #[serde(serialize_with = "as_map")]
    pub(super) invalid_by_reason: Vec<(String, u64)>,
    #[serde(serialize_with = "as_map")]
    pub(super) failed_by_class: Vec<(String, u64)>,
    pub(super) predictions: Vec<PredictionCount>,
    /// Age of the predictions by label, if they are older than the rest, as counting them is slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels_seconds_old: Option<u64>,
}

fn as_map<S: serde::Serializer>(counts: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(name, count)| (name, count)))
}

/// A replay of the run.
#[derive(Debug, Serialize)]
pub(super) struct ReplayProgress {
    replay: u64,
    began_at: Timestamp,
    operator: String,
    /// Rows that were selected at its start.
    rows_selected: Option<u64>,
    parts_recorded: u64,
    stored: u64,
    failed: u64,
    gone: u64,
}

impl ReplayProgress {
    pub(super) fn new(replay: u64, operation: &OperationRecord, parts_recorded: u64, exchanged: ReplayCounts) -> Self {
        let ReplayCounts { stored, failed, gone, is_new: _ } = exchanged;
        Self {
            replay,
            began_at: operation.done_at,
            operator: operation.operator.clone(),
            rows_selected: rows_selected(operation),
            parts_recorded,
            stored,
            failed,
            gone,
        }
    }
}

/// The dead letters of the run by outcome.
#[derive(Debug, Default, Serialize)]
pub(super) struct DeadLetterCounts {
    #[serde(flatten)]
    by_outcome: BTreeMap<&'static str, u64>,
    /// Those that keep the run from being complete.
    blocking: u64,
}

impl DeadLetterCounts {
    pub(super) fn new(letters: &[DeadLetterRecord], blocking: u64) -> Self {
        let mut by_outcome = BTreeMap::new();
        for record in letters {
            *by_outcome.entry(outcome_name(record.letter.outcome)).or_default() += 1;
        }
        Self { by_outcome, blocking }
    }
}

/// The outcome of a dead letter, as it is stored and shown.
pub(in crate::commands) fn outcome_name(outcome: DeadLetterOutcome) -> &'static str {
    match outcome {
        DeadLetterOutcome::Booked => "booked",
        DeadLetterOutcome::Known => "known",
        DeadLetterOutcome::Unreadable => "unreadable",
        DeadLetterOutcome::Refused => "refused",
    }
}

impl Status {
    /// Source and times.
    fn head(&self) -> FieldList {
        let mut fields = FieldList::default();
        fields.add("source", one_line(&self.source, TEXT));
        let bytes = self.source_bytes.map(|bytes| format!(", {}", counted(bytes, "byte", "bytes"))).unwrap_or_default();
        fields.add("version", format!("{}{bytes}", unmasked_line(&self.version, TEXT)));
        fields.add("began", format!("{} UTC", moment(self.started_at)));
        if let Some(end) = self.finished_at {
            let took = human_duration(seconds_between(self.started_at, end));
            fields.add("finished", format!("{} UTC, after {took}", moment(end)));
        }
        if let Some(stop) = &self.stop {
            let order = format!("{} at {} UTC: {}", stop.kind.as_str(), moment(stop.at), one_line(&stop.reason, TEXT));
            fields.add("stop order", order);
        }
        // The error of a stopped run repeats the reason of the order.
        let is_repeated = self.stop.as_ref().is_some_and(|stop| self.error.as_deref() == Some(&stop.reason));
        fields.add_some("error", self.error.as_deref().filter(|_| !is_repeated).map(|error| one_line(error, TEXT)));
        fields
    }

    /// Progress of each stage.
    fn stages(&self) -> FieldList {
        let mut fields = FieldList::default();
        let percent = self.read.percent.map(|percent| format!(", {percent} % of the source")).unwrap_or_default();
        fields.add("read", format!("{}{percent}", counted(self.read.rows, "row", "rows")));
        let chunks = match self.stored.chunks_total {
            Some(total) => format!("{} of {} chunks", grouped(self.stored.chunks), grouped(total)),
            None => counted(self.stored.chunks, "chunk", "chunks"),
        };
        fields.add("stored", format!("{}, {chunks}", counted(self.stored.rows, "row", "rows")));
        fields.add_some("control totals", self.control_totals.as_ref().map(ToString::to_string));
        fields.add_some("live rows", self.live.as_ref().map(ToString::to_string));
        if let Some(rate) = self.rows_per_second {
            fields.add("rate", format!("{} a second, over the last minute", counted(rate, "row", "rows")));
            let left = match self.left {
                Some(TimeLeft { seconds, is_estimated: true }) => format!("about {}", human_duration(seconds)),
                Some(TimeLeft { seconds, is_estimated: false }) => human_duration(seconds),
                None => "not known".to_owned(),
            };
            fields.add("time left", left);
        }
        fields
    }

    /// Outcomes of the rows.
    fn outcomes(&self) -> FieldList {
        let mut fields = FieldList::default();
        let Tally { predicted, invalid, failed, duplicate } = self.outcome.tally;
        let predictions: Vec<_> =
            self.outcome.predictions.iter().map(|count| (count.prediction.clone(), count.count)).collect();
        let age = match self.outcome.labels_seconds_old {
            Some(seconds) if !predictions.is_empty() => format!(" (as of {} ago)", human_duration(seconds)),
            _ => String::new(),
        };
        let counts = [
            ("predicted", predicted, format!("{}{age}", list_counts(&predictions))),
            ("invalid", invalid, list_counts(&self.outcome.invalid_by_reason)),
            ("failed", failed, list_counts(&self.outcome.failed_by_class)),
            ("duplicate", duplicate, String::new()),
        ];
        let width = counts.iter().map(|(_, count, _)| grouped(*count).len()).max().unwrap_or_default();
        for (name, count, detail) in counts {
            fields.add(name, format!("{:>width$}  {detail}", grouped(count)).trim_end());
        }
        show_tombstones(&self.tombstones, &mut fields);
        fields
    }

    fn replay_table(&self) -> Table {
        let mut table = Table::new([">replay", "began (UTC)", ">selected", ">stored", ">failed again", ">gone", "by"]);
        for replay in &self.replays {
            table.add([
                replay.replay.to_string(),
                moment(replay.began_at),
                replay.rows_selected.map(grouped).unwrap_or_default(),
                grouped(replay.stored),
                grouped(replay.failed),
                grouped(replay.gone),
                one_line(&replay.operator, 40),
            ]);
        }
        table
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "run {}: {}", self.run_id, toned(self.state.tone(), self.state.as_str()))?;
        write!(out, "{}\n{}\n", self.head(), self.stages())?;
        if !self.in_the_way.is_empty() {
            writeln!(out, "{}", toned(Tone::Bad, "in the way:"))?;
            for line in &self.in_the_way {
                writeln!(out, "  {line}")?;
            }
            writeln!(out)?;
        }
        write!(out, "{}", self.outcomes())?;
        if !self.models.is_empty() {
            write!(out, "\n{}", self.models)?;
        }
        if !self.replays.is_empty() {
            write!(out, "\n{}", self.replay_table())?;
        }
        if !self.dead_letters.by_outcome.is_empty() {
            let counts: Vec<_> =
                self.dead_letters.by_outcome.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
            writeln!(out, "\ndead letters: {}", list_counts(&counts))?;
        }
        match &self.queues {
            Some(queues) => write!(out, "\n{queues}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::QueueDepth;
    use assay_report::fixture::at;
    use assay_transaction::StopKind;

    fn loading() -> Status {
        Status {
            run_id: "nightly".parse().unwrap(),
            state: ShownState::Loading,
            is_finished: false,
            source: "s3://transactions/2026.csv".into(),
            version: "\"etag\"".into(),
            source_bytes: Some(123_456_789),
            started_at: at("10:00:00"),
            finished_at: None,
            error: None,
            stop: None,
            read: ReadProgress { rows: 500_000, percent: Some(52) },
            stored: StoreProgress { rows: 480_000, chunks: 4_800, chunks_total: None },
            live: None,
            control_totals: None,
            rows_per_second: Some(12_345),
            left: Some(TimeLeft { seconds: 38, is_estimated: true }),
            in_the_way: Vec::new(),
            outcome: OutcomeCounts {
                tally: Tally { predicted: 479_000, invalid: 900, failed: 3, duplicate: 97 },
                invalid_by_reason: vec![("amount_scale".into(), 600), ("id_empty".into(), 300)],
                failed_by_class: vec![("rejected".into(), 3)],
                predictions: vec![PredictionCount { prediction: "fraud".into(), count: 479_000, mean_score: None }],
                labels_seconds_old: None,
            },
            models: Models::default(),
            tombstones: Vec::new(),
            replays: Vec::new(),
            dead_letters: DeadLetterCounts::default(),
            queues: Some(QueueSnapshot::Known(vec![QueueDepth {
                queue: "transactions.batch".into(),
                waiting: 1_200,
                consumers: 2,
            }])),
        }
    }

    #[test]
    fn an_unfinished_run() {
        assert_eq!(
            loading().to_string(),
            "\
run nightly: loading
  source   s3://transactions/2026.csv
  version  \"etag\", 123,456,789 bytes
  began    2026-01-11 10:00:00 UTC

  read       500,000 rows, 52 % of the source
  stored     480,000 rows, 4,800 chunks
  rate       12,345 rows a second, over the last minute
  time left  about 38 s

  predicted  479,000  fraud 479,000
  invalid        900  amount_scale 600, id_empty 300
  failed           3  rejected 3
  duplicate       97

queue (all runs)    waiting  consumers
transactions.batch    1,200          2
"
        );
    }

    #[test]
    fn a_stalled_and_a_cancelled_run() {
        let stalled = Status {
            state: ShownState::Stalled,
            stored: StoreProgress { chunks_total: Some(5_000), ..loading().stored },
            left: None,
            in_the_way: vec!["no writer consumes".into()],
            dead_letters: DeadLetterCounts { by_outcome: [("booked", 2), ("unreadable", 1)].into(), blocking: 1 },
            queues: Some(QueueSnapshot::Unknown { error: "RabbitMQ is unreachable".into() }),
            ..loading()
        };
        let text = stalled.to_string();
        for words in [
            "run nightly: stalled\n",
            "  stored     480,000 rows, 4,800 of 5,000 chunks\n",
            "  time left  not known\n",
            "\ndead letters: booked 2, unreadable 1\n",
            "not known\n\nin the way:\n  no writer consumes\n\n  predicted",
            "\nqueues: not known: RabbitMQ is unreachable\n",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let stop = StopOrder { kind: StopKind::Cancelled, reason: "wrong file".into(), at: at("10:01:00") };
        let cancelled = Status {
            state: ShownState::Cancelled,
            is_finished: true,
            finished_at: Some(at("10:02:00")),
            error: Some("wrong file".into()),
            stop: Some(stop),
            rows_per_second: None,
            queues: None,
            ..loading()
        };
        let text = cancelled.to_string();
        assert!(text.contains("  finished    2026-01-11 10:02:00 UTC, after 2 min 0 s\n"), "{text}");
        assert!(text.contains("  stop order  cancelled at 2026-01-11 10:01:00 UTC: wrong file\n\n"), "{text}");
        assert!(!text.contains("rate") && !text.contains("error"), "{text}");
    }

    #[test]
    fn old_labels_show_their_age() {
        let outcome = OutcomeCounts { labels_seconds_old: Some(40), ..loading().outcome };
        let text = Status { outcome, ..loading() }.to_string();
        assert!(text.contains("  predicted  479,000  fraud 479,000 (as of 40 s ago)\n"), "{text}");
    }

    #[test]
    fn replays_are_list_counts() {
        let operation = OperationRecord {
            id: 7,
            operator: "ada".into(),
            action: "replay".into(),
            run_id: None,
            reason: None,
            details: Some(serde_json::json!({ "rows_selected": 70 })),
            done_at: at("11:00:00"),
        };
        let exchanged = ReplayCounts { is_new: false, stored: 60, failed: 8, gone: 2 };
        let status =
            Status { replays: vec![ReplayProgress::new(1, &operation, 1, exchanged)], queues: None, ..loading() };
        assert!(
            status.to_string().ends_with(
                "
replay  began (UTC)          selected  stored  failed again  gone  by
     1  2026-01-11 11:00:00        70      60             8     2  ada
"
            ),
            "{status}"
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["replays"][0]["stored"], 60);
        assert_eq!(
            (&json["outcome"]["failed_by_class"]["rejected"], &json["outcome"]["predicted"]),
            (&3.into(), &479_000.into())
        );
    }

    #[test]
    fn its_json_is_pinned() {
        let operation = OperationRecord {
            id: 12,
            operator: "ada".into(),
            action: "replay".into(),
            run_id: None,
            reason: None,
            details: Some(serde_json::json!({ "rows_selected": 70 })),
            done_at: at("11:00:00"),
        };
        let exchanged = ReplayCounts { is_new: false, stored: 60, failed: 8, gone: 2 };
        let status = Status {
            in_the_way: vec!["no writer consumes predictions.batch: start one".into()],
            replays: vec![ReplayProgress::new(1, &operation, 1, exchanged)],
            dead_letters: DeadLetterCounts { by_outcome: [("booked", 2), ("unreadable", 1)].into(), blocking: 1 },
            ..loading()
        };
        crate::output::pin_json("status", &status);
    }
}
