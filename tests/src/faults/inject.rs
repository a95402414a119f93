//! The faults themselves. One counts only where its victim held work that was not acknowledged or not committed: the victim
//! is held still, looked at, and let go on again until that is so.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api::Passing;
use super::crew::Who;
use super::kind::Kind;
use super::plan::{API_TIMEOUT, PREDICTORS};
use super::postgres::writer;
use super::round::Round;
use crate::{RawAmqp, RawProperties, Running};

/// How long a fault may look for its moment: while RabbitMQ starts, no program has work.
const MOMENT: Duration = Duration::from_secs(20);

/// A writer's transaction that has written something, and is not being committed. Only backends of now count, not those of a
/// writer that was killed.
const WRITES: &str = "
    SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usename = $1 AND backend_xid IS NOT NULL AND pid <> ALL($2)
            AND NOT (state = 'active' AND query ILIKE 'commit%'))";
const BACKENDS: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = $1";
/// A run whose seal is not committed, and whose source is not published to its end.
const LOADS: &str = "SELECT EXISTS (SELECT FROM runs WHERE state = 'loading' AND checkpoint_row <= $1)";
/// Connections of the programs; those of the harness are others.
const CUT: &str = "
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename LIKE 'assay\\_%'";

impl Round {
    /// Injects a fault. False where it did not find its moment, and nothing has happened that counts.
    pub(super) async fn inject(&mut self, kind: Kind) -> Result<bool, String> {
        match kind {
            Kind::KillLoader => self.kill(Who::Loader).await,
            Kind::KillPredictor => {
                let victim = self.a_predictor();
                self.kill(victim).await
            }
            Kind::KillWriter => {
                let victim = self.a_writer();
                self.kill(victim).await
            }
            Kind::KillBroker => self.end_broker("KILL").await,
            Kind::RestartBroker => self.end_broker("TERM").await,
            Kind::CrashDatabase | Kind::CrashAsyncCommit => self.crash_database().await,
            Kind::CutBroker => self.cut_broker().await,
            Kind::CutDatabase => self.cut_database().await,
            Kind::DropPooler => self.drop_pooler().await,
            Kind::Poison => self.poison().await,
            Kind::NoConnections => self.refuse_connections().await,
            Kind::FullQueue => self.fill_queue().await,
            Kind::ApiRefuses => self.refuse_requests().await,
            Kind::ApiStalls if self.plan.dice.one_in(3) => self.hang().await,
            Kind::ApiStalls => self.fail_requests(Passing::Stall, 2).await,
            Kind::ApiTooMany => self.fail_requests(Passing::TooMany, 4).await,
            Kind::ApiHalfAnswers => self.fail_requests(Passing::Half, 8).await,
            Kind::ApiGarbage => self.fail_requests(Passing::Garbage, 8).await,
            Kind::ApiWrongIds => self.fail_requests(Passing::WrongIds, 8).await,
            Kind::ApiBadScores => self.fail_requests(Passing::BadScores, 8).await,
            Kind::ApiBrokenRows | Kind::ApiRefusedRows | Kind::WideRows => {
                unreachable!("these are there for the whole round")
            }
        }
    }

    fn a_predictor(&mut self) -> Who {
        Who::Predictor(self.plan.dice.below(PREDICTORS))
    }

    fn a_writer(&mut self) -> Who {
        Who::Writer(self.plan.dice.below(self.plan.writers))
    }

    /// Whether a program holds work: a predictor waits for an answer, a writer is in a transaction, a loader is not done.
    async fn holds(&mut self, who: Who) -> bool {
        let pool = self.database.pool();
        let answer = match who {
            Who::Predictor(number) => {
                let life = self.crew.life(who);
                return self.api.is_asked_by((number, life));
            }
            Who::Writer(number) => {
                let stale: Vec<i32> = self.stale.iter().copied().collect();
                sqlx::query_scalar(WRITES).bind(writer(number)).bind(stale).fetch_one(pool).await
            }
            Who::Loader => {
                let rows = i64::try_from(self.source.rows.len()).expect("few");
                sqlx::query_scalar(LOADS).bind(rows).fetch_one(pool).await
            }
        };
        // A database that cannot tell has nothing to show.
        answer.unwrap_or(false)
    }

    /// Holds a program still while it holds work. False where that did not come about; it runs on then.
    async fn catch(&mut self, who: Who) -> Result<bool, String> {
        let deadline = Instant::now() + MOMENT;
        while Instant::now() < deadline && !self.is_finished().await {
            // At first without holding it still, which takes longer than most transactions.
            if self.holds(who).await {
                let Some(running) = self.crew.running(who) else { return Ok(false) };
                running.freeze().await;
                if self.holds(who).await {
                    return Ok(true);
                }
                self.thaw(who);
            }
            self.look_again().await?;
        }
        Ok(false)
    }

    fn thaw(&mut self, who: Who) {
        if let Some(running) = self.crew.running(who) {
            running.thaw();
        }
    }

    async fn kill(&mut self, who: Who) -> Result<bool, String> {
        if !self.catch(who).await? {
            return Ok(false);
        }
        self.crew.kill(who).await;
        if let Who::Writer(number) = who {
            let backends: Vec<i32> = sqlx::query_scalar(BACKENDS)
                .bind(writer(number))
                .fetch_all(self.database.pool())
                .await
                .map_err(|error| error.to_string())?;
            self.stale.extend(backends);
        }
        self.note(&format!("{who} killed"));
        let pause = self.plan.dice.millis(0, 300);
        sleep(pause).await;
        self.crew.start(who);
        Ok(true)
    }

    /// Ends RabbitMQ while a predictor holds chunks, and starts it again. What comes next need not wait until it is there.
    async fn end_broker(&mut self, signal: &str) -> Result<bool, String> {
        self.services.rabbitmq.until_ready().await;
        let holder = self.a_predictor();
        if !self.catch(holder).await? {
            return Ok(false);
        }
        if signal == "KILL" {
            self.services.rabbitmq.end(signal).await;
            self.thaw(holder);
        } else {
            // In order: it says goodbye, and is to be heard.
            self.thaw(holder);
            self.services.rabbitmq.end(signal).await;
        }
        self.note(&format!("RabbitMQ ended by {signal}, while {holder} held chunks"));
        self.services.rabbitmq.revive();
        if self.plan.dice.one_in(2) {
            self.services.rabbitmq.until_ready().await;
            self.note("RabbitMQ is back");
        }
        Ok(true)
    }

    async fn crash_database(&mut self) -> Result<bool, String> {
        let victim = self.a_writer();
        if !self.catch(victim).await? {
            return Ok(false);
        }
        self.services.postgres.crash().await;
        self.stale.clear();
        self.thaw(victim);
        self.note(&format!("PostgreSQL crashed in a transaction of {victim}"));
        let pause = self.plan.dice.millis(0, 500);
        sleep(pause).await;
        self.services.postgres.revive();
        self.services.postgres.until_ready().await;
        self.note("PostgreSQL is back");
        Ok(true)
    }

    async fn cut_broker(&mut self) -> Result<bool, String> {
        self.services.rabbitmq.until_ready().await;
        let holder = self.a_predictor();
        if !self.catch(holder).await? {
            return Ok(false);
        }
        let Some(proxy) = &self.broker_proxy else { unreachable!("a round that cuts has a proxy") };
        proxy.cut().await;
        self.thaw(holder);
        self.note(&format!("connections to RabbitMQ cut, while {holder} held chunks"));
        Ok(true)
    }

    async fn cut_database(&mut self) -> Result<bool, String> {
        let victim = self.a_writer();
        if !self.catch(victim).await? {
            return Ok(false);
        }
        self.end_connections().await?;
        self.thaw(victim);
        self.note(&format!("connections to PostgreSQL cut, in a transaction of {victim}"));
        Ok(true)
    }

    async fn drop_pooler(&mut self) -> Result<bool, String> {
        let victim = self.a_writer();
        if self.services.pgbouncer.is_none() || !self.catch(victim).await? {
            return Ok(false);
        }
        let pause = self.plan.dice.millis(0, 300);
        if let Some(pooler) = &mut self.services.pgbouncer {
            pooler.crash().await;
            sleep(pause).await;
            pooler.revive().await;
        }
        self.thaw(victim);
        self.note(&format!("the pooler was killed and started again, in a transaction of {victim}"));
        Ok(true)
    }

    /// Each of them costs itself alone: no program ends or loses work for it, as the rest of the round shows.
    async fn poison(&mut self) -> Result<bool, String> {
        const WAYS: [(&str, &str); 6] = [
            ("assay.chunks", "batch"),
            ("assay.transactions", "realtime"),
            ("assay.scored", "batch"),
            ("assay.scored", "realtime"),
            ("assay.dead", "transactions.batch"),
            ("assay.control", ""),
        ];
        self.services.rabbitmq.until_ready().await;
        let holder = self.a_predictor();
        if !self.catch(holder).await? {
            return Ok(false);
        }
        let (exchange, key) = self.plan.dice.pick(&WAYS);
        let mut amqp = RawAmqp::connect(self.broker.url()).await;
        let poisons = RawProperties::poisons();
        // A full queue refuses them.
        let mut came = 0;
        for (name, properties) in &poisons {
            let exchange = format!("{}{exchange}", self.broker.prefix());
            came += usize::from(amqp.publish(&exchange, key.as_bytes(), properties, name.as_bytes()).await);
        }
        self.thaw(holder);
        self.note(&format!("{came} poisonous messages came by {exchange}, {key}"));
        Ok(came > 0)
    }

    async fn end_connections(&self) -> Result<(), String> {
        let cut: i64 =
            sqlx::query_scalar(CUT).fetch_one(self.database.pool()).await.map_err(|error| error.to_string())?;
        if cut > 0 { Ok(()) } else { Err("the programs have no connections to PostgreSQL".to_owned()) }
    }

    async fn refuse_connections(&mut self) -> Result<bool, String> {
        let victim = self.a_writer();
        if !self.catch(victim).await? {
            return Ok(false);
        }
        let before = self.services.postgres.refusals();
        self.services.postgres.refuse_connections(true).await;
        self.end_connections().await?;
        self.thaw(victim);
        self.note(&format!("PostgreSQL takes no connections any more, in a transaction of {victim}"));
        let deadline = Instant::now() + MOMENT;
        while self.services.postgres.refusals() == before && Instant::now() < deadline {
            self.look_again().await?;
        }
        let is_felt = self.services.postgres.refusals() > before;
        let pause = self.plan.dice.millis(100, 800);
        sleep(pause).await;
        self.services.postgres.refuse_connections(false).await;
        Ok(is_felt)
    }

    /// Stops the consumers of one of the two queues, until it is full while a publisher has more for it.
    async fn fill_queue(&mut self) -> Result<bool, String> {
        self.services.rabbitmq.until_ready().await;
        let is_first = self.plan.dice.one_in(2);
        let (queue, consumers): (_, Vec<Who>) = if is_first {
            ("transactions.batch", (0..PREDICTORS).map(Who::Predictor).collect())
        } else {
            ("predictions.batch", (0..self.plan.writers).map(Who::Writer).collect())
        };
        if !self.holds(Who::Loader).await {
            return Ok(false);
        }
        for who in &consumers {
            // One that is about to give up is tended to by then.
            if self.crew.running(*who).is_some_and(Running::is_running) {
                self.stop(*who).await?;
            }
        }
        let deadline = Instant::now() + MOMENT;
        let mut is_full = false;
        while !is_full && Instant::now() < deadline && self.holds(Who::Loader).await {
            let depth = self.broker.depth(queue).await.unwrap_or_default();
            // There is more to come, as the loader is not done: it waits, or the predictors do, with what they hold.
            is_full = depth >= self.plan.queue_length && self.holds(Who::Loader).await;
            self.look_again().await?;
        }
        self.note(&format!("{queue} {}", if is_full { "is full" } else { "did not fill up" }));
        for who in consumers {
            self.crew.start(who);
        }
        Ok(is_full)
    }

    async fn refuse_requests(&mut self) -> Result<bool, String> {
        let holder = self.a_predictor();
        if !self.catch(holder).await? {
            return Ok(false);
        }
        self.api_proxy.refuse().await;
        self.thaw(holder);
        self.note(&format!("the ML API breaks off a request of {holder}, and refuses more"));
        let pause = self.plan.dice.millis(200, 1200);
        sleep(pause).await;
        self.api_proxy.accept().await;
        Ok(true)
    }

    async fn hang(&mut self) -> Result<bool, String> {
        // A predictor that starts would wait until the API is healthy, and hold nothing.
        let holder = self.a_predictor();
        if !self.catch(holder).await? {
            return Ok(false);
        }
        self.thaw(holder);
        self.api.hang(true);
        let is_felt = self.until_felt().await?;
        if is_felt {
            // Longer than any request waits for a response.
            sleep(API_TIMEOUT + Duration::from_millis(500)).await;
        }
        self.api.hang(false);
        Ok(is_felt)
    }

    async fn fail_requests(&mut self, passing: Passing, at_most: usize) -> Result<bool, String> {
        let requests = self.plan.dice.between(1, at_most);
        self.api.fail(passing, u32::try_from(requests).expect("few"));
        let is_felt = self.until_felt().await?;
        if !is_felt {
            self.api.fail_no_more();
        }
        Ok(is_felt)
    }

    /// Waits until a request has failed for what was ordered of the ML API.
    async fn until_felt(&mut self) -> Result<bool, String> {
        let deadline = Instant::now() + MOMENT;
        while self.api.hits() == 0 && Instant::now() < deadline && !self.is_finished().await {
            self.look_again().await?;
        }
        Ok(self.api.hits() > 0)
    }
}
