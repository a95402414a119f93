//! A TCP proxy before RabbitMQ that cuts connections, or silences them, on request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::address;

pub(crate) struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Connections>>,
}

/// What the connections of now depend on; later ones get new ones.
struct Connections {
    cut: CancellationToken,
    silent: watch::Sender<bool>,
}

impl Connections {
    fn new() -> Self {
        Self { cut: CancellationToken::new(), silent: watch::Sender::new(false) }
    }
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy =
            Self { address: listener.local_addr().unwrap(), connections: Arc::new(Mutex::new(Connections::new())) };
        let connections = Arc::clone(&proxy.connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (cut, silent) = {
                    let connections = connections.lock().unwrap();
                    (connections.cut.clone(), connections.silent.subscribe())
                };
                tokio::spawn(cut.run_until_cancelled_owned(pass_on(client, silent)));
            }
        });
        proxy
    }

    /// The URL of RabbitMQ, through the proxy.
    pub(crate) fn url(&self) -> String {
        let mut uri = address();
        uri.authority.host = self.address.ip().to_string();
        uri.authority.port = self.address.port();
        uri.to_string()
    }

    /// Ends all connections of now.
    pub(crate) fn cut(&self) {
        let mut connections = self.connections.lock().unwrap();
        connections.cut.cancel();
        *connections = Connections::new();
    }

    /// Lets all connections of now go silent, without ending them. New ones are well.
    pub(crate) fn silence(&self) {
        let mut connections = self.connections.lock().unwrap();
        connections.silent.send_replace(true);
        // Kept, so that these can still be cut.
        connections.silent = watch::Sender::new(false);
    }
}

async fn pass_on(mut client: TcpStream, mut silent: watch::Receiver<bool>) {
    let rabbitmq = address().authority;
    let mut server = TcpStream::connect((rabbitmq.host, rabbitmq.port)).await.unwrap();
    let silenced = async {
        if silent.wait_for(|silent| *silent).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Either side may end it.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        // Both ends stay open, and nothing passes.
        () = silenced => std::future::pending().await,
    }
}
