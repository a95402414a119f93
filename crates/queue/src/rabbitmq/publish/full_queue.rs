//! Backpressure of a full queue. RabbitMQ does not notify publishers of room, and hundreds of them retrying independently would
//! send the same bodies over and over. So one publisher probes at a time; once it succeeds, all continue.

use std::time::Duration;

use assay_connect::RetryPolicy;
use tokio::sync::{Mutex, watch};

/// Its jitter keeps processes from probing in step.
const PROBE: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_millis(100));

pub(crate) struct FullQueueGate {
    is_open: watch::Sender<bool>,
    probing: Mutex<()>,
}

impl Default for FullQueueGate {
    fn default() -> Self {
        Self { is_open: watch::Sender::new(true), probing: Mutex::default() }
    }
}

impl FullQueueGate {
    /// A publish succeeded.
    pub(crate) fn open(&self) {
        self.is_open.send_if_modified(|is_open| !std::mem::replace(is_open, true));
    }

    /// A publish found the queue full.
    pub(crate) fn close(&self) {
        self.is_open.send_if_modified(|is_open| std::mem::replace(is_open, false));
    }

    /// Waits until the gate is open, or until it is this caller's turn to probe.
    pub(crate) async fn wait(&self) {
        let mut is_open = self.is_open.subscribe();
        let turn = async {
            let _probing = self.probing.lock().await;
            tokio::time::sleep(PROBE.delay(0)).await;
        };
        tokio::select! {
            _ = is_open.wait_for(|is_open| *is_open) => {}
            () = turn => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_probes_and_all_continue_once_it_opens() {
        let gate = Arc::new(FullQueueGate::default());
        gate.wait().await;
        gate.close();
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            let gate = Arc::clone(&gate);
            waiting.spawn(async move { gate.wait().await });
        }
        // The first to continue is a probe; the others are still waiting.
        waiting.join_next().await.unwrap().unwrap();
        assert!(waiting.try_join_next().is_none());
        let before = tokio::time::Instant::now();
        gate.open();
        while waiting.join_next().await.is_some() {}
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
