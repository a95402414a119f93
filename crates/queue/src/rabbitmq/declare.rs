//! Declaring for programs that may not declare themselves: the topology, and the exchange of bucket events.

use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;

use super::connect::{ConnectionSettings, PersistentConnection};
use super::failure::{cause, events_refused};
use super::topology::{DeclareMode, declare_exchange};
use super::upgrade::warn_if_unfinished;
use crate::{BrokerError, BrokerOptions};

pub(crate) async fn declare_topology(options: &BrokerOptions, startup: Duration) -> Result<(), BrokerError> {
    let settings = Arc::new(ConnectionSettings::new(options, "declare", DeclareMode::Always)?);
    let connection = PersistentConnection::open(&settings, startup).await?;
    settings.warn_of_policies().await;
    let looked = warn_if_unfinished(&connection).await;
    connection.close().await;
    looked
}

/// Declares a durable topic exchange; returns its name with the prefix.
pub(crate) async fn declare(options: &BrokerOptions, exchange: &str, startup: Duration) -> Result<String, BrokerError> {
    let name = format!("{}{exchange}", options.queue_prefix);
    let settings = Arc::new(ConnectionSettings::new(options, "watch-setup", DeclareMode::IfAllowed)?);
    let connection = PersistentConnection::open(&settings, startup).await?;
    let declared = declare_on(&connection, &name, options.publish_timeout).await;
    connection.close().await;
    declared.map(|()| name)
}

async fn declare_on(
    connection: &PersistentConnection,
    name: &str,
    request_timeout: Duration,
) -> Result<(), BrokerError> {
    let unreachable =
        |cause: String| BrokerError::Unreachable(format!("cannot declare exchange {name} ({cause}): check AMQP_URL"));
    let Some(live) = connection.live().await else { return Err(unreachable("the connection is closed".to_owned())) };
    let declaring = async {
        let channel = live.channel().await?;
        Ok(declare_exchange(&channel, name.into(), ExchangeKind::Topic).await)
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
