//! A round from its beginning to its end: a fleet of its own, the faults of its plan, and the check.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_testkit::Proxy;
use assay_testkit::servers::{POLL_INTERVAL, PgBouncer, RabbitMq};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep};

use super::api::FaultyApi;
use super::check::{Found, check};
use super::crew::{Crew, Who};
use super::kind::{Counts, Kind};
use super::plan::{PREDICTORS, Plan};
use super::postgres::{LOADER, Postgres, writer};
use super::source::Source;
use crate::{Broker, DEADLINE, Database, Program, Running, S3Server, law};

/// How often programs may give up (exit code 3) and be restarted, as a supervisor would.
const MOST_REVIVED: u32 = 5;
/// What no program may need, whatever the rows are like.
const MOST_MEMORY_KIB: u64 = 256_000_000 / 1024;

/// What all rounds share.
pub(super) struct Services {
    pub(super) postgres: Postgres,
    pub(super) rabbitmq: RabbitMq,
    /// Where there is one that Assay works with.
    pub(super) pgbouncer: Option<PgBouncer>,
    /// Where their files are; removed after they have ended.
    pub(super) _folder: tempfile::TempDir,
}

/// What became of a round. It is filled in as the round goes, so that it is there whatever happens.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) injected: Counts,
    /// Faults that did not find their moment.
    pub(super) skipped: Counts,
    pub(super) found: Found,
    /// Programs that gave up and were started again.
    pub(super) revived: u32,
    /// The most memory that each program was seen with, in KiB.
    pub(super) peaks: Vec<(Who, u64)>,
    /// Why the round failed.
    pub(super) failure: Option<String>,
    /// What happened when.
    pub(super) timeline: Vec<String>,
}

/// A round under way.
pub(super) struct Round {
    // In the order in which they are to be dropped.
    pub(super) crew: Crew,
    pub(super) database: Database,
    pub(super) broker: Arc<Broker>,
    /// Before RabbitMQ, where connections to it are to be cut.
    pub(super) broker_proxy: Option<Proxy>,
    pub(super) api: FaultyApi,
    pub(super) api_proxy: Proxy,
    pub(super) services: OwnedMutexGuard<Services>,
    pub(super) plan: Plan,
    pub(super) source: Source,
    /// Backends of writers that were killed.
    pub(super) stale: HashSet<i32>,
    s3: Option<S3Server>,
    /// How the loader ended, once it has.
    loaded: Option<i32>,
    began: Instant,
    report: Arc<Mutex<Report>>,
}

/// Runs one, and reports. What the programs said is in files in `folder` afterwards.
pub(super) async fn run(
    mut plan: Plan,
    services: OwnedMutexGuard<Services>,
    folder: std::path::PathBuf,
    report: Arc<Mutex<Report>>,
) {
    let mut dice = plan.dice.clone();
    let source = Source::generate(&plan.file, plan.wide, plan.broken, plan.refused, &mut dice, &folder).await;
    plan.dice = dice;
    let mut round = Round::new(plan, source, services, &folder, Arc::clone(&report)).await;
    if let Err(failure) = round.through().await {
        report.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(failure);
    }
}

impl Round {
    async fn new(
        plan: Plan,
        source: Source,
        mut services: OwnedMutexGuard<Services>,
        folder: &Path,
        report: Arc<Mutex<Report>>,
    ) -> Self {
        // As a round may have left them that did not come to its end.
        services.postgres.revive();
        services.postgres.refuse_connections(false).await;
        services.postgres.commit_later(plan.faults.contains(&Kind::CrashAsyncCommit)).await;
        services.rabbitmq.revive();
        services.rabbitmq.until_ready().await;
        if let Some(pooler) = &mut services.pgbouncer {
            pooler.revive().await;
        }
        let database = Database::migrated_on(services.postgres.url().into()).await;
        services.postgres.admit(&database).await;
        let rabbitmq = services.rabbitmq.port();
        let is_cut = plan.faults.contains(&Kind::CutBroker);
        let broker_proxy = if is_cut { Some(Proxy::before("127.0.0.1", rabbitmq).await) } else { None };
        let broker = Arc::new(Broker::on(services.rabbitmq.url_at(rabbitmq)));
        let api = FaultyApi::start(&source, plan.slowness).await;
        let api_proxy = Proxy::before("127.0.0.1", api.port()).await;
        let s3 = if plan.from_s3 { Some(S3Server::start().await) } else { None };
        Self {
            crew: Crew::new(folder.to_owned()),
            database,
            broker,
            broker_proxy,
            api,
            api_proxy,
            services,
            plan,
            source,
            stale: HashSet::new(),
            s3,
            loaded: None,
            began: Instant::now(),
            report,
        }
    }

    async fn through(&mut self) -> Result<(), String> {
        self.hire();
        for kind in self.plan.faults.clone() {
            sleep(self.plan.dice.millis(50, 400)).await;
            self.tend().await?;
            let is_injected = self.inject(kind).await?;
            self.note(&format!("{kind} {}", if is_injected { "injected" } else { "did not find its moment" }));
            self.report(|report| if is_injected { &mut report.injected } else { &mut report.skipped }.add(kind));
        }
        self.api.hurry();
        let ended = self.until_finished().await;
        self.count_rows_at_fault();
        if let Err(stuck) = ended {
            // Rows that are missing by now are lost.
            let found = self.compare().await?;
            return Err(format!("{stuck}\n{}", found.wrong.join("\n")));
        }
        self.dismiss().await?;
        self.check().await
    }

    /// Starts all programs.
    fn hire(&mut self) {
        let port = self.broker_proxy.as_ref().map_or(self.services.rabbitmq.port(), Proxy::port);
        let amqp_url = self.services.rabbitmq.url_at(port);
        let (broker, settings) = (Arc::clone(&self.broker), self.plan.settings.clone());
        let base = move |name: &'static str| {
            let program =
                broker.known_to(Program::new(name)).env("AMQP_URL", &amqp_url).env("LOG_LEVEL", "debug,lapin=warn");
            settings.iter().fold(program, |program, (variable, value)| program.env(variable, value))
        };
        let pooler = self.services.pgbouncer.as_ref().filter(|_| self.plan.faults.contains(&Kind::DropPooler));
        let pooler = pooler.map(PgBouncer::port);
        let database_url = |role: &str| self.database.url_as(role, pooler);

        let mut crew = Crew::new(self.crew.logs().to_owned());
        for number in 0..self.plan.writers {
            let (base, url) = (base.clone(), database_url(&writer(number)));
            crew.add(Who::Writer(number), move |_| base("writer").env("DATABASE_URL", &url));
        }
        for number in 0..PREDICTORS {
            let (base, port) = (base.clone(), self.api_proxy.port());
            let url = move |life| FaultyApi::url_at(port, (number, life));
            crew.add(Who::Predictor(number), move |life| base("predictor").env("ML_API_URL", url(life)));
        }
        let mut variables = vec![("DATABASE_URL", database_url(LOADER))];
        let source = match &self.s3 {
            Some(s3) => {
                variables.push(("KEY", S3Server::KEY.to_owned()));
                variables.push(("SECRET", S3Server::SECRET.to_owned()));
                variables.push(("ENDPOINT_URL", s3.endpoint()));
                let file = std::fs::read(&self.source.path).expect("the file is there");
                s3.put("transactions", "2026/transactions.csv", file)
            }
            None => self.source.path.to_str().expect("a path of ours is text").to_owned(),
        };
        // Not to be recognised where some rows are otherwise, as invalid ones may be.
        let mark = if self.plan.file.decimal_mark == ',' { "comma" } else { "point" };
        let encoding = if self.plan.file.is_windows_1252 { "windows-1252" } else { "utf-8" };
        variables.push(("DECIMAL_MARK", mark.to_owned()));
        variables.push(("ENCODING", encoding.to_owned()));
        if self.plan.is_named {
            variables.push(("BATCH_RUN_ID", "the-run-of-this-round".to_owned()));
        }
        let waits = self.plan.waits;
        crew.add(Who::Loader, move |_| {
            let loader = base("loader").arg(&source);
            let loader = if waits { loader.arg("--wait") } else { loader };
            variables.iter().fold(loader, |loader, (variable, value)| loader.env(variable, value))
        });
        self.crew = crew;
        for who in self.crew.all() {
            self.crew.start(who);
        }
    }

    /// Looks after the programs: those that gave up are started again, and those that ended otherwise fail the round.
    pub(super) async fn tend(&mut self) -> Result<(), String> {
        for who in self.crew.all() {
            if self.crew.running(who).is_none_or(Running::is_running) {
                continue;
            }
            let Some(ended) = self.crew.end(who).await else { continue };
            match (who, ended.code) {
                (Who::Loader, Some(code @ (0 | 1))) => {
                    self.note(&format!("{who} ended with {code}"));
                    self.loaded = Some(code);
                }
                (_, Some(3)) if self.report(|report| report.revived) < MOST_REVIVED => {
                    self.note(&format!("{who} gave up, and is started again"));
                    self.report(|report| report.revived += 1);
                    self.crew.start(who);
                }
                (_, code) => return Err(format!("{who} ended with {code:?} and said:\n{}", last_lines(&ended.stderr))),
            }
        }
        Ok(())
    }

    /// Whether the run is finished, as far as the database can tell.
    pub(super) async fn is_finished(&self) -> bool {
        let question = "SELECT coalesce(bool_and(state IN ('complete', 'failed', 'cancelled')), false) FROM runs";
        sqlx::query_scalar(question).fetch_one(self.database.pool()).await.unwrap_or(false)
    }

    async fn until_finished(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.look_at_memory();
            self.tend().await?;
            if self.loaded.is_some() && self.is_finished().await {
                self.note("the run is finished");
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the run is not finished {DEADLINE:?} after the last fault: {}",
                    self.state().await
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the queues are empty, so that what was delivered again has done what harm it may, and stops all programs
    /// in order.
    async fn dismiss(&mut self) -> Result<(), String> {
        self.services.rabbitmq.until_ready().await;
        self.until_empty("transactions.batch").await?;
        for number in 0..PREDICTORS {
            self.stop(Who::Predictor(number)).await?;
        }
        self.until_empty("predictions.batch").await?;
        for number in 0..self.plan.writers {
            self.stop(Who::Writer(number)).await?;
        }
        match self.broker.depth("dead_letters").await {
            Ok(0) => Ok(()),
            depth => Err(format!("there are dead letters: {depth:?}")),
        }
    }

    async fn until_empty(&mut self, queue: &str) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while !self.broker.depth(queue).await.is_ok_and(|depth| depth == 0) {
            if Instant::now() >= deadline {
                return Err(format!(
                    "{queue} is not empty {DEADLINE:?} after the run was finished: {}",
                    self.state().await
                ));
            }
            self.tend().await?;
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Stops a program in order.
    pub(super) async fn stop(&mut self, who: Who) -> Result<(), String> {
        self.look_at_memory();
        let Some(running) = self.crew.running(who) else { return Ok(()) };
        running.terminate();
        match self.crew.end(who).await {
            Some(ended) if ended.code != Some(0) => {
                Err(format!("{who}, asked to stop, ended with {:?}:\n{}", ended.code, last_lines(&ended.stderr)))
            }
            _ => Ok(()),
        }
    }

    /// Notes how much memory the programs have needed, at the most.
    fn look_at_memory(&mut self) {
        let peaks = self.crew.peaks();
        self.report(|report| report.peaks = peaks);
    }

    fn count_rows_at_fault(&mut self) {
        if self.plan.wide > 0 {
            self.report(|report| report.injected.add(Kind::WideRows));
        }
        let hits = self.api.row_hits();
        for (kind, hits, rows) in [
            (Kind::ApiBrokenRows, hits.broken, self.plan.broken),
            (Kind::ApiRefusedRows, hits.refused, self.plan.refused),
        ] {
            if rows > 0 {
                self.report(|report| if hits > 0 { &mut report.injected } else { &mut report.skipped }.add(kind));
            }
        }
    }

    /// Compares the tables with the file.
    async fn compare(&self) -> Result<Found, String> {
        let has_uuids = self.plan.file.has_uuids;
        let found = check(self.database.pool(), &self.source, has_uuids, &self.api.given()).await;
        let found = found.map_err(|error| format!("the tables cannot be read: {error}"))?;
        self.report(|report| report.found.clone_from(&found));
        Ok(found)
    }

    async fn check(&self) -> Result<(), String> {
        let found = self.compare().await?;
        if !found.is_good() {
            return Err(format!(
                "{} rows are lost, {} doubled:\n{}",
                found.lost,
                found.doubled,
                found.wrong.join("\n")
            ));
        }
        let peaks = self.report(|report| report.peaks.clone());
        if let Some((who, kib)) = peaks.into_iter().find(|(_, kib)| *kib > MOST_MEMORY_KIB) {
            return Err(format!("{who} needed {kib} KiB of memory, which is more than {MOST_MEMORY_KIB}"));
        }
        let tally = law::holds_for_one_run(&self.database).await;
        let (stored, failed, invalid) = self.source.foretold();
        let foretold = (stored as u64, failed as u64, invalid as u64);
        if (tally.predicted, tally.failed, tally.invalid) != foretold {
            return Err(format!("the run counts {tally:?}, not {foretold:?}"));
        }
        let expected = i32::from(self.plan.waits && failed > 0);
        let is_revived = self.report(|report| report.revived) > 0;
        match self.loaded {
            Some(code) if code == expected || is_revived && code == 0 => Ok(()),
            code => Err(format!("the loader ended with {code:?}, not {expected}")),
        }
    }

    /// Where a run is that is stuck.
    async fn state(&self) -> String {
        let question =
            "SELECT concat_ws(' ', run_id, state, 'checkpoint', checkpoint_chunk, 'of', chunks_total, 'recorded',
            (SELECT count(*) FROM chunks)) FROM runs";
        let runs: Result<Vec<String>, _> = sqlx::query_scalar(question).fetch_all(self.database.pool()).await;
        let [transactions, predictions] =
            [self.broker.depth("transactions.batch").await, self.broker.depth("predictions.batch").await];
        format!("{runs:?}; transactions.batch {transactions:?}, predictions.batch {predictions:?}")
    }

    pub(super) fn note(&self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.report(|report| report.timeline.push(format!("{at:7.3} s  {what}")));
    }

    fn report<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits a little before the next look at a state that is polled.
    pub(super) async fn look_again(&mut self) -> Result<(), String> {
        sleep(Duration::from_millis(5)).await;
        self.tend().await
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
