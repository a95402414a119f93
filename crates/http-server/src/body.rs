//! The body of a request: read within a time, and only where there is room for it.

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

/// How long a server that is ending waits for what is under way of a body.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// That the server is ending, which each request carries.
#[derive(Debug, Clone)]
pub(crate) struct ShutdownSignal(pub(crate) CancellationToken);

/// The bodies of a server's requests: each of them is bounded, and so is the sum of those that are in memory.
#[derive(Debug)]
pub struct Bodies {
    most: u32,
    time: Duration,
    room: Arc<Semaphore>,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than one may be.
    #[error("the body is longer than {0} bytes")]
    TooLong(u32),
    /// It did not come in time.
    #[error("the body did not come within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// It broke off, or is no body.
    #[error("the body could not be read to its end")]
    Broken,
    /// Other bodies took up the room for as long as one waits for it.
    #[error("the bodies of other requests leave no room for this one: send it again later")]
    NoRoom,
    /// The server is ending, and does not wait for the rest.
    #[error("the server is shutting down: send it again later")]
    ShuttingDown,
}

impl BodyError {
    /// The status of an answer that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::NoRoom | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A body that was read. Its room is taken until this is dropped: keep it as long as what was made of the body.
#[derive(Debug)]
pub struct ReadBody {
    /// What came.
    pub bytes: Bytes,
    /// The room of what it becomes.
    pub room: OwnedSemaphorePermit,
}

impl Bodies {
    /// Bodies of `most` bytes, and of `together` bytes in all, each of which may take so much time.
    pub fn new(most: u32, together: u32, time: Duration) -> Self {
        Self { most, time, room: Arc::new(Semaphore::new(most.max(together) as usize)) }
    }

    /// Reads the body of a request. Whether the request is allowed at all has to be decided before.
    pub async fn read(&self, request: Request) -> Result<ReadBody, BodyError> {
        let (parts, body) = request.into_parts();
        let ending =
            parts.extensions.get::<ShutdownSignal>().map_or_else(CancellationToken::new, |ending| ending.0.clone());
        let reading = self.read_within(body, Instant::now() + self.time);
        let overdue = async {
            ending.cancelled().await;
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
        if announced.lower() > self.most.into() {
            return Err(BodyError::TooLong(self.most));
        }
        let most = announced.upper().and_then(|upper| u32::try_from(upper).ok()).unwrap_or(self.most).min(self.most);
        let room = timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(most)).await;
        // The semaphore is never closed.
        let Ok(Ok(mut room)) = room else { return Err(BodyError::NoRoom) };
        let reading = read(body, self.most);
        let bytes = timeout_at(deadline, reading).await.map_err(|_| BodyError::Slow(self.time))??;
        drop(room.split((most as usize).saturating_sub(bytes.len())));
        Ok(ReadBody { bytes, room })
    }
}

async fn read(body: Body, most: u32) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > most as usize {
            return Err(BodyError::TooLong(most));
        }
        // Copied, as a piece may be part of a larger buffer that it would keep.
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

    /// A body of unknown length: these pieces, and then its end, or nothing more.
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

    async fn read(bodies: &Bodies, body: impl Into<Body>) -> Result<ReadBody, BodyError> {
        bodies.read(Request::new(body.into())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_bytes_and_time() {
        let bodies = Bodies::new(10, 10, TIME);
        for body in ["", "0123456789"] {
            assert_eq!(read(&bodies, body).await.unwrap().bytes, body);
        }
        assert_eq!(read(&bodies, "0123456789a").await.unwrap_err(), BodyError::TooLong(10));
        assert_eq!(read(&bodies, unfinished(&["0123456789", "a"])).await.unwrap_err(), BodyError::TooLong(10));
        assert_eq!(read(&bodies, unfinished(&["012"])).await.unwrap_err(), BodyError::Slow(TIME));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_bounded_in_all() {
        let bodies = Bodies::new(10, 15, TIME);
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
        // One of unknown length takes what it turned out to need.
        let unsized_body = read(&bodies, Body::new(ChunkedBody(vec!["01234"], true))).await.unwrap();
        let other = read(&bodies, "0123456789").await.unwrap();
        assert_eq!((unsized_body.bytes.len(), other.bytes.len()), (5, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_a_body_only_a_moment() {
        let bodies = Bodies::new(10, 10, TIME);
        let ending = ShutdownSignal(CancellationToken::new());
        let mut request = Request::new(unfinished(&["0"]));
        request.extensions_mut().insert(ending.clone());
        let began = Instant::now();
        let stopping = async { ending.0.cancel() };
        let (read, ()) = tokio::join!(bodies.read(request), stopping);
        assert_eq!((read.unwrap_err(), began.elapsed()), (BodyError::ShuttingDown, SHUTDOWN_GRACE));
    }
}
