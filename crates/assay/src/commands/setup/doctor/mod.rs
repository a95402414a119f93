//! `assay doctor`: finds out which dependency is broken, and what to do about it.
//!
//! Each crate that connects diagnoses its own service, with the settings, the clients and the messages of the programs; this
//! command asks all of them at the same time, adds this machine (`machine`), and prints one line for each check (`report`).
//! `measure` runs each stage's ceiling. Nothing is left behind anywhere.

mod machine;
mod measure;
mod report;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_connect::{Finding, Role};
use assay_loader::ReadOptions;
use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_source::S3Options;
use assay_store::DatabaseOptions;
use assay_telemetry::LogOptions;
use assay_transaction::{Exit, parse_duration};
use clap::Args;

use self::machine::{MACHINE, Needs};
use self::measure::{Measured, Measurement};
use self::report::DoctorReport;
use super::watch_setup::{BucketPrefix, parse_bucket_prefix};
use crate::error::CommandError;
use crate::local::existing_database;
use crate::output::print;

/// Find out which dependency is broken, and what to do about it
///
/// Checks S3, RabbitMQ, the database, the ML API and this machine, with the settings of the programs, and prints a line for each
/// check: ok, warning, failed, or not checked. What is not set is not checked. Nothing is changed: what is written is rolled
/// back, no message enters a queue of the fleet, and the ML API is sent one transaction that is made up and marked as such.
///
/// Exits 0 if nothing failed, and 1 if something did.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay doctor
  assay doctor s3://transactions/in/ --json
  assay doctor --for predictor      what a predictor needs, and no more
  assay doctor --measure            how fast each stage is, and which one limits the others")]
pub(crate) struct DoctorArguments {
    /// Objects to list: s3://bucket, or s3://bucket/prefix; of a local file, nothing is checked
    #[arg(env = "SOURCE_URL", value_name = "S3_URL", value_parser = parse_place)]
    place: Option<Place>,
    /// Check what one program needs: loader, predictor, writer, streamer, or desk (`assay cancel`, `replay` and `repair`)
    #[arg(long = "for", value_name = "PROGRAM")]
    role: Option<Role>,
    /// Longest time for each step of a check
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Send no transaction to the ML API
    #[arg(long, conflicts_with = "measure")]
    no_probe: bool,
    /// Also run each stage alone for some seconds; sends many made-up transactions to the ML API
    #[arg(long)]
    measure: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Most transactions in one request to the ML API
    #[arg(long, env = "API_BATCH_SIZE", default_value = "100", value_name = "ROWS")]
    api_batch_size: NonZeroU32,
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Where sources are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Bucket(BucketPrefix),
    Elsewhere,
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.starts_with("s3:") { parse_bucket_prefix(text).map(Place::Bucket) } else { Ok(Place::Elsewhere) }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero, such as 5s".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Checks everything, and prints what was found.
pub(crate) async fn doctor(arguments: &DoctorArguments) -> Result<Exit, CommandError> {
    let database = existing_database(&arguments.database).unwrap_or_else(|| arguments.database.clone());
    if !arguments.has_subject(&database) {
        return Err(CommandError::NothingToCheck);
    }
    let report = Box::pin(arguments.check(&database)).await;
    let measured = if arguments.measure { Some(arguments.measure(&report, &database).await?) } else { None };
    let report = report.with(measured);
    print(&report, arguments.json)?;
    Ok(report.exit())
}

/// A line for a dependency that is not looked at.
fn skipped(why: impl Into<String>) -> Vec<Finding> {
    vec![Finding::not_checked("all", why)]
}

impl DoctorArguments {
    fn has_subject(&self, database: &DatabaseOptions) -> bool {
        self.role.is_some()
            || self.broker.is_set()
            || self.api.is_set()
            || database.is_set()
            || matches!(self.place, Some(Place::Bucket(_)))
    }

    async fn check(&self, database: &DatabaseOptions) -> DoctorReport {
        let (s3, broker, stored, api) = tokio::join!(
            Box::pin(self.check_s3()),
            self.check_broker(),
            self.check_database(database),
            self.check_api()
        );
        DoctorReport::new(vec![
            (assay_source::DEPENDENCY, s3),
            (assay_queue::DEPENDENCY, broker),
            (database.dependency(), stored),
            (assay_scoring::DEPENDENCY, api),
            (MACHINE, machine::check(&self.needs(database))),
        ])
    }

    /// Whether the program in question has no use for a dependency.
    fn is_unused(&self, needs: fn(Role) -> bool) -> Option<Vec<Finding>> {
        let role = self.role.filter(|role| !needs(*role))?;
        Some(skipped(format!("the {role} does not use it")))
    }

    async fn check_s3(&self) -> Vec<Finding> {
        if let Some(skipped) = self.is_unused(Role::needs_s3) {
            return skipped;
        }
        match &self.place {
            Some(Place::Bucket(BucketPrefix { bucket, prefix })) => {
                assay_source::diagnose(&self.s3, bucket, prefix, self.timeout).await
            }
            Some(Place::Elsewhere) => skipped("SOURCE_URL is not in S3"),
            None => skipped("no bucket is named: `assay doctor s3://bucket` checks it"),
        }
    }

    async fn check_broker(&self) -> Vec<Finding> {
        if !self.broker.is_set() && self.role.is_none() {
            return skipped("AMQP_URL is not set");
        }
        assay_queue::diagnose(&self.broker, self.role, self.timeout).await
    }

    async fn check_database(&self, database: &DatabaseOptions) -> Vec<Finding> {
        if let Some(skipped) = self.is_unused(Role::needs_database) {
            return skipped;
        }
        if !database.is_set() && self.role.is_none() {
            return skipped("DATABASE_URL is not set");
        }
        assay_store::diagnose(database, self.role, self.timeout).await
    }

    async fn check_api(&self) -> Vec<Finding> {
        if let Some(skipped) = self.is_unused(Role::needs_ml_api) {
            return skipped;
        }
        if !self.api.is_set() && self.role.is_none() {
            return skipped("ML_API_URL is not set");
        }
        assay_scoring::diagnose(&self.api, !self.no_probe, self.timeout).await
    }

    fn needs(&self, database: &DatabaseOptions) -> Needs {
        let connections = u64::from(self.api.api_max_workers) + u64::from(self.database.db_connections);
        let mut folders = vec![(std::env::temp_dir(), "TMPDIR: what comes from pipes")];
        if let Some(file) = database.file() {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned);
            folders.push((folder.unwrap_or_else(|| PathBuf::from(".")), "the database of SQLite"));
        }
        Needs { connections, folders }
    }

    /// Measures what works.
    async fn measure(&self, report: &DoctorReport, database: &DatabaseOptions) -> Result<Measured, CommandError> {
        let read = ReadOptions { api_batch_size: self.api_batch_size, ..ReadOptions::default() };
        let measurement = Measurement {
            read,
            broker: (self.broker.is_set() && report.works(assay_queue::DEPENDENCY)).then_some(&self.broker),
            api: (self.api.is_set() && report.works(assay_scoring::DEPENDENCY)).then_some(&self.api),
            database: (database.is_set() && report.works(database.dependency())).then_some(database),
            limit: self.timeout,
        };
        Box::pin(measurement.run()).await
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        doctor: DoctorArguments,
    }

    fn parse(arguments: &[&str]) -> Result<DoctorArguments, String> {
        let arguments = ["assay"].iter().chain(arguments);
        Program::try_parse_from(arguments).map(|program| program.doctor).map_err(|error| error.to_string())
    }

    #[test]
    fn a_place_is_in_s3_or_is_left_out() {
        let place = |text: &str| parse(&[text]).map(|arguments| arguments.place);
        let bucket = BucketPrefix { bucket: "drops".into(), prefix: "in/".into() };
        assert_eq!(place("s3://drops/in/"), Ok(Some(Place::Bucket(bucket))));
        assert_eq!(place("bank.csv"), Ok(Some(Place::Elsewhere)));
        assert!(place("s3://").unwrap_err().contains("expected s3://bucket"));
    }

    #[test]
    fn impossible_values_are_refused() {
        assert!(parse(&["--for", "cook"]).unwrap_err().contains("loader, predictor, writer, streamer, desk"));
        assert!(parse(&["--timeout", "0s"]).unwrap_err().contains("such as 5s"));
        assert!(parse(&["--measure", "--no-probe"]).is_err());
    }

    #[tokio::test]
    async fn nothing_is_asked_that_a_program_does_not_use() {
        let arguments = parse(&["--for", "predictor"]).unwrap();
        for skipped in [arguments.check_s3().await, arguments.check_database(&arguments.database).await] {
            assert_eq!(skipped, [Finding::not_checked("all", "the predictor does not use it")]);
        }
        // What it does use has to be set.
        let missing = arguments.check_api().await;
        assert_eq!(
            missing[0],
            Finding::failed("protocol", "ML_API_URL is not set", missing[0].remedy.clone().unwrap())
        );
    }
}
