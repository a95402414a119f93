//! The stream to RabbitMQ: TCP, or TLS over it, with [`InboundFrames`] on the way back.
//!
//! The client takes the streams of its runtime, so [`TransportRuntime`] is Tokio with other streams.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio, TokioRuntime};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::greeting::{Greeting, GreetingReader};
use crate::rabbitmq::inbound::{InboundFrames, MAX_FRAME, MIN_FRAME};

const READ: usize = 64 * 1024;

/// Connects. Frames are at most [`MAX_FRAME`] long, even if the address or RabbitMQ allow more.
pub(super) async fn connect(
    mut uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
    greeting: Greeting,
) -> lapin::Result<Connection> {
    let max_frame = uri.query.frame_max.filter(|&asked| asked > 0).unwrap_or(MAX_FRAME).clamp(MIN_FRAME, MAX_FRAME);
    uri.query.frame_max = Some(max_frame);
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), TransportRuntime(tokio.clone())));
    let plain = Runtime::new(tokio);
    let connect = async move |uri: AMQPUri, _| {
        let stream = uri.connect_with_config_async(tls.as_ref(), &plain).await?;
        Ok(AsyncTcpStream::Plain(Transport::new(stream, max_frame, greeting.clone())))
    };
    Connection::connector(uri, runtime, connect, properties).await
}

type TokioStream = <TokioRuntime as Reactor>::TcpStream;

pub(super) struct Transport {
    stream: AsyncTcpStream<TokioStream>,
    inbound: InboundFrames,
    greeting: GreetingReader,
    buffer: Box<[u8]>,
}

impl Transport {
    fn new(stream: AsyncTcpStream<TokioStream>, max_frame: u32, greeting: Greeting) -> Self {
        let (inbound, greeting) = (InboundFrames::new(max_frame), GreetingReader::new(greeting));
        Self { stream, inbound, greeting, buffer: vec![0; READ].into() }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let given = this.inbound.take(room);
            if given > 0 || room.is_empty() {
                return Poll::Ready(Ok(given));
            }
            let received = ready!(Pin::new(&mut this.stream).poll_read(context, &mut this.buffer))?;
            if received == 0 {
                return Poll::Ready(Ok(0));
            }
            this.greeting.feed(&this.buffer[..received]);
            this.inbound.feed(&this.buffer[..received]);
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[derive(Debug, Clone)]
pub(super) struct TransportRuntime(Tokio);

impl Reactor for TransportRuntime {
    type TcpStream = Transport;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // The client registers no streams of its own.
        Err::<Transport, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Transport::new(AsyncTcpStream::Plain(connecting.await?), MAX_FRAME, Greeting::default())) }
    }
}
