//! The report of `loader --json`: the run of each source, with the keys of `assay run --json`.

use assay_transaction::{RunId, RunState, Tally};
use serde::Serialize;

use crate::{LoadSummary, LoadWarnings, SourceResult};

/// Results of the sources.
#[derive(Debug, Serialize)]
pub struct LoadReport<'a> {
    sources: Vec<ReportedSource<'a>>,
    /// Sources that failed.
    broken: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ReportedSource<'a> {
    Loaded {
        source: &'a str,
        run_id: &'a RunId,
        state: RunState,
        already_loaded: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        same_content_as: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        unused_name: Option<&'a RunId>,
        /// None while they are being read.
        rows_read: Option<u64>,
        /// Present if the load waited.
        #[serde(flatten)]
        tally: Option<Tally>,
        #[serde(flatten)]
        warnings: &'a LoadWarnings,
    },
    Broken {
        source: &'a str,
        error: String,
    },
}

impl<'a> LoadReport<'a> {
    /// The report of one invocation.
    pub fn of(ended: &'a [SourceResult]) -> Self {
        let sources: Vec<_> = ended.iter().map(ReportedSource::of).collect();
        let broken = sources.iter().filter(|line| matches!(line, ReportedSource::Broken { .. })).count();
        Self { sources, broken }
    }
}

impl<'a> ReportedSource<'a> {
    fn of(SourceResult { name, ended }: &'a SourceResult) -> Self {
        let LoadSummary { run, already_loaded, tally, unused_name, copy, warnings, .. } = match ended {
            Ok(ended) => ended,
            Err(error) => return Self::Broken { source: name, error: error.to_string() },
        };
        Self::Loaded {
            source: name,
            run_id: &run.run_id,
            state: run.state,
            already_loaded: *already_loaded,
            same_content_as: copy.as_ref().map(|_| run.source.location.as_str()),
            unused_name: unused_name.as_ref(),
            rows_read: run.sealed.map(|sealed| sealed.rows_read),
            tally: *tally,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadError;
    use assay_transaction::{Checkpoint, RunSettings, SealedTotals, SourceIdentity, Timestamp};
    use chrono::DateTime;

    #[test]
    fn has_a_line_for_each_source() {
        let at = Timestamp::from(DateTime::UNIX_EPOCH);
        let run = assay_transaction::Run {
            run_id: "january".parse().unwrap(),
            source: SourceIdentity { location: "s3://a/b.csv".into(), version: "1".into() },
            state: RunState::Complete,
            settings: RunSettings::example(),
            checkpoint: Checkpoint::START,
            sealed: Some(SealedTotals { rows_read: 12, chunks_total: 1, amount: None }),
            removal: None,
            error: None,
            stop: None,
            source_bytes: None,
            started_at: at,
            finished_at: Some(at),
        };
        let waited = LoadSummary {
            run,
            already_loaded: false,
            tally: Some(Tally { predicted: 12, ..Tally::default() }),
            failed_before: 0,
            unused_name: None,
            copy: None,
            warnings: LoadWarnings::default(),
        };
        let before = LoadSummary {
            already_loaded: true,
            tally: None,
            unused_name: Some("other".parse().unwrap()),
            copy: Some("copy.csv".into()),
            ..waited.clone()
        };
        let ended = [
            SourceResult { name: "s3://a/b.csv".into(), ended: Ok(waited) },
            SourceResult { name: "copy.csv".into(), ended: Ok(before) },
            SourceResult { name: "none.csv".into(), ended: Err(LoadError::StoppedBeforeStart) },
        ];
        assert_eq!(
            serde_json::to_value(LoadReport::of(&ended)).unwrap(),
            serde_json::json!({
                "sources": [
                    { "source": "s3://a/b.csv", "run_id": "january", "state": "complete", "already_loaded": false,
                      "rows_read": 12, "predicted": 12, "invalid": 0, "failed": 0, "duplicate": 0 },
                    { "source": "copy.csv", "run_id": "january", "state": "complete", "already_loaded": true,
                      "same_content_as": "s3://a/b.csv", "unused_name": "other", "rows_read": 12 },
                    { "source": "none.csv", "error": "stopped before anything was loaded" },
                ],
                "broken": 1,
            })
        );
    }
}
