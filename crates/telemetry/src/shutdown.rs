//! Signals: SIGTERM and Ctrl-C ask for an orderly end; a second one ends the process at once.

use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first SIGTERM or Ctrl-C. Whoever holds it stops its intake, drains and returns. The
/// second signal ends the process at once: what it held is redelivered, or read again from the last checkpoint.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let shutdown = token.clone();
    // Before the task is spawned: a signal that comes right now is heard too.
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("shutting down; a second signal ends at once");
        shutdown.cancel();
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
    token
}

/// SIGTERM and Ctrl-C. One that cannot be listened for ends the process, as it does by default.
struct Signals(Vec<tokio::signal::unix::Signal>);

impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(
            [SignalKind::terminate(), SignalKind::interrupt()]
                .into_iter()
                .filter_map(|kind| signal(kind).ok())
                .collect(),
        )
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let heard = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if heard { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}
