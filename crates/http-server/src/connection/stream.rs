//! The stream of a connection, with time-outs for reading and writing.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::ServerLimits;
use crate::connection::state::ConnectionState;

/// A stream that fails when the client is silent or does not read for too long, by the state of its connection.
pub(crate) struct TimedStream<IO> {
    stream: IO,
    state: Arc<ConnectionState>,
    limits: ServerLimits,
    silence: Pin<Box<Sleep>>,
    /// Runs while data cannot be written.
    sending: Option<Pin<Box<Sleep>>>,
}

impl<IO> TimedStream<IO> {
    pub(crate) fn new(stream: IO, state: Arc<ConnectionState>, limits: ServerLimits) -> Self {
        let silence = Box::pin(sleep_until(Instant::now() + limits.head_timeout));
        Self { stream, state, limits, silence, sending: None }
    }

    /// Fails once nothing could be written for too long.
    fn poll_sending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limits.write_timeout;
        let sending = self.sending.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(sending.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client did not read the response in time")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for TimedStream<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                this.state.received();
            }
            return Poll::Ready(read);
        }
        if this.sending.is_some() {
            return Poll::Pending;
        }
        let Some(deadline) = this.state.deadline(&this.limits) else { return Poll::Pending };
        if this.silence.deadline() != deadline {
            this.silence.as_mut().reset(deadline);
        }
        ready!(this.silence.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client sent no complete request in time")))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for TimedStream<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Pending => this.poll_sending(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(context, bytes) {
            Poll::Pending => this.poll_sending(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Pending => this.poll_sending(context),
            flushed @ Poll::Ready(_) => {
                this.sending = None;
                flushed
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
