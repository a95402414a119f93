//! The state of a connection, shared by its stream, its service and the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ServerLimits;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    inner: Mutex<Inner>,
    /// Cancelled to close the connection.
    pub(crate) closed: CancellationToken,
    /// Notified when the connection becomes idle; a full server waits for that.
    idle: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    phase: ConnectionPhase,
    /// Whether a request on it succeeded; such a connection is kept longer than others.
    is_proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// Waiting for a head since then.
    Head(Instant),
    /// Processing a request.
    Answering,
    /// The response is complete, but perhaps not sent yet.
    Answered,
    /// Idle since then, with everything sent.
    Idle(Instant),
    /// To be dropped.
    Closed,
}

impl ConnectionState {
    /// The state of a connection accepted now.
    pub(crate) fn new(idle: Arc<Notify>) -> Arc<Self> {
        let inner = Inner { phase: ConnectionPhase::Head(Instant::now()), is_proven: false };
        Arc::new(Self { inner: Mutex::new(inner), closed: CancellationToken::new(), idle })
    }

    /// Records that bytes were received.
    pub(crate) fn received(&self) {
        let mut inner = self.inner();
        if matches!(inner.phase, ConnectionPhase::Idle(_) | ConnectionPhase::Answered) {
            inner.phase = ConnectionPhase::Head(Instant::now());
        }
    }

    /// How long the connection may stay silent, with nothing received and nothing to send.
    pub(crate) fn deadline(&self, limits: &ServerLimits) -> Option<Instant> {
        let mut inner = self.inner();
        if inner.phase == ConnectionPhase::Answered {
            inner.phase = ConnectionPhase::Idle(Instant::now());
            self.idle.notify_one();
        }
        match inner.phase {
            ConnectionPhase::Head(since) => Some(since + limits.head_timeout),
            ConnectionPhase::Idle(since) => Some(since + limits.idle_timeout),
            ConnectionPhase::Answering | ConnectionPhase::Answered | ConnectionPhase::Closed => None,
        }
    }

    /// Begins a request; `None` if the connection is closed.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<ResponseGuard> {
        let mut inner = self.inner();
        if inner.phase == ConnectionPhase::Closed {
            return None;
        }
        inner.phase = ConnectionPhase::Answering;
        Some(ResponseGuard(Arc::clone(self)))
    }

    pub(crate) fn mark_proven(&self) {
        self.inner().is_proven = true;
    }

    /// Closes the connection, unless it owes a response.
    pub(crate) fn close_if_silent(&self) -> bool {
        let mut inner = self.inner();
        let is_silent = matches!(inner.phase, ConnectionPhase::Head(_) | ConnectionPhase::Idle(_));
        if is_silent {
            inner.phase = ConnectionPhase::Closed;
            self.closed.cancel();
        }
        is_silent
    }

    /// The order of closing: whether it is proven, and since when it is silent. `None` while it owes a response.
    pub(crate) fn eviction_rank(&self) -> Option<(bool, Instant)> {
        let inner = self.inner();
        match inner.phase {
            ConnectionPhase::Head(since) | ConnectionPhase::Idle(since) => Some((inner.is_proven, since)),
            ConnectionPhase::Answering | ConnectionPhase::Answered | ConnectionPhase::Closed => None,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is a single assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a request as in progress until the last byte of its response has been handed over.
#[derive(Debug)]
pub(crate) struct ResponseGuard(Arc<ConnectionState>);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        if inner.phase == ConnectionPhase::Answering {
            inner.phase = ConnectionPhase::Answered;
        }
    }
}
