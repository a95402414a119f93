//! A TCP proxy that cuts or silences connections, or refuses new ones, on request.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::free_port;

/// A proxy on a port of loopback that no other test gets. Dropped, it ends with its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Cut,
    Silence,
    Refuse,
    Accept,
}

impl Proxy {
    /// Starts a proxy before the server at this host and port.
    pub async fn before(host: impl Into<String>, port: u16) -> Self {
        let server = (host.into(), port);
        let port = free_port();
        let (orders, received) = mpsc::unbounded_channel();
        tokio::spawn(serve(port, server, listen(port).await, received));
        Self { port, orders }
    }

    /// Its port at loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all current connections.
    pub async fn cut(&self) {
        self.order(Order::Cut).await;
    }

    /// Passes nothing more on current connections, and keeps them open. New ones are healthy.
    pub async fn silence(&self) {
        self.order(Order::Silence).await;
    }

    /// Ends all current connections, and refuses new ones.
    pub async fn refuse(&self) {
        self.order(Order::Refuse).await;
    }

    /// Accepts new connections again.
    pub async fn accept(&self) {
        self.order(Order::Accept).await;
    }

    async fn order(&self, order: Order) {
        let (done, is_done) = oneshot::channel();
        self.orders.send((order, done)).expect("the proxy takes orders while it exists");
        is_done.await.expect("the proxy executes orders");
    }
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("no other test gets the port")
}

async fn serve(
    port: u16,
    server: (String, u16),
    listener: TcpListener,
    mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut silent = watch::Sender::new(false);
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Cut => connections.shutdown().await,
                    Order::Silence => {
                        silent.send_replace(true);
                        silent = watch::Sender::new(false);
                    }
                    Order::Refuse => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Order::Accept => listener = Some(listen(port).await),
                }
                let _ = done.send(());
            }
            client = accept(listener.as_ref()) => {
                connections.spawn(pass_on(client, server.clone(), silent.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Waits for a client; forever without a listener.
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

async fn pass_on(mut client: TcpStream, server: (String, u16), mut silent: watch::Receiver<bool>) {
    // Without a server, the client sees the end of its connection.
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let silenced = async {
        // An error is the end of the proxy, which ends this task too.
        if silent.wait_for(|silent| *silent).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Either side may end it.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = silenced => std::future::pending().await,
    }
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
    async fn only_current_connections_become_silent() {
        let proxy = Proxy::before("127.0.0.1", echo().await).await;
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut first = connect().await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), b'x');
        proxy.silence().await;
        let silent = tokio::time::timeout(std::time::Duration::from_millis(100), ask(&mut first)).await;
        assert!(silent.is_err(), "{silent:?}");
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
        proxy.cut().await;
        assert!(ask(&mut first).await.is_err(), "silent connections are cut too");
    }

    #[tokio::test]
    async fn cuts_refuses_and_accepts_again() {
        let proxy = Proxy::before("127.0.0.1", echo().await).await;
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut first = connect().await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), b'x');
        proxy.cut().await;
        assert!(ask(&mut first).await.is_err(), "the connection was cut");
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
        proxy.refuse().await;
        assert_eq!(connect().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.accept().await;
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
    }
}
