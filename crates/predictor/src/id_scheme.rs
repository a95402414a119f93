//! The scheme of ids, as the writers' notices name it: it belongs to their database, and a predictor has none.
//!
//! Guarantee: no transaction of an external producer is identified before a notice came.

use std::sync::atomic::{AtomicBool, Ordering};

use assay_queue::Message;
use assay_transaction::{IdScheme, IdentitiesNotice};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The scheme of ids, once it is known.
#[derive(Debug, Default)]
pub(crate) struct KnownIdScheme {
    known: watch::Sender<Option<IdScheme>>,
    is_wait_logged: AtomicBool,
}

impl KnownIdScheme {
    /// The scheme. Waits for the first notice.
    pub(crate) async fn get(&self) -> IdScheme {
        let mut known = self.known.subscribe();
        loop {
            if let Some(ids) = *known.borrow_and_update() {
                return ids;
            }
            if !self.is_wait_logged.swap(true, Ordering::Relaxed) {
                warn!(
                    "messages of external producers wait until a writer tells how their ids become identities: if this lasts, \
                     start a writer of this version"
                );
            }
            // An error would mean that the sender is gone, but `self` holds it.
            let _ = known.changed().await;
        }
    }

    /// Takes the scheme from a notice, and ignores other messages.
    pub(crate) fn receive(&self, message: &Message) {
        if message.kind != IdentitiesNotice::MESSAGE_TYPE {
            return;
        }
        match IdentitiesNotice::decode(&message.body) {
            Ok(notice) => self.learn(notice.ids),
            Err(error) => error!("the notice of a writer cannot be followed: {error}"),
        }
    }

    /// The latest notice holds: a writer refuses what was identified by another scheme.
    fn learn(&self, ids: IdScheme) {
        match self.known.send_replace(Some(ids)) {
            None if self.is_wait_logged.load(Ordering::Relaxed) => {
                info!("ids follow scheme {ids}: messages of external producers are scored");
            }
            Some(before) if before != ids => error!(
                "ids follow scheme {ids} now, and followed scheme {before} before: writers of different databases share these \
                 queues; give each database a QUEUE_PREFIX of its own"
            ),
            None | Some(_) => {}
        }
    }

    /// One that is known from the start.
    #[cfg(test)]
    pub(crate) fn known(ids: IdScheme) -> Self {
        let known = Self::default();
        known.learn(ids);
        known
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn notice(kind: &str, body: &str) -> Message {
        Message::new("", kind, &"run".parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn the_latest_notice_holds() {
        let scheme = KnownIdScheme::default();
        let mut waiting = std::pin::pin!(scheme.get());
        assert!(waiting.as_mut().now_or_never().is_none());
        for (kind, body) in [("assay.other.v1", r#"{"ids":8}"#), (IdentitiesNotice::MESSAGE_TYPE, r#"{"ids":9}"#)] {
            scheme.receive(&notice(kind, body));
            assert!(waiting.as_mut().now_or_never().is_none(), "{kind}");
        }
        scheme.receive(&notice(IdentitiesNotice::MESSAGE_TYPE, r#"{"ids":8}"#));
        assert_eq!(waiting.await, IdScheme::V8);
        scheme.receive(&notice(IdentitiesNotice::MESSAGE_TYPE, r#"{"ids":5}"#));
        assert_eq!(scheme.get().await, IdScheme::V5);
    }
}
