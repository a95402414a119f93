//! What `assay doctor` finds of RabbitMQ, without disturbing a fleet at work: nothing is created but queues of the connection's
//! own, nothing is published that a queue could take, and nothing is consumed.
//!
//! - `rights`: what the user may do; `topology`: whether queues and exchanges are as this version declares them
//! - `round_trip`: how many chunks a second RabbitMQ takes and returns, if that is asked for

mod rights;
pub(in crate::rabbitmq) mod round_trip;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use assay_connect::{Diagnosis, Finding, Role};
use futures_util::future::join_all;
use lapin::Channel;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::ShortString;

use self::rights::Rights;
use super::connect::greeting::ServerVersion;
use super::connect::{ConnectionSettings, LiveConnection, PersistentConnection};
use super::failure::{FailureKind, cause, classify};
use super::topology::{DeclareMode, find_queue};
use crate::{BrokerOptions, QueueKind, Route};

/// The checks, in their order.
const CHECKS: [&str; 7] = ["connection", "version", "topology", "alarms", "rights", "queues", "policies"];
/// The oldest version with at-least-once dead letters.
const OLDEST: (u32, u32) = (3, 10);

/// Checks the RabbitMQ of the settings, for one program or for all. Each step takes at most `limit`.
pub(crate) async fn diagnose(options: &BrokerOptions, role: Option<Role>, limit: Duration) -> Vec<Finding> {
    let mut diagnosis = Diagnosis::new(&CHECKS, limit);
    let opened = diagnosis.step("connection", open(options, limit)).await;
    if let Some((settings, connection, live)) = opened {
        diagnosis.add(connected(&settings));
        diagnosis.add(judge_version(&live.greeting.server()));
        let broker = Reached { settings: &settings, live: &live, limit };
        topology::check(&mut diagnosis, broker).await;
        check_rights(&mut diagnosis, broker, role).await;
        check_queues(&mut diagnosis, broker, options.queue_max_length).await;
        check_policies(&mut diagnosis, broker).await;
        connection.close().await;
    }
    diagnosis.finish()
}

type Opened = (Arc<ConnectionSettings>, PersistentConnection, Arc<LiveConnection>);

async fn open(options: &BrokerOptions, limit: Duration) -> Result<Opened, crate::BrokerError> {
    let settings = Arc::new(ConnectionSettings::new(options, "doctor", DeclareMode::Never)?);
    let connection = PersistentConnection::open_once(&settings, limit).await?;
    let live = connection.live().await;
    let lost = || crate::BrokerError::Unreachable("the connection to RabbitMQ was lost: check AMQP_URL".to_owned());
    Ok((settings, connection, live.ok_or_else(lost)?))
}

/// A broker that let us in.
#[derive(Clone, Copy)]
struct Reached<'a> {
    settings: &'a ConnectionSettings,
    live: &'a LiveConnection,
    limit: Duration,
}

/// Why RabbitMQ refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    kind: FailureKind,
    cause: String,
}

impl Reached<'_> {
    /// Sends a request on a channel of its own, which RabbitMQ closes with a refusal. The outer error: there was no answer.
    async fn ask<T>(
        self,
        request: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
    ) -> Result<Result<T, Refusal>, String> {
        let asking = async {
            let channel = self.live.channel().await?;
            let answer = request(channel.clone()).await;
            if answer.is_ok() {
                channel.close(REPLY_SUCCESS, "OK".into()).await?;
            }
            Ok(answer)
        };
        let answer = self.live.attempt(self.limit, asking).await?;
        Ok(answer.map_err(|error| Refusal { kind: classify(&error), cause: cause(&error) }))
    }
}

fn connected(settings: &ConnectionSettings) -> Finding {
    let encrypted = if settings.is_encrypted() { "by TLS" } else { "without TLS" };
    Finding::ok("connection", format!("RabbitMQ at {} {encrypted}, as user `{}`", settings.server(), settings.user()))
}

fn judge_version(server: &ServerVersion) -> Finding {
    const CHECK: &str = "version";
    let product = server.product.as_deref().unwrap_or("the server");
    let Some(version) = &server.version else { return Finding::not_checked(CHECK, "it does not say which it is") };
    let found = format!("{product} {version}");
    if server.product.as_deref() != Some("RabbitMQ") {
        return Finding::warning(CHECK, found, "use RabbitMQ 3.10 or later: Assay is not tested with another broker");
    }
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or_default());
    if (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) < OLDEST {
        return Finding::failed(
            CHECK,
            found,
            "update to RabbitMQ 3.10 or later: older ones can lose dead letters, and their rows",
        );
    }
    Finding::ok(CHECK, found)
}

/// Whether RabbitMQ takes messages shows with the first one, so alarms are found while the rights are asked for.
async fn check_rights(diagnosis: &mut Diagnosis, broker: Reached<'_>, role: Option<Role>) {
    let mut blocked = broker.live.blocked();
    let rights = Rights::of(&broker.settings.topology, role);
    let asked = tokio::select! {
        biased;
        asked = rights.ask(broker) => Some(asked),
        _ = blocked.wait_for(|blocked| *blocked) => None,
    };
    let is_blocked = *blocked.borrow();
    if is_blocked || asked.is_none() {
        diagnosis.add(Finding::failed(
            "alarms",
            broker.settings.blocks_publishing(),
            "free memory or disk on its machine, or raise vm_memory_high_watermark or lower disk_free_limit; `rabbitmqctl \
             status` shows the alarm",
        ));
        diagnosis.add(Finding::not_checked("rights", "as \"alarms\" failed"));
        return;
    }
    let user = format!("user `{}`", broker.settings.user());
    match asked {
        Some(Ok(report)) => {
            diagnosis.add(Finding::ok("alarms", "it takes messages"));
            diagnosis.add(report.judge("rights", &user, role, "deploy/rabbitmq/permissions"));
        }
        Some(Err(cause)) => {
            diagnosis.add(Finding::not_checked("alarms", format!("no answer to a message ({cause})")));
            diagnosis.add(Finding::not_checked("rights", format!("no answer ({cause})")));
        }
        None => {}
    }
}

/// What waits in a queue, and who takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    queue: String,
    messages: u32,
    consumers: u32,
    /// Messages before it is full; none if it has no bound of ours.
    bound: Option<u32>,
    /// The program that consumes it.
    consumer: &'static str,
}

async fn check_queues(diagnosis: &mut Diagnosis, broker: Reached<'_>, bound: u32) {
    let topology = &broker.settings.topology;
    let consumer = |route: Route| match route.kind {
        QueueKind::Transactions => "predictor",
        QueueKind::Scored => "writer",
    };
    let work = Route::ALL.map(|route| (topology.work_queue(route), Some(bound), consumer(route)));
    let queues = work.into_iter().chain([(topology.dead_letters(), None, "writer")]);
    let look = async |(queue, bound, consumer): (ShortString, Option<u32>, &'static str)| {
        let name = queue.to_string();
        let looked = broker.ask(async |channel| find_queue(&channel, queue).await).await?;
        Ok::<_, String>(looked.ok().map(|found| Waiting {
            queue: name,
            messages: found.message_count(),
            consumers: found.consumer_count(),
            bound,
            consumer,
        }))
    };
    let looked: Result<Vec<_>, String> = join_all(queues.map(look)).await.into_iter().collect();
    match looked {
        Ok(found) => diagnosis.add_all(judge_queues(&found.into_iter().flatten().collect::<Vec<_>>())),
        Err(cause) => diagnosis.add(Finding::not_checked("queues", format!("no answer ({cause})"))),
    }
}

/// One finding for each queue in trouble; else one for all.
fn judge_queues(queues: &[Waiting]) -> Vec<Finding> {
    const CHECK: &str = "queues";
    if queues.is_empty() {
        return vec![Finding::not_checked(CHECK, "there is none yet")];
    }
    let troubled = queues.iter().filter_map(|Waiting { queue, messages, consumers, bound, consumer }| {
        if *messages > 0 && *consumers == 0 {
            let found = format!("no consumer on {queue}, where {messages} messages wait");
            return Some(Finding::warning(CHECK, found, format!("start a {consumer}; nothing is lost meanwhile")));
        }
        let bound = bound.filter(|bound| messages >= bound)?;
        let found =
            format!("{queue} is full, with {messages} messages of at most {bound}: whoever publishes to it waits");
        let remedy = match *consumer {
            "predictor" => "start more predictors, or find out why theirs is slow: `assay doctor --measure`",
            _ => "find out why the writer is slow: `assay doctor --measure`",
        };
        Some(Finding::warning(CHECK, found, remedy))
    });
    let troubled: Vec<_> = troubled.collect();
    if !troubled.is_empty() {
        return troubled;
    }
    let listed = queues.iter().map(|Waiting { queue, messages, consumers, .. }| {
        format!("{queue} {messages} ({consumers} {})", if *consumers == 1 { "consumer" } else { "consumers" })
    });
    vec![Finding::ok(CHECK, format!("messages waiting: {}", listed.collect::<Vec<_>>().join(", ")))]
}

async fn check_policies(diagnosis: &mut Diagnosis, broker: Reached<'_>) {
    const CHECK: &str = "policies";
    match broker.settings.harmful_policies().await {
        Ok(harmful) if harmful.is_empty() => {
            diagnosis.add(Finding::ok(CHECK, "none changes a queue of Assay for the worse"));
        }
        Ok(harmful) => {
            for policy in harmful {
                let (found, remedy) = policy.split_once("; ").unwrap_or((&policy, "remove it"));
                diagnosis.add(Finding::failed(CHECK, found, remedy));
            }
        }
        Err(cause) => {
            diagnosis.add(Finding::not_checked(CHECK, format!("the management API cannot be asked ({cause})")));
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::Verdict;

    use super::*;

    #[test]
    fn versions_are_judged() {
        let cases = [
            ("RabbitMQ", "3.10.8", Verdict::Ok),
            ("RabbitMQ", "4.0.5", Verdict::Ok),
            ("RabbitMQ", "4.3.0-rc.1", Verdict::Ok),
            ("RabbitMQ", "3.9.29", Verdict::Failed),
            ("RabbitMQ", "2.8.7", Verdict::Failed),
            ("LavinMQ", "2.1.0", Verdict::Warning),
        ];
        for (product, version, expected) in cases {
            let server = ServerVersion { product: Some(product.into()), version: Some(version.into()) };
            let finding = judge_version(&server);
            assert_eq!(finding.verdict, expected, "{finding:?}");
            assert!(finding.found.contains(version), "{finding:?}");
        }
        assert_eq!(judge_version(&ServerVersion::default()).verdict, Verdict::NotChecked);
    }

    #[test]
    fn queues_are_judged_by_who_takes_from_them() {
        let queue = |messages, consumers, bound| Waiting {
            queue: "transactions.batch".to_owned(),
            messages,
            consumers,
            bound,
            consumer: "predictor",
        };
        let cases = [
            (queue(0, 0, Some(10)), Verdict::Ok, "transactions.batch 0 (0 consumers)"),
            (queue(9, 1, Some(10)), Verdict::Ok, "transactions.batch 9 (1 consumer)"),
            (queue(1, 0, Some(10)), Verdict::Warning, "no consumer on transactions.batch, where 1 messages"),
            (queue(12, 2, Some(10)), Verdict::Warning, "full, with 12 messages of at most 10"),
            (queue(12, 2, None), Verdict::Ok, "12 (2 consumers)"),
        ];
        for (waiting, verdict, words) in cases {
            let findings = judge_queues(&[waiting]);
            assert!(findings.len() == 1 && findings[0].verdict == verdict, "{findings:?}");
            assert!(findings[0].found.contains(words), "{findings:?}");
        }
        assert_eq!(judge_queues(&[])[0].verdict, Verdict::NotChecked);
    }
}
