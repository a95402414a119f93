//! A TCP proxy that ends all connections, or refuses new ones, on request.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::free_port;

/// Before a port of loopback, on another one that stays its own.
pub struct Proxy {
    port: u16,
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Cut,
    Refuse,
    Accept,
}

impl Proxy {
    /// Starts one before this port.
    pub async fn before(upstream: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("it was free just now");
        let (orders, taken) = mpsc::unbounded_channel();
        // Ends with the proxy, whose orders it waits for.
        tokio::spawn(serve(port, upstream, listener, taken));
        Self { port, orders }
    }

    /// Its port at loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections of now.
    pub async fn cut(&self) {
        self.order(Order::Cut).await;
    }

    /// Ends all connections of now, and refuses new ones.
    pub async fn refuse(&self) {
        self.order(Order::Refuse).await;
    }

    /// Takes new connections again.
    pub async fn accept(&self) {
        self.order(Order::Accept).await;
    }

    async fn order(&self, order: Order) {
        let (done, is_done) = oneshot::channel();
        self.orders.send((order, done)).expect("the proxy takes orders while it is there");
        is_done.await.expect("and carries them out");
    }
}

async fn serve(
    port: u16,
    upstream: u16,
    listener: TcpListener,
    mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Cut => connections.shutdown().await,
                    Order::Refuse => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Order::Accept => {
                        let again = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
                        listener = Some(again.expect("no process is given a port below the ephemeral ones"));
                    }
                }
                let _ = done.send(());
            }
            accepted = accept(listener.as_ref()) => drop(connections.spawn(pass_on(accepted, upstream))),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Waits for a client; for ever where there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    loop {
        match listener {
            Some(listener) => {
                if let Ok((client, _)) = listener.accept().await {
                    return client;
                }
            }
            None => std::future::pending().await,
        }
    }
}

async fn pass_on(mut client: TcpStream, upstream: u16) {
    // Without an upstream, the client's connection ends.
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Either side may end it.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = client.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        port
    }

    async fn ask(connection: &mut TcpStream) -> std::io::Result<u8> {
        connection.write_all(b"x").await?;
        connection.read_u8().await
    }

    #[tokio::test]
    async fn cuts_refuses_and_accepts_again() {
        let proxy = Proxy::before(echo().await).await;
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut first = connect().await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), b'x');
        proxy.cut().await;
        assert!(ask(&mut first).await.is_err(), "what was cut is gone");
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
        proxy.refuse().await;
        assert_eq!(connect().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.accept().await;
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
    }
}
