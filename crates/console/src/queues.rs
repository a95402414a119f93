//! The queues as the pages show them: asked for at most once in two seconds, however many people look.

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_report::{QueueProbe, QueueSnapshot};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(2);
/// Time until a broker that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// The queues of a broker, if one is set.
pub(crate) struct Queues {
    options: BrokerOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    probe: Option<QueueProbe>,
    last: Option<(Instant, Option<QueueSnapshot>)>,
}

impl Queues {
    pub(crate) fn new(options: BrokerOptions) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Length at which a queue is full.
    pub(crate) fn full_at(&self) -> u64 {
        self.options.queue_max_length.into()
    }

    /// The messages now, or within the last seconds; none if no broker is set.
    pub(crate) async fn snapshot(&self) -> Option<QueueSnapshot> {
        let mut state = self.state.lock().await;
        if let Some((at, last)) = &state.last {
            let kept = if matches!(last, Some(QueueSnapshot::Unknown { .. })) { PAUSE } else { FRESH };
            if at.elapsed() < kept {
                return last.clone();
            }
        }
        let probe = match state.probe.take() {
            Some(probe) => probe,
            None => QueueProbe::connect(&self.options, "console", CONNECT).await,
        };
        let snapshot = probe.snapshot().await;
        // A connection that failed is not used again.
        if matches!(snapshot, Some(QueueSnapshot::Unknown { .. })) {
            probe.close().await;
        } else {
            state.probe = Some(probe);
        }
        state.last = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// Disconnects.
    pub(crate) async fn close(&self) {
        if let Some(probe) = self.state.lock().await.probe.take() {
            probe.close().await;
        }
    }
}
