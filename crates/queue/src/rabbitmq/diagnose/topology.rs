//! Whether queues and exchanges are as this version declares them. What is missing stays missing; what is there is declared
//! again with the same settings, as each program does at its start: that changes nothing, and RabbitMQ refuses other settings.

use assay_connect::{Diagnosis, Finding};
use futures_util::future::join_all;
use lapin::Channel;

use super::{Reached, Refusal};
use crate::rabbitmq::failure::FailureKind;
use crate::rabbitmq::topology::{declare_exchange, declare_queue, find_exchange, find_queue};

const CHECK: &str = "topology";
/// Names that are shown.
const SHOWN: usize = 4;

/// What became of one queue or exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    AsDeclared,
    /// It is there; the user may not declare, so its settings are not known.
    There,
    Missing(String),
    /// RabbitMQ has it with other settings, in its words.
    Otherwise(String),
}

/// Adds the finding.
pub(super) async fn check(diagnosis: &mut Diagnosis, broker: Reached<'_>) {
    let topology = &broker.settings.topology;
    let exchanges = topology.exchanges().map(async |(name, kind)| {
        let find = async |channel: Channel| find_exchange(&channel, name.clone(), kind.clone()).await;
        let declare = async |channel: Channel| declare_exchange(&channel, name.clone(), kind.clone()).await;
        look(broker, name.as_str(), find, declare).await
    });
    let queues = topology.queues().into_iter().map(async |(name, arguments)| {
        let find = async |channel: Channel| find_queue(&channel, name.clone()).await.map(drop);
        let declare = async |channel: Channel| declare_queue(&channel, name.clone(), arguments.clone()).await;
        look(broker, name.as_str(), find, declare).await
    });
    let (exchanges, queues) = tokio::join!(join_all(exchanges), join_all(queues));
    let parts: Result<Vec<Part>, String> = exchanges.into_iter().chain(queues).collect();
    diagnosis.add(match parts {
        Ok(parts) => judge(&parts, &|cause| broker.settings.declared_otherwise(cause)),
        Err(cause) => Finding::not_checked(CHECK, format!("no answer ({cause})")),
    });
}

async fn look(
    broker: Reached<'_>,
    name: &str,
    find: impl AsyncFnOnce(Channel) -> lapin::Result<()>,
    declare: impl AsyncFnOnce(Channel) -> lapin::Result<()>,
) -> Result<Part, String> {
    match broker.ask(find).await? {
        Err(Refusal { kind: FailureKind::Missing, .. }) => return Ok(Part::Missing(name.to_owned())),
        // Of another kind.
        Err(Refusal { kind: FailureKind::DeclaredOtherwise, cause }) => return Ok(Part::Otherwise(cause)),
        Err(Refusal { cause, .. }) => return Err(cause),
        Ok(()) => {}
    }
    match broker.ask(declare).await? {
        Ok(()) => Ok(Part::AsDeclared),
        Err(Refusal { kind: FailureKind::Refused, .. }) => Ok(Part::There),
        Err(Refusal { kind: FailureKind::DeclaredOtherwise, cause }) => Ok(Part::Otherwise(cause)),
        Err(Refusal { cause, .. }) => Err(cause),
    }
}

fn judge(parts: &[Part], declared_otherwise: &dyn Fn(&str) -> String) -> Finding {
    if let Some(cause) =
        parts.iter().find_map(|part| if let Part::Otherwise(cause) = part { Some(cause) } else { None })
    {
        return Finding::refused(CHECK, &declared_otherwise(cause));
    }
    let missing: Vec<&str> = parts
        .iter()
        .filter_map(|part| if let Part::Missing(name) = part { Some(name.as_str()) } else { None })
        .collect();
    let may_declare = !parts.contains(&Part::There);
    if missing.is_empty() {
        let compared = if may_declare {
            "are as this version declares them"
        } else {
            "exist; what the user may not declare, was not compared"
        };
        return Finding::ok(CHECK, format!("{} queues and exchanges {compared}", parts.len()));
    }
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let names = missing[..missing.len().min(SHOWN)].join(", ");
    let found = format!("{} of {} queues and exchanges are missing: {names}{more}", missing.len(), parts.len());
    if may_declare {
        Finding::warning(CHECK, found, "start a program that may declare them, or run `assay declare`")
    } else {
        Finding::failed(CHECK, found, "run `assay declare` as a user who may")
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::Verdict;

    use super::*;

    #[test]
    fn a_topology_is_judged_by_its_parts() {
        let missing = || Part::Missing("transactions.batch".to_owned());
        let otherwise = || Part::Otherwise("inequivalent arg".to_owned());
        let cases = [
            (vec![Part::AsDeclared, Part::AsDeclared], Verdict::Ok, "2 queues and exchanges are as"),
            (vec![Part::AsDeclared, Part::There], Verdict::Ok, "was not compared"),
            (
                vec![Part::AsDeclared, missing()],
                Verdict::Warning,
                "1 of 2 queues and exchanges are missing: transactions.batch",
            ),
            (vec![Part::There, missing()], Verdict::Failed, "missing: transactions.batch"),
            (vec![missing(), missing()], Verdict::Warning, "2 of 2"),
            (vec![missing(), otherwise()], Verdict::Failed, "other settings (inequivalent arg)"),
        ];
        for (parts, verdict, words) in cases {
            let finding = judge(&parts, &|cause| format!("it has other settings ({cause}): delete it"));
            assert!(finding.verdict == verdict && finding.found.contains(words), "{finding:?}");
        }
    }
}
