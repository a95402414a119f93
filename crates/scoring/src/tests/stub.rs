//! An ML API that replies by a script and remembers its requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A request to the stub.
#[derive(Debug, Clone)]
pub(super) struct ReceivedRequest {
    /// How many requests to score came before.
    pub(super) number: usize,
    /// The body.
    pub(super) body: String,
    /// The path.
    pub(super) path: String,
    headers: HeaderMap,
}

impl ReceivedRequest {
    pub(super) fn rows(&self) -> Vec<Value> {
        serde_json::from_str(&self.body).unwrap()
    }

    /// A header, if it was sent.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.rows().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether it has a row of that kind.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.rows().iter().any(|row| row["description"] == kind)
    }
}

/// A reply of the stub.
pub(super) enum Reply {
    /// A score for each row.
    Scores,
    /// Success with this body.
    Body(String),
    /// This status, with this body of JSON.
    Json(u16, String),
    /// Success with these bytes.
    Bytes(Vec<u8>),
    /// Success with these bytes, which are compressed.
    Gzip(Vec<u8>),
    /// This status, with a body that never ends.
    Endless(u16, Flow),
    /// This status, with this header and an HTML page.
    Page(u16, &'static str, &'static str),
    /// Success, with this header and body.
    Named(&'static str, &'static str, String),
    /// Success, with a header of so many bytes.
    Header(usize),
    /// This status, with a body that repeats the request, as some APIs do.
    Status(u16),
    /// This status, with this body.
    StatusBody(u16, &'static str),
    /// This status, with this `Retry-After`.
    RetryAfter(u16, String),
    /// Nothing, ever.
    Stall,
    /// The connection ends before the response does.
    Cut,
    /// The connection ends without a response.
    Drop,
}

/// An endless body.
#[derive(Clone)]
pub(super) struct Flow {
    pub(super) piece: &'static str,
    /// Between two pieces.
    pub(super) pause: Duration,
    /// How many bytes were sent so far.
    pub(super) given: Arc<AtomicUsize>,
}

impl Flow {
    fn body(self) -> Body {
        let pieces = stream::repeat(()).then(move |()| {
            let Self { piece, pause, given } = self.clone();
            async move {
                tokio::time::sleep(pause).await;
                given.fetch_add(piece.len(), Ordering::SeqCst);
                Ok::<_, std::convert::Infallible>(piece)
            }
        });
        Body::from_stream(pieces)
    }
}

type ReplyScript = dyn Fn(&ReceivedRequest) -> Reply + Send + Sync;

struct StubState {
    predict: Box<ReplyScript>,
    health: Box<ReplyScript>,
    requests: Mutex<Vec<ReceivedRequest>>,
    health_requests: Mutex<Vec<ReceivedRequest>>,
    count: watch::Sender<usize>,
}

/// A stub on a port of its own.
pub(super) struct Stub {
    shared: Arc<StubState>,
    address: SocketAddr,
    /// Bound, so that the port is taken, but not listening yet.
    socket: Option<TcpSocket>,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Stub {
    /// Replies to requests to score by the script; is healthy.
    pub(super) fn serve(predict: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_health(predict, |_| Reply::Status(200))
    }

    pub(super) fn with_health(
        predict: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
        health: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut stub = Self::not_started(predict, health);
        stub.start();
        stub
    }

    /// Refuses connections until [`Stub::start`].
    pub(super) fn not_started(
        predict: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
        health: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(StubState {
            predict: Box::new(predict),
            health: Box::new(health),
            requests: Mutex::default(),
            health_requests: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { shared, address: socket.local_addr().unwrap(), socket: Some(socket), serving: None }
    }

    pub(super) fn start(&mut self) {
        let app = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        let listener = self.socket.take().unwrap().listen(1024).unwrap();
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }));
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request to score so far.
    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(super) fn health_requests(&self) -> usize {
        self.shared.health_requests.lock().unwrap().len()
    }

    /// The paths of every health check so far.
    pub(super) fn health_paths(&self) -> Vec<String> {
        self.shared.health_requests.lock().unwrap().iter().map(|request| request.path.clone()).collect()
    }

    /// Waits until there were so many requests to score.
    pub(super) async fn wait_for_requests(&self, count: usize) {
        self.shared.count.subscribe().wait_for(|received| *received >= count).await.unwrap();
    }
}

async fn answer(
    State(shared): State<Arc<StubState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = ReceivedRequest {
        number: 0,
        body: String::from_utf8(body.to_vec()).unwrap(),
        path: uri.path().to_owned(),
        headers,
    };
    let reply = if method == Method::GET {
        shared.health_requests.lock().unwrap().push(request.clone());
        (shared.health)(&request)
    } else {
        request.number = {
            let mut all = shared.requests.lock().unwrap();
            let number = all.len();
            all.push(ReceivedRequest { number, ..request.clone() });
            number
        };
        shared.count.send_modify(|count| *count += 1);
        (shared.predict)(&request)
    };
    respond(reply, &request).await
}

async fn respond(reply: Reply, request: &ReceivedRequest) -> Response {
    let response = |status: u16| Response::builder().status(status);
    match reply {
        Reply::Scores => response(200).body(scores(request).into()).unwrap(),
        Reply::Body(body) => response(200).body(body.into()).unwrap(),
        Reply::Json(status, body) => {
            response(status).header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()
        }
        Reply::Bytes(body) => response(200).body(body.into()).unwrap(),
        Reply::Gzip(body) => response(200).header(header::CONTENT_ENCODING, "gzip").body(body.into()).unwrap(),
        Reply::Page(status, name, value) => {
            response(status).header(name, value).body("<html>what a page says</html>".into()).unwrap()
        }
        Reply::Named(name, value, body) => response(200).header(name, value).body(body.into()).unwrap(),
        Reply::Endless(status, flow) => response(status).body(flow.body()).unwrap(),
        Reply::Header(bytes) => response(200).header("x-why", "x".repeat(bytes)).body(scores(request).into()).unwrap(),
        Reply::Status(status) => response(status).body(format!("no: {}", request.body).into()).unwrap(),
        Reply::StatusBody(status, body) => response(status).body(body.into()).unwrap(),
        Reply::RetryAfter(status, after) => {
            response(status).header(header::RETRY_AFTER, after).body(Body::empty()).unwrap()
        }
        Reply::Stall => std::future::pending().await,
        Reply::Drop => panic!("no reply, by the script"),
        Reply::Cut => {
            let cut = stream::iter([Ok("[{"), Err(std::io::Error::other("cut"))]);
            response(200).body(Body::from_stream(cut)).unwrap()
        }
    }
}

/// The reply of a healthy API.
pub(super) fn scores(request: &ReceivedRequest) -> String {
    let items: Vec<String> = request
        .ids()
        .iter()
        .map(|id| {
            format!(
                r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.25,"model_version":"stub-1"}}"#
            )
        })
        .collect();
    format!("[{}]", items.join(","))
}
