//! One connection: serves its requests one after the other until either side closes it.

pub(crate) mod state;
mod stream;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::state::{ConnectionState, ResponseGuard};
use self::stream::TimedStream;
use crate::ServerLimits;
use crate::body::ShutdownSignal;

/// How long input is read and discarded after the last response: closing a connection with unread bytes resets it, and the
/// response may be lost.
const LINGER: Duration = Duration::from_secs(2);

/// The response to HTTP/2 without negotiation.
const HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\ncontent-length: 24\r\n\
    connection: close\r\n\r\nonly HTTP/1.1 is spoken\n";

/// Serves requests until the client disconnects, a limit is exceeded, or `shutdown`.
pub(crate) async fn serve_connection<IO>(
    stream: IO,
    router: Router,
    state: Arc<ConnectionState>,
    limits: ServerLimits,
    shutdown: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let (shared, signal) = (Arc::clone(&state), shutdown.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, guard) = (router.clone(), shared.begin());
        let (shared, signal) = (Arc::clone(&shared), signal.clone());
        Box::pin(async move {
            // The connection is about to be dropped with its request.
            let Some(guard) = guard else { return pending().await };
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ShutdownSignal(signal));
            let response: Response = router.call(request).await?;
            if response.status().is_success() {
                shared.mark_proven();
            }
            Ok::<_, Infallible>(response.map(|body| TrackedBody { body, _guard: guard }))
        })
    });
    let timed = TimedStream::new(stream, Arc::clone(&state), limits);
    let mut connection = http1::Builder::new()
        .max_buf_size(limits.max_head_bytes)
        .max_header_size(limits.max_head_bytes)
        .timer(TokioTimer::new())
        // The stream's own time-outs are shorter. But with this one set, hyper reads from the stream as soon as a response is
        // sent, so that the stream knows when the idle time begins.
        .header_read_timeout(limits.idle_timeout + limits.head_timeout)
        .serve_connection(TokioIo::new(timed), service);
    let mut is_closing = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = state.closed.cancelled() => return,
            () = shutdown.cancelled(), if !is_closing => {
                if state.close_if_silent() {
                    return;
                }
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
        }
    };
    let mut stream = connection.into_parts().io.into_inner();
    if let Err(error) = ended {
        debug!("connection closed: {error}");
        if !error.is_parse_version_h2() || stream.write_all(HTTP_2).await.is_err() {
            return;
        }
    }
    let lingering = timeout(LINGER, linger(&mut stream));
    tokio::select! {
        () = state.closed.cancelled() => {}
        _ = lingering => {}
    }
}

/// Ends the output, and waits for the client to end its own.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut TimedStream<IO>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut discarded = vec![0; 16 * 1024];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}

/// The body of a response, which keeps its guard until it has been handed over.
struct TrackedBody {
    body: Body,
    _guard: ResponseGuard,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
