//! Reads the body of a request, within bounds of time and memory.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a body is still read after the shutdown signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// The server's shutdown signal; each request carries it.
#[derive(Debug, Clone)]
pub(crate) struct ShutdownSignal(pub(crate) CancellationToken);

/// Reads the bodies of a server's requests; bounds each of them, and all of them in memory together.
#[derive(Debug)]
pub struct BodyReader {
    max_bytes: u32,
    time: Duration,
    room: Arc<Semaphore>,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than {0} bytes")]
    TooLong(u32),
    /// It was not received in time.
    #[error("the body was not received within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// It ended early, or is malformed.
    #[error("the body could not be read completely")]
    Broken,
    /// Other bodies used all memory for too long.
    #[error("the server has no memory left for this body: try again later")]
    NoRoom,
    /// The server is shutting down, and does not wait for the rest.
    #[error("the server is shutting down: try again later")]
    ShuttingDown,
}

impl BodyError {
    /// The status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::NoRoom | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A complete body. It counts against the memory bound until `room` is dropped: keep that as long as what was made of the
/// body.
#[derive(Debug)]
pub struct ReadBody {
    /// The content.
    pub bytes: Bytes,
    /// The reserved memory.
    pub room: OwnedSemaphorePermit,
}

impl BodyReader {
    /// Allows `max_bytes` and `time` for each body, and `max_total_bytes` for all together.
    pub fn new(max_bytes: u32, max_total_bytes: u32, time: Duration) -> Self {
        Self { max_bytes, time, room: Arc::new(Semaphore::new(max_bytes.max(max_total_bytes) as usize)) }
    }

    /// Reads the body of a request. Authorize the request before.
    pub async fn read(&self, request: Request) -> Result<ReadBody, BodyError> {
        let (parts, body) = request.into_parts();
        let shutdown =
            parts.extensions.get::<ShutdownSignal>().map_or_else(CancellationToken::new, |signal| signal.0.clone());
        let reading = self.read_within(body, Instant::now() + self.time);
        let overdue = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            biased;
            read = reading => read,
            () = overdue => Err(BodyError::ShuttingDown),
        }
    }

    async fn read_within(&self, body: Body, deadline: Instant) -> Result<ReadBody, BodyError> {
        let announced = body.size_hint();
        if announced.lower() > self.max_bytes.into() {
            return Err(BodyError::TooLong(self.max_bytes));
        }
        let reserved =
            announced.upper().and_then(|upper| u32::try_from(upper).ok()).unwrap_or(self.max_bytes).min(self.max_bytes);
        let room = timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(reserved)).await;
        // The semaphore is never closed.
        let Ok(Ok(mut room)) = room else { return Err(BodyError::NoRoom) };
        let reading = read(body, self.max_bytes);
        let bytes = timeout_at(deadline, reading).await.map_err(|_| BodyError::Slow(self.time))??;
        drop(room.split((reserved as usize).saturating_sub(bytes.len())));
        Ok(ReadBody { bytes, room })
    }
}

async fn read(body: Body, max_bytes: u32) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > max_bytes as usize {
            return Err(BodyError::TooLong(max_bytes));
        }
        // Copied, as a frame may be part of a larger buffer and keep it alive.
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    /// A body of unknown length: these pieces, then its end, or nothing more.
    struct ChunkedBody(Vec<&'static str>, bool);

    impl hyper::body::Body for ChunkedBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                Some(piece) => Poll::Ready(Some(Ok(hyper::body::Frame::data(piece.into())))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn unfinished(pieces: &[&'static str]) -> Body {
        Body::new(ChunkedBody(pieces.iter().rev().copied().collect(), false))
    }

    async fn read(bodies: &BodyReader, body: impl Into<Body>) -> Result<ReadBody, BodyError> {
        bodies.read(Request::new(body.into())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_bytes_and_time() {
        let bodies = BodyReader::new(10, 10, TIME);
        for body in ["", "0123456789"] {
            assert_eq!(read(&bodies, body).await.unwrap().bytes, body);
        }
        assert_eq!(read(&bodies, "0123456789a").await.unwrap_err(), BodyError::TooLong(10));
        assert_eq!(read(&bodies, unfinished(&["0123456789", "a"])).await.unwrap_err(), BodyError::TooLong(10));
        assert_eq!(read(&bodies, unfinished(&["012"])).await.unwrap_err(), BodyError::Slow(TIME));
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_together_are_bounded() {
        let bodies = BodyReader::new(10, 15, TIME);
        let first = read(&bodies, "0123456789").await.unwrap();
        let second = read(&bodies, "01234").await.unwrap();
        assert_eq!(read(&bodies, "0").await.unwrap_err(), BodyError::NoRoom);
        drop(second);
        let third = read(&bodies, "01234").await.unwrap();
        let waiting = read(&bodies, unfinished(&["0123456789a"]));
        let freeing = async {
            tokio::task::yield_now().await;
            drop((first, third));
        };
        let (waited, ()) = tokio::join!(waiting, freeing);
        assert_eq!(waited.unwrap_err(), BodyError::TooLong(10));
        // A body of unknown length keeps only what it turned out to need.
        let unsized_body = read(&bodies, Body::new(ChunkedBody(vec!["01234"], true))).await.unwrap();
        let other = read(&bodies, "0123456789").await.unwrap();
        assert_eq!((unsized_body.bytes.len(), other.bytes.len()), (5, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_waits_only_a_moment_for_a_body() {
        let bodies = BodyReader::new(10, 10, TIME);
        let shutdown = ShutdownSignal(CancellationToken::new());
        let mut request = Request::new(unfinished(&["0"]));
        request.extensions_mut().insert(shutdown.clone());
        let began = Instant::now();
        let stopping = async { shutdown.0.cancel() };
        let (read, ()) = tokio::join!(bodies.read(request), stopping);
        assert_eq!((read.unwrap_err(), began.elapsed()), (BodyError::ShuttingDown, SHUTDOWN_GRACE));
    }
}
