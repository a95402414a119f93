//! What the user of `AMQP_URL` may do, for each program.
//!
//! RabbitMQ checks a right before it looks at the rest of a request. So each right is asked for by a request that is invalid
//! otherwise: a message whose expiration is no number, a subscription whose priority is no number. Where the right is missing,
//! RabbitMQ refuses access; else it complains about the request. Either way no message enters a queue, and none leaves it.

use assay_connect::{RightsReport, Role};
use assay_transaction::Lane;
use futures_util::future::join_all;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel};

use super::{Reached, Refusal};
use crate::consume::Delay;
use crate::rabbitmq::failure::FailureKind;
use crate::rabbitmq::topology::Topology;
use crate::{QueueKind, Route};

/// What is no number, and the key of no queue.
const INVALID: &str = "assay-doctor";

/// Something that a program does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Right {
    /// Publish to an exchange.
    Write(ShortString),
    /// Consume a queue.
    Read(ShortString),
    /// Have a queue of its own, and bind it to the exchange of broadcasts.
    Listen(ShortString),
}

impl Right {
    fn describe(&self) -> String {
        match self {
            Self::Write(exchange) => format!("write to exchange {exchange}"),
            Self::Read(queue) => format!("read from queue {queue}"),
            Self::Listen(exchange) => format!("listen to exchange {exchange}"),
        }
    }
}

/// The rights of each program in question.
pub(super) struct Rights(Vec<(Role, Vec<Right>)>);

impl Rights {
    /// Those of one program, or of all.
    pub(super) fn of(topology: &Topology, role: Option<Role>) -> Self {
        let roles = role.map_or_else(|| Role::ALL.to_vec(), |role| vec![role]);
        Self(roles.into_iter().map(|role| (role, needs(topology, role))).collect())
    }

    /// What is missing of them. The error: RabbitMQ did not answer.
    pub(super) async fn ask(&self, broker: Reached<'_>) -> Result<RightsReport, String> {
        let mut asked: Vec<Right> = Vec::new();
        for right in self.0.iter().flat_map(|(_, needed)| needed) {
            if !asked.contains(right) {
                asked.push(right.clone());
            }
        }
        let granted: Result<Vec<bool>, String> =
            join_all(asked.iter().map(|right| is_granted(broker, right))).await.into_iter().collect();
        let granted = granted?;
        let is_missing =
            |right: &&Right| asked.iter().zip(&granted).any(|(asked, granted)| asked == *right && !granted);
        let missing = self
            .0
            .iter()
            .map(|(role, needed)| (*role, needed.iter().filter(is_missing).map(Right::describe).collect()));
        Ok(RightsReport { missing: missing.collect() })
    }
}

/// As `deploy/rabbitmq/permissions` grants them.
fn needs(topology: &Topology, role: Role) -> Vec<Right> {
    let route = |kind, lane| Route { kind, lane };
    let (chunks, live) = (route(QueueKind::Transactions, Lane::Batch), route(QueueKind::Transactions, Lane::Realtime));
    let (scored, scored_live) = (route(QueueKind::Scored, Lane::Batch), route(QueueKind::Scored, Lane::Realtime));
    let publish = |route| Right::Write(topology.work(route).exchange);
    let retry = |route| Right::Write(topology.delayed(route, Delay::ALL[0]).exchange);
    let consume = |route| Right::Read(topology.work_queue(route));
    let (dead, control) = (Right::Write(topology.dead(chunks).exchange), topology.control().exchange);
    match role {
        Role::Loader => vec![publish(chunks)],
        Role::Predictor => vec![
            publish(scored),
            retry(chunks),
            retry(live),
            dead,
            Right::Write(control.clone()),
            consume(chunks),
            consume(live),
            Right::Listen(control),
        ],
        Role::Writer => vec![
            retry(scored),
            dead,
            Right::Write(control),
            Right::Write(topology.feed("").exchange),
            consume(scored),
            consume(scored_live),
            Right::Read(topology.dead_letters()),
        ],
        Role::Streamer => vec![publish(live)],
        Role::Desk => vec![publish(chunks), publish(live)],
    }
}

async fn is_granted(broker: Reached<'_>, right: &Right) -> Result<bool, String> {
    let answer = match right {
        Right::Write(exchange) => broker.ask(async |channel| publish_invalid(&channel, exchange.clone()).await).await?,
        Right::Read(queue) => broker.ask(async |channel| consume_invalid(&channel, queue.clone()).await).await?,
        Right::Listen(_) => {
            let topology = &broker.settings.topology;
            // The queue ends with the connection.
            broker.ask(async |channel| topology.declare_listener(&channel).await.map(drop)).await?
        }
    };
    match answer {
        Err(Refusal { kind: FailureKind::Refused, .. }) => Ok(false),
        // The request is refused for another reason, or even granted.
        Ok(()) | Err(Refusal { kind: FailureKind::DeclaredOtherwise | FailureKind::Missing, .. }) => Ok(true),
        Err(Refusal { cause, .. }) => Err(cause),
    }
}

async fn publish_invalid(channel: &Channel, exchange: ShortString) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_expiration(INVALID.into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange, INVALID.into(), options, &[], properties).await?.await.map(drop)
}

async fn consume_invalid(channel: &Channel, queue: ShortString) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongString(LongString::from(INVALID)));
    channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments).await.map(drop)
}
