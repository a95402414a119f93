//! What is declared for those who cannot do that themselves: the exchange that others publish their events to, and the
//! whole topology, for stages whose users may not.

use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::connect::{ConnectionSettings, PersistentConnection};
use super::failure::{FailureKind, cause, classify};
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

/// Declares a durable topic exchange; tells its whole name.
pub(crate) async fn declare(options: &BrokerOptions, exchange: &str, startup: Duration) -> Result<String, BrokerError> {
    let name = format!("{}{exchange}", options.queue_prefix);
    let settings = Arc::new(ConnectionSettings::new(options, "watch-setup", DeclareMode::IfAllowed)?);
    let link = PersistentConnection::open(&settings, startup).await?;
    let declared = declare_on(&link, &name, options.publish_timeout).await;
    link.close().await;
    declared.map(|()| name)
}

async fn declare_on(link: &PersistentConnection, name: &str, request_timeout: Duration) -> Result<(), BrokerError> {
    let away = |cause: String| BrokerError::Away(format!("cannot declare exchange {name} ({cause}): check AMQP_URL"));
    let Some(live) = link.live().await else { return Err(away("the connection is closed".to_owned())) };
    let declaring = async {
        let channel = live.channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        Ok(channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await)
    };
    match live.attempt(request_timeout, declaring).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if classify(&error) == FailureKind::DeclaredOtherwise => Err(BrokerError::Usage(format!(
            "RabbitMQ has exchange {name} with other settings ({}): make it a durable topic exchange, or choose another one \
             with EVENTS_EXCHANGE",
            cause(&error)
        ))),
        Ok(Err(error)) if classify(&error) == FailureKind::Refused => Err(BrokerError::Usage(format!(
            "RabbitMQ does not let the user of AMQP_URL declare exchange {name} ({}): grant it, or use another user",
            cause(&error)
        ))),
        Ok(Err(error)) => Err(away(cause(&error))),
        Err(cause) => Err(away(cause)),
    }
}
