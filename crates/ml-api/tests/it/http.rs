//! A server on a free port, and a small client that shows what is on the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use assay_ml_api::{Model, ModelServerOptions, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl ApiResponse {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// Parses all that the server sent before it closed the connection.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        Self { status, content_type: content_type.to_owned(), body: body.to_owned() }
    }
}

impl ApiServer {
    pub(crate) async fn start(options: ModelServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::new(Model::bundled()), options, shutdown.clone()));
        Self { address, shutdown, task }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &[u8]) -> ApiResponse {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        ApiResponse::parse(&answer)
    }

    pub(crate) async fn get(&self, path: &str) -> ApiResponse {
        self.send("GET", path, b"").await
    }

    pub(crate) async fn predict(&self, body: impl AsRef<[u8]>) -> ApiResponse {
        self.send("POST", "/predict", body.as_ref()).await
    }
}
