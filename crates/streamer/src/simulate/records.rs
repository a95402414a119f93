//! Transactions of a simulation: generated with new ids each time, or the rows of a file.

use std::collections::VecDeque;
use std::path::Path;

use assay_generator::{Generated, Transactions};
use assay_source::{RowReader, S3Options, SourceUrl, Sources};
use assay_transaction::{Entry, IdOccurrences, LiveRules, Namespace, Rules, RunSettings};
use chrono::{NaiveDateTime, TimeDelta, Utc};
use serde::Serialize;
use tracing::warn;

use crate::{SimulateOptions, StreamError};

/// Rows of a file that are read together.
const ROWS: usize = 1_000;
/// Invalid rows that are logged.
const SHOWN: u64 = 10;

pub(super) struct Records {
    source: RecordSource,
    left: Option<u64>,
}

enum RecordSource {
    Generator(Box<(Transactions, LiveRules)>),
    File(Box<FileRows>),
}

struct FileRows {
    reader: RowReader,
    rules: Rules,
    occurrences: IdOccurrences,
    read: VecDeque<Entry>,
    invalid: u64,
}

impl Records {
    pub(super) async fn open(options: &SimulateOptions, settings: &RunSettings) -> Result<Self, StreamError> {
        let source = match &options.file {
            Some(path) => RecordSource::File(Box::new(FileRows::open(path, options, settings).await?)),
            // A random seed, so that ids are new each time.
            None => {
                RecordSource::Generator(Box::new((Transactions::new(rand::random(), true), LiveRules::new(settings)?)))
            }
        };
        Ok(Self { source, left: options.transactions })
    }

    /// The transactions of the next message; empty at the end. Not safe to cancel.
    pub(super) async fn next(&mut self, size: usize) -> Result<Vec<Entry>, StreamError> {
        let size = self.left.map_or(size, |left| size.min(usize::try_from(left).unwrap_or(size)));
        let mut entries = match &mut self.source {
            RecordSource::Generator(generator) => {
                let (transactions, rules) = &mut **generator;
                let made = (1..).zip(transactions.take(size)).map(|(row, made)| entry(rules, row, &made));
                made.collect::<Result<Vec<_>, _>>()?
            }
            RecordSource::File(rows) => rows.next(size).await?,
        };
        for (row, entry) in (1..).zip(&mut entries) {
            entry.row = row;
        }
        self.left = self.left.map(|left| left - entries.len() as u64);
        Ok(entries)
    }

    /// Invalid rows so far.
    pub(super) fn invalid(&self) -> u64 {
        match &self.source {
            RecordSource::Generator(_) => 0,
            RecordSource::File(rows) => rows.invalid,
        }
    }
}

impl FileRows {
    async fn open(path: &Path, options: &SimulateOptions, settings: &RunSettings) -> Result<Self, StreamError> {
        let sources = Sources::new(&S3Options::default())?;
        let url = SourceUrl::File(path.to_owned());
        let found = sources.identify(&url).await?;
        let layout = sources.inspect(&url, &found, &options.format).await?.layout;
        let start = layout.start;
        let mut settings = layout.freeze(settings.clone());
        let is_named = options.read.id_namespace.as_deref().is_some_and(|name| !name.is_empty());
        if let Some(mapped) = settings.mapping.as_ref().and_then(|mapping| mapping.namespace()).filter(|_| !is_named) {
            settings.namespace = Namespace::new(mapped);
        }
        let rules = Rules::of_run(&settings)?;
        let reader = sources.rows(&url, &found, &settings, start).await?;
        Ok(Self { reader, rules, occurrences: IdOccurrences::default(), read: VecDeque::new(), invalid: 0 })
    }

    async fn next(&mut self, size: usize) -> Result<Vec<Entry>, StreamError> {
        while self.read.len() < size {
            let Some(rows) = self.reader.next_batch(ROWS).await? else { break };
            for row in rows.rows() {
                let judged = if let Some(rejection) = row.rejection() {
                    Err(rejection)
                } else {
                    let nth = self.occurrences.nth(&self.rules, row.number, &row.fields)?;
                    self.rules.check_nth(row.number, nth, &row.fields, row.raw_bytes)
                };
                match judged {
                    Ok(valid) => self.read.push_back(Entry::new(row.number, &valid)?),
                    Err(rejection) => {
                        self.invalid += 1;
                        if self.invalid <= SHOWN {
                            // Without the message, which quotes the row.
                            warn!("row {} is not sent, as it is invalid: {}", row.number, rejection.reason);
                        }
                    }
                }
            }
        }
        Ok(self.read.drain(..size.min(self.read.len())).collect())
    }
}

/// A generated transaction as a client would send it.
#[derive(Serialize)]
struct TransactionJson<'a> {
    id: &'a str,
    description: &'a str,
    amount: String,
    timestamp: String,
    merchant: Option<&'a str>,
    operation_type: &'a str,
    side: &'a str,
    country: &'a str,
    currency: &'a str,
    channel: &'a str,
}

fn entry(rules: &LiveRules, row: u64, made: &Generated) -> Result<Entry, StreamError> {
    let (sign, cents) = (if made.amount_cents < 0 { "-" } else { "" }, made.amount_cents.unsigned_abs());
    let plain = TransactionJson {
        id: &made.id,
        description: &made.description,
        amount: format!("{sign}{}.{:02}", cents / 100, cents % 100),
        timestamp: recent(made.timestamp, Utc::now().naive_utc()).format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        merchant: made.merchant,
        operation_type: made.operation_type,
        side: made.side,
        country: made.country,
        currency: made.currency,
        channel: made.channel,
    };
    let json = serde_json::to_vec(&plain).map_err(|error| unsound(&error))?;
    rules.judge(row, &json)?.map_err(|rejected| unsound(&rejected.message))
}

/// The same time of day within the last 24 hours, as fraud depends on the hour.
fn recent(at: NaiveDateTime, now: NaiveDateTime) -> NaiveDateTime {
    let today = now.date().and_time(at.time());
    if today <= now { today } else { today - TimeDelta::days(1) }
}

fn unsound(problem: &dyn std::fmt::Display) -> StreamError {
    StreamError::Setting(format!("a generated transaction cannot be sent: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use assay_transaction::{IdScheme, Producer};
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: SimulateOptions,
    }

    async fn open(arguments: &[&str]) -> Result<Records, StreamError> {
        let options = Program::parse_from(["program"].iter().chain(arguments)).options;
        let producer: Producer = "simulator".parse().unwrap();
        Records::open(&options, &options.read.settings(&producer, IdScheme::V8)).await
    }

    #[tokio::test]
    async fn generated_transactions_are_valid_recent_and_new_each_time() {
        let (mut ids, now) = (HashSet::new(), Utc::now());
        for _ in 0..2 {
            let mut records = open(&["--transactions", "250"]).await.unwrap();
            for expected in [100, 100, 50, 0] {
                let entries = records.next(100).await.unwrap();
                assert_eq!(entries.len(), expected);
                assert!(entries.iter().map(|entry| entry.row).eq(1..=expected as u64));
                for entry in entries {
                    let made = entry.transaction.decode().unwrap();
                    let age = now - made.timestamp.as_datetime();
                    assert!(age > -TimeDelta::minutes(1) && age <= TimeDelta::days(1), "{age}");
                    assert!(ids.insert(made.id) && made.attributes.len() == 3);
                }
            }
        }
    }

    #[tokio::test]
    async fn the_valid_rows_of_a_file_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        let head = "id;description;amount;timestamp;operation_type;side\n";
        let good = |id: u32| format!("{id};Coffee;-2,50;2026-01-11 10:00:00;payment;debit\n");
        let csv = format!("{head}{}{};;;;;\n{}", good(1), good(2), good(3));
        let json = r#"{"id":"1","description":"a","amount":1,"timestamp":"2026-01-11T10:00:00Z","operation_type":"x","side":"y"}"#;
        for (name, content, sizes, invalid) in
            [("a.csv", csv, [2, 1, 0], 1), ("a.jsonl", format!("{json}\n"), [1, 0, 0], 0)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let mut records = open(&[path.to_str().unwrap()]).await.unwrap();
            for size in sizes {
                assert_eq!(records.next(2).await.unwrap().len(), size, "{name}");
            }
            assert_eq!(records.invalid(), invalid, "{name}");
        }
        let error = open(&["/nowhere/a.csv"]).await.err().unwrap();
        assert_eq!(assay_telemetry::Failure::exit(&error), assay_transaction::Exit::SourceUnreadable);
    }
}
