//! Many rounds, one after the other on the same services, and what they come to.

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use assay_testkit::servers::{Extras, RabbitMq, Tools};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::kind::{Counts, Kind};
use super::plan::Plan;
use super::postgres::Postgres;
use super::round::{self, Report, Services};

/// Which rounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many.
    pub rounds: u64,
    /// The seed of the first; each further one has the next.
    pub seed: u64,
    /// The one kind of fault that there is to be.
    pub only: Option<Kind>,
    /// Where the logs of rounds are kept that failed, or in which a fault did not find its moment.
    pub logs: PathBuf,
    /// Whether those of rounds that went well are kept too.
    pub keep_logs: bool,
}

/// What all rounds came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Faults that hit a victim with work in its hands.
    pub injected: Counts,
    /// Faults that did not find their moment, and do not count.
    pub skipped: Counts,
    /// Rows of files that were looked for in the tables.
    pub rows: u64,
    /// Rows without an outcome.
    pub lost: u64,
    /// Outcomes beyond one.
    pub doubled: u64,
    /// Programs that gave up with exit code 3, and were started again.
    pub revived: u64,
    /// The seeds of the rounds that failed.
    pub failed: Vec<u64>,
}

/// Runs rounds, and tells of each in a line.
pub async fn run(options: &Options, tools: &Tools, out: &mut dyn Write) -> std::io::Result<Summary> {
    let began = Instant::now();
    let services = Arc::new(AsyncMutex::new(Services::start(tools).await));
    writeln!(out, "PostgreSQL and RabbitMQ are there after {:.1} s", began.elapsed().as_secs_f64())?;
    let mut summary = Summary::default();
    for at in 0..options.rounds {
        let seed = options.seed + at;
        let began = Instant::now();
        let folder = options.logs.join(format!("seed-{seed}"));
        let report = one_round(seed, options, &services, folder.clone()).await;
        let seconds = began.elapsed().as_secs_f64();
        summary.add(seed, &report);
        let Report { injected, skipped, found, .. } = &report;
        write!(out, "round {} of {}, seed {seed}: {} rows, ", at + 1, options.rounds, found.rows)?;
        write!(out, "{} faults ({injected})", injected.total())?;
        if skipped.total() > 0 {
            write!(out, ", skipped {skipped}")?;
        }
        writeln!(out, ", {seconds:.1} s")?;
        if let Some(failure) = &report.failure {
            let only = options.only.map(|kind| format!(" --only {kind}")).unwrap_or_default();
            writeln!(out, "FAILED: {failure}")?;
            writeln!(out, "  what happened:\n    {}", report.timeline.join("\n    "))?;
            writeln!(out, "  logs: {}", folder.display())?;
            writeln!(out, "  again: scripts/faults --rounds 1 --seed {seed}{only}")?;
        }
        out.flush()?;
    }
    Ok(summary)
}

/// Runs a round as a task of its own, so that whatever happens in it is its own failure.
async fn one_round(seed: u64, options: &Options, services: &Arc<AsyncMutex<Services>>, folder: PathBuf) -> Report {
    let report = Arc::new(Mutex::new(Report::default()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a directory for logs can be made");
    let services = Arc::clone(services).lock_owned().await;
    let (postgres_log, rabbitmq_log) = (services.postgres.log(), services.rabbitmq.log());
    let sizes = [&postgres_log, &rabbitmq_log].map(|log| std::fs::metadata(log).map_or(0, |log| log.len()));
    let round = round::run(Plan::new(seed, options.only), services, folder.clone(), Arc::clone(&report));
    let ended = tokio::spawn(round).await;
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Err(panic) = ended {
        let panic = panic.into_panic();
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        report.failure = Some(words.unwrap_or_else(|| "the round panicked".to_owned()));
    }
    // The logs show why no program held work.
    if report.failure.is_none() && report.skipped.total() == 0 && !options.keep_logs {
        let _ = std::fs::remove_dir_all(folder);
        return report;
    }
    let _ = std::fs::write(folder.join("timeline.txt"), report.timeline.join("\n"));
    for (log, before) in [postgres_log, rabbitmq_log].into_iter().zip(sizes) {
        let said = std::fs::read(&log).unwrap_or_default();
        let said = said.get(usize::try_from(before).unwrap_or(usize::MAX)..).unwrap_or_default();
        let _ = std::fs::write(folder.join(log.file_name().expect("a log has a name")), said);
    }
    report
}

impl Services {
    async fn start(tools: &Tools) -> Self {
        let folder = tempfile::Builder::new().prefix("assay-faults.").tempdir().expect("a temporary directory");
        // Its subdirectories belong to the users that the services run as.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
        let extras = Extras::default();
        let (postgres, rabbitmq) = tokio::join!(
            Postgres::start(&folder, tools.postgres.clone()),
            RabbitMq::start(&folder, tools.rabbitmq.clone(), &extras)
        );
        let pgbouncer = match tools.pgbouncer.clone() {
            Some(program) => Some(postgres.pooler(&folder, program).await),
            None => None,
        };
        Self { postgres, rabbitmq, pgbouncer, _folder: folder }
    }
}

impl Summary {
    fn add(&mut self, seed: u64, report: &Report) {
        self.injected.add_all(&report.injected);
        self.skipped.add_all(&report.skipped);
        self.rows += report.found.rows;
        self.lost += report.found.lost;
        self.doubled += report.found.doubled;
        self.revived += u64::from(report.revived);
        if report.failure.is_some() {
            self.failed.push(seed);
        }
    }

    /// Whether nothing is lost, doubled or otherwise wrong.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.failed.is_empty()
    }

    /// Tells all of it.
    pub fn tell(&self, rounds: u64, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out)?;
        writeln!(out, "rounds           {rounds:8}")?;
        writeln!(out, "faults injected  {:8}", self.injected.total())?;
        for (kind, count) in self.injected.iter() {
            writeln!(out, "  {kind:<19}{count:4}")?;
        }
        writeln!(out, "faults skipped   {:8}  {}", self.skipped.total(), self.skipped)?;
        writeln!(out, "programs revived {:8}", self.revived)?;
        writeln!(out, "rows checked     {:8}", self.rows)?;
        writeln!(out, "rows lost        {:8}", self.lost)?;
        writeln!(out, "rows doubled     {:8}", self.doubled)?;
        let seeds: Vec<String> = self.failed.iter().map(u64::to_string).collect();
        writeln!(out, "rounds failed    {:8}  {}", self.failed.len(), seeds.join(", "))
    }
}
