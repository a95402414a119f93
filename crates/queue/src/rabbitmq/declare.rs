//! Declaring for programs that may not declare themselves: the topology, and the exchange of bucket events.

use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::connect::{ConnectionSettings, PersistentConnection};
use super::failure::{cause, events_refused};
use super::topology::DeclareMode;
use crate::{BrokerError, BrokerOptions};

/// Declares all exchanges and queues.
pub(crate) async fn declare_topology(options: &BrokerOptions, startup: Duration) -> Result<(), BrokerError> {
    let settings = Arc::new(ConnectionSettings::new(options, "declare", DeclareMode::Always)?);
    let link = PersistentConnection::open(&settings, startup).await?;
    settings.warn_of_policies().await;
    link.close().await;
    Ok(())
}

/// Declares a durable topic exchange; returns its name with the prefix.
pub(crate) async fn declare(options: &BrokerOptions, exchange: &str, startup: Duration) -> Result<String, BrokerError> {
    let name = format!("{}{exchange}", options.queue_prefix);
    let settings = Arc::new(ConnectionSettings::new(options, "watch-setup", DeclareMode::IfAllowed)?);
    let link = PersistentConnection::open(&settings, startup).await?;
    let declared = declare_on(&link, &name, options.publish_timeout).await;
    link.close().await;
    declared.map(|()| name)
}

async fn declare_on(link: &PersistentConnection, name: &str, request_timeout: Duration) -> Result<(), BrokerError> {
    let unreachable =
        |cause: String| BrokerError::Unreachable(format!("cannot declare exchange {name} ({cause}): check AMQP_URL"));
    let Some(live) = link.live().await else { return Err(unreachable("the connection is closed".to_owned())) };
    let declaring = async {
        let channel = live.channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        Ok(channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await)
    };
    match live.attempt(request_timeout, declaring).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let what = format!("exchange {name}");
            let refused = events_refused(&error, &what, &format!("declare {what}"), "use another user");
            Err(refused.unwrap_or_else(|| unreachable(cause(&error))))
        }
        Err(cause) => Err(unreachable(cause)),
    }
}
