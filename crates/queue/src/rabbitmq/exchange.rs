//! The exchange that others publish their events to, declared for those who cannot do that themselves.

use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::connection::{Link, Settings};
use super::failure::{Verdict, cause, verdict};
use super::topology::Topology;
use crate::{BrokerError, BrokerOptions};

/// Declares a durable topic exchange; tells its whole name.
pub(crate) async fn declare(
    address: &str,
    options: &BrokerOptions,
    exchange: &str,
    startup: Duration,
) -> Result<String, BrokerError> {
    let name = format!("{}{exchange}", options.queue_prefix);
    let topology = Topology::new(&options.queue_prefix, options.queue_max_length);
    let settings = Arc::new(Settings::new(address, "watch-setup", topology, options.publish_timeout)?);
    let link = Link::open(&settings, startup).await?;
    let declared = declare_on(&link, &name, options.publish_timeout).await;
    link.close().await;
    declared.map(|()| name)
}

async fn declare_on(link: &Link, name: &str, patience: Duration) -> Result<(), BrokerError> {
    let away = |cause: String| BrokerError::Away(format!("cannot declare exchange {name} ({cause}): check AMQP_URL"));
    let Some(live) = link.live().await else { return Err(away("the connection is closed".to_owned())) };
    let declaring = async {
        let channel = live.channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        Ok(channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await)
    };
    match live.attempt(patience, declaring).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if verdict(&error) == Verdict::DeclaredOtherwise => Err(BrokerError::Usage(format!(
            "RabbitMQ has exchange {name} with other settings ({}): make it a durable topic exchange, or choose another one \
             with EVENTS_EXCHANGE",
            cause(&error)
        ))),
        Ok(Err(error)) => Err(away(cause(&error))),
        Err(cause) => Err(away(cause)),
    }
}
