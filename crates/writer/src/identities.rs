//! Tells the predictors how ids become identities in the database of this writer.

use std::convert::Infallible;
use std::time::Duration;

use assay_queue::{Broker, Message};
use assay_transaction::{IdScheme, IdentitiesNotice};
use tracing::debug;

/// Interval between two notices. Shorter than that of sweeps: live transactions wait for a predictor that has just started.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// Broadcasts the scheme of ids at intervals, until it is dropped. A predictor that misses a notice receives the next.
pub(crate) async fn announce(broker: &dyn Broker, ids: IdScheme) -> Infallible {
    loop {
        if let Ok(body) = (IdentitiesNotice { ids }).encode() {
            let message = Message::without_run(IdentitiesNotice::MESSAGE_TYPE, body);
            if let Err(error) = broker.broadcast(message).await {
                debug!("cannot tell yet how ids become identities: {error}");
            }
        }
        tokio::time::sleep(NOTICE_INTERVAL).await;
    }
}

/// Why a message is refused whose ids follow another scheme than those of the database.
pub(crate) fn foreign_scheme(found: IdScheme, ours: IdScheme) -> String {
    format!(
        "its ids follow scheme {found}, and those of this database scheme {ours}: update the program that sent it, or give \
         each database queues of its own by QUEUE_PREFIX, and send it again"
    )
}
