//! The runs that were stopped, by the notices of the control exchange: their chunks are no longer scored.
//!
//! A notice is repeated every few seconds until the run is finished, so a predictor that starts later receives it too. Until
//! then it scores the chunk, which keeps the law as well.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use assay_queue::Message;
use assay_telemetry::in_run_span;
use assay_transaction::{RunId, StopNotice};
use tokio::sync::watch;
use tracing::{debug, info};

/// Notices kept: far more than there are stopped runs with waiting chunks.
const MAX_NOTICES: usize = 1_000;

/// The runs that were stopped.
#[derive(Debug, Default)]
pub(crate) struct StoppedRuns {
    notices: Mutex<VecDeque<StopNotice>>,
    changed: watch::Sender<()>,
}

impl StoppedRuns {
    /// The notice of a run, if it was stopped.
    pub(crate) fn notice(&self, run_id: &RunId) -> Option<StopNotice> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.iter().find(|notice| notice.run_id == *run_id).cloned()
    }

    /// Waits until a run is stopped.
    pub(crate) async fn stopped(&self, run_id: &RunId) {
        let mut changed = self.changed.subscribe();
        while self.notice(run_id).is_none() {
            // An error would mean that the sender is gone, but `self` holds it.
            let _ = changed.changed().await;
        }
    }

    fn add(&self, notice: StopNotice) {
        if self.notice(&notice.run_id).is_some() {
            return;
        }
        in_run_span(&notice.run_id, || {
            info!("run {} is {}: its chunks are no longer scored", notice.run_id, notice.kind.as_str());
        });
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == MAX_NOTICES {
            notices.pop_front();
        }
        notices.push_back(notice);
        drop(notices);
        self.changed.send_replace(());
    }

    /// Takes the run from a notice, and ignores other messages.
    pub(crate) fn receive(&self, message: &Message) {
        if message.kind != StopNotice::MESSAGE_TYPE {
            return;
        }
        match StopNotice::decode(&message.body) {
            Ok(notice) => self.add(notice),
            Err(error) => debug!("ignoring a notice: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::StopKind;
    use futures_util::FutureExt as _;

    use super::*;

    fn notice(run: &str) -> StopNotice {
        StopNotice { run_id: run.parse().unwrap(), kind: StopKind::Cancelled, reason: "mistake".into() }
    }

    fn message(kind: &str, body: Vec<u8>) -> Message {
        Message::new("", kind, &"run".parse().unwrap(), body)
    }

    #[tokio::test]
    async fn a_waiter_for_a_run_receives_its_notice() {
        let stopped = StoppedRuns::default();
        let run: RunId = "run".parse().unwrap();
        let mut waiting = std::pin::pin!(stopped.stopped(&run));
        stopped.receive(&message("assay.other.v1", notice("run").encode().unwrap()));
        stopped.receive(&message(StopNotice::MESSAGE_TYPE, b"{}".to_vec()));
        stopped.receive(&message(StopNotice::MESSAGE_TYPE, notice("other").encode().unwrap()));
        assert!(waiting.as_mut().now_or_never().is_none());
        stopped.receive(&message(StopNotice::MESSAGE_TYPE, notice("run").encode().unwrap()));
        waiting.await;
        assert_eq!(stopped.notice(&run), Some(notice("run")));
    }

    #[test]
    fn the_number_of_notices_is_bounded() {
        let stopped = StoppedRuns::default();
        for number in 0..=MAX_NOTICES {
            stopped.add(notice(&format!("run-{number}")));
            stopped.add(notice(&format!("run-{number}")));
        }
        assert_eq!(stopped.notice(&"run-0".parse().unwrap()), None);
        assert_eq!(stopped.notices.lock().unwrap().len(), MAX_NOTICES);
    }
}
