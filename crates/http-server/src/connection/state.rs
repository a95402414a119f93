//! What a connection is doing: its stream, its service and the server share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Limits;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    inner: Mutex<Inner>,
    /// Cancelled when the connection has to go.
    pub(crate) closed: CancellationToken,
    /// Told when the connection could be closed without harm, which a server without room waits for.
    idle: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    phase: ConnectionPhase,
    /// Whether a request on it was answered with success: of connections that are as idle, such a one is kept longer.
    is_proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// A head is to come, and its time runs since then.
    Head(Instant),
    /// A request is being answered.
    Answering,
    /// The answer is complete, but perhaps not sent yet.
    Answered,
    /// Everything is answered and sent, since then.
    Idle(Instant),
    /// It has been given up.
    Closed,
}

impl ConnectionState {
    /// Of a connection that was accepted now.
    pub(crate) fn new(idle: Arc<Notify>) -> Arc<Self> {
        let inner = Inner { phase: ConnectionPhase::Head(Instant::now()), is_proven: false };
        Arc::new(Self { inner: Mutex::new(inner), closed: CancellationToken::new(), idle })
    }

    /// Bytes have come in.
    pub(crate) fn received(&self) {
        let mut inner = self.inner();
        if matches!(inner.phase, ConnectionPhase::Idle(_) | ConnectionPhase::Answered) {
            inner.phase = ConnectionPhase::Head(Instant::now());
        }
    }

    /// Nothing has come in, and nothing waits to be sent: until when that may go on.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let mut inner = self.inner();
        if inner.phase == ConnectionPhase::Answered {
            inner.phase = ConnectionPhase::Idle(Instant::now());
            self.idle.notify_one();
        }
        match inner.phase {
            ConnectionPhase::Head(since) => Some(since + limits.head),
            ConnectionPhase::Idle(since) => Some(since + limits.idle),
            ConnectionPhase::Answering | ConnectionPhase::Answered | ConnectionPhase::Closed => None,
        }
    }

    /// A request begins to be answered; none does on a connection that has been given up.
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

    /// Closes the connection, unless it owes an answer.
    pub(crate) fn close_if_silent(&self) -> bool {
        let mut inner = self.inner();
        let is_silent = matches!(inner.phase, ConnectionPhase::Head(_) | ConnectionPhase::Idle(_));
        if is_silent {
            inner.phase = ConnectionPhase::Closed;
            self.closed.cancel();
        }
        is_silent
    }

    /// How much closing it would cost: whether it is proven, and since when it is silent. None while it owes an answer.
    pub(crate) fn eviction_rank(&self) -> Option<(bool, Instant)> {
        let inner = self.inner();
        match inner.phase {
            ConnectionPhase::Head(since) | ConnectionPhase::Idle(since) => Some((inner.is_proven, since)),
            ConnectionPhase::Answering | ConnectionPhase::Answered | ConnectionPhase::Closed => None,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is a single one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a request is being answered, until the last byte of the answer has been handed over.
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
