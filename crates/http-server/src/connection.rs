//! One connection: requests are answered one after the other, until either side has had enough.

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
use crate::Limits;
use crate::body::ShutdownSignal;

/// How long what else comes in is read and thrown away after the last answer: a connection that is closed with unread bytes is reset,
/// and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(2);

/// What HTTP/2 without negotiation gets.
const HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\ncontent-length: 24\r\n\
    connection: close\r\n\r\nonly HTTP/1.1 is spoken\n";

/// Answers requests until the other side leaves, its time is over, or `shutdown`.
pub(crate) async fn answer<IO>(
    stream: IO,
    router: Router,
    state: Arc<ConnectionState>,
    limits: Limits,
    shutdown: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let (asked, ending) = (Arc::clone(&state), shutdown.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, answering) = (router.clone(), asked.begin());
        let (asked, ending) = (Arc::clone(&asked), ending.clone());
        Box::pin(async move {
            // The connection is about to be dropped, and the request with it.
            let Some(answering) = answering else { return pending().await };
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ShutdownSignal(ending));
            let response: Response = router.call(request).await?;
            if response.status().is_success() {
                asked.mark_proven();
            }
            Ok::<_, Infallible>(response.map(|body| TrackedBody { body, _answering: answering }))
        })
    });
    let timed = TimedStream::new(stream, Arc::clone(&state), limits);
    let mut connection = http1::Builder::new()
        .max_buf_size(limits.head_bytes)
        .max_header_size(limits.head_bytes)
        .timer(TokioTimer::new())
        // The stream's own times are shorter. But with one, hyper asks the stream for more as soon as an answer is sent, and so the stream
        // knows when the silence begins.
        .header_read_timeout(limits.idle + limits.head)
        .serve_connection(TokioIo::new(timed), service);
    let mut is_ending = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = state.closed.cancelled() => return,
            () = shutdown.cancelled(), if !is_ending => {
                if state.close_if_silent() {
                    return;
                }
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
        }
    };
    let mut stream = connection.into_parts().io.into_inner();
    if let Err(error) = ended {
        debug!("a connection has ended: {error}");
        if !error.is_parse_version_h2() || stream.write_all(HTTP_2).await.is_err() {
            return;
        }
    }
    let parting = timeout(LINGER, part(&mut stream));
    tokio::select! {
        () = state.closed.cancelled() => {}
        _ = parting => {}
    }
}

/// Says that nothing more is sent, and waits for the other side to do so.
async fn part<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut TimedStream<IO>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut thrown_away = vec![0; 16 * 1024];
    while stream.read(&mut thrown_away).await? > 0 {}
    Ok(())
}

/// The body of an answer, which tells when it has been handed over.
struct TrackedBody {
    body: Body,
    _answering: ResponseGuard,
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
