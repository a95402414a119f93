//! The runs that were stopped, as the control exchange tells: their chunks are not scored any more.
//!
//! What is told is told again every few seconds for as long as the run is not finished, so a predictor that starts later
//! hears of it too. One that has not changed of it yet scores the chunk, which is just as lawful.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use assay_queue::{Broker, Listener, Message};
use assay_telemetry::about_run;
use assay_transaction::{RunId, StopNotice};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::PredictError;

/// How many runs are remembered: far more than are stopped while their chunks wait.
const MAX_NOTICES: usize = 1_000;

/// The runs that were stopped.
#[derive(Debug, Default)]
pub(crate) struct StoppedRuns {
    notices: Mutex<VecDeque<StopNotice>>,
    changed: watch::Sender<()>,
}

impl StoppedRuns {
    /// The notice of a run, where it was stopped.
    pub(crate) fn notice(&self, run_id: &RunId) -> Option<StopNotice> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.iter().find(|notice| notice.run_id == *run_id).cloned()
    }

    /// Waits until a run is stopped.
    pub(crate) async fn stopped(&self, run_id: &RunId) {
        let mut changed = self.changed.subscribe();
        while self.notice(run_id).is_none() {
            // An error would mean that the sender is gone, but it is ours.
            let _ = changed.changed().await;
        }
    }

    fn add(&self, notice: StopNotice) {
        if self.notice(&notice.run_id).is_some() {
            return;
        }
        about_run(&notice.run_id, || {
            info!("run {} is {}: its chunks are not scored any more", notice.run_id, notice.kind.as_str());
        });
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == MAX_NOTICES {
            notices.pop_front();
        }
        notices.push_back(notice);
        drop(notices);
        self.changed.send_replace(());
    }

    /// Takes in what is told, until the broker is closed.
    pub(crate) async fn listen(&self, broker: &dyn Broker) -> Result<(), PredictError> {
        let mut listener: Box<dyn Listener> = broker.listen().await?;
        while let Some(message) = listener.next().await {
            self.receive(&message);
        }
        Ok(())
    }

    /// Other things may be told on the same exchange, also by a newer version.
    fn receive(&self, message: &Message) {
        if message.kind != StopNotice::MESSAGE_TYPE {
            return;
        }
        match StopNotice::decode(&message.body) {
            Ok(notice) => self.add(notice),
            Err(error) => debug!("passing over a notice: {error}"),
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
    async fn who_waits_for_a_run_hears_of_it() {
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
    fn what_is_remembered_is_bounded() {
        let stopped = StoppedRuns::default();
        for number in 0..=MAX_NOTICES {
            stopped.add(notice(&format!("run-{number}")));
            stopped.add(notice(&format!("run-{number}")));
        }
        assert_eq!(stopped.notice(&"run-0".parse().unwrap()), None);
        assert_eq!(stopped.notices.lock().unwrap().len(), MAX_NOTICES);
    }
}
