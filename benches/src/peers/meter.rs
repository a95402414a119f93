//! Processor time and memory of a peer and of the services that it uses. Everything that this process started, apart from the ML
//! API, is the peer's.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::usage::{children, cpu, cpu_of_children, cpu_of_service, cpu_of_tree, memory_kib};

/// Between two readings of memory. A reading costs milliseconds where a process has much of it, so only the first ones, which a small
/// file needs, follow each other closely.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const CLOSE_LOOKS: u32 = 30;
const LOOK_LATER: Duration = Duration::from_secs(1);

/// Processor time, so far or in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// All programs of the peer.
    pub(crate) own: Duration,
    pub(crate) ml_api: Duration,
    /// This process, which serves S3.
    pub(crate) harness: Duration,
    /// None if the service is not ours.
    pub(crate) postgres: Option<Duration>,
    pub(crate) rabbitmq: Option<Duration>,
}

impl Used {
    /// Reads what was used so far.
    ///
    /// A process that ends while it reads may be in neither count, its own nor that of its parent. It is in the next reading.
    pub(crate) fn so_far(ml_api: u32) -> Self {
        let [one, other] = [(); 2].map(|()| Self::read(ml_api));
        Self {
            own: one.own.max(other.own),
            ml_api: one.ml_api.max(other.ml_api),
            harness: one.harness,
            postgres: one.postgres.max(other.postgres),
            rabbitmq: one.rabbitmq.max(other.rabbitmq),
        }
    }

    fn read(ml_api: u32) -> Self {
        let of_ml_api = cpu_of_tree(ml_api);
        Self {
            own: cpu_of_children().saturating_sub(of_ml_api),
            ml_api: of_ml_api,
            harness: cpu(std::process::id()).unwrap_or_default(),
            postgres: cpu_of_service("TEST_POSTGRES_PID"),
            rabbitmq: cpu_of_service("TEST_RABBITMQ_PID"),
        }
    }

    /// What was used since then.
    pub(crate) fn since(self, then: Self) -> Self {
        let service = |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        Self {
            own: self.own.saturating_sub(then.own),
            ml_api: self.ml_api.saturating_sub(then.ml_api),
            harness: self.harness.saturating_sub(then.harness),
            postgres: service(self.postgres, then.postgres),
            rabbitmq: service(self.rabbitmq, then.rabbitmq),
        }
    }
}

/// Watches the memory of all programs of the peer together.
#[derive(Debug)]
pub(crate) struct Memory {
    stop: oneshot::Sender<()>,
    task: JoinHandle<[u64; 2]>,
}

impl Memory {
    pub(crate) fn watch(ml_api: u32) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut peak = [0; 2];
            let mut looks = 0;
            loop {
                peak = most(peak, look(ml_api));
                looks += 1;
                let pause = sleep(if looks < CLOSE_LOOKS { LOOK_AGAIN } else { LOOK_LATER });
                tokio::select! {
                    _ = &mut stopped => return peak,
                    () = pause => {}
                }
            }
        });
        Self { stop, task }
    }

    /// Returns the most in KiB: resident, and with shared pages divided among those that share them.
    pub(crate) async fn peak_kib(self) -> [u64; 2] {
        let _ = self.stop.send(());
        self.task.await.expect("the watch ends")
    }
}

fn look(ml_api: u32) -> [u64; 2] {
    let each = children(ml_api).into_iter().filter_map(memory_kib);
    each.fold([0; 2], |sum, of| [sum[0] + of[0], sum[1] + of[1]])
}

fn most(one: [u64; 2], other: [u64; 2]) -> [u64; 2] {
    [one[0].max(other[0]), one[1].max(other[1])]
}
