//! Accepts connections; a full server closes silent ones to make room.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::ServerLimits;
use crate::connection::serve_connection;
use crate::connection::state::ConnectionState;
use crate::limits::open_files;

/// Pause after a failed `accept`, such as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// Serves `router` on `listener` until `shutdown`, then answers the requests that it has received completely, and returns.
/// Closes all connections when dropped.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: CancellationToken) {
    let wanted = limits.max_connections;
    let limits = limits.with_open_files(open_files());
    if limits.max_connections < wanted {
        info!("at most {} connections, not {wanted}, as this process may open few files", limits.max_connections);
    }
    let mut connections =
        OpenConnections { limits, idle: Arc::default(), tasks: JoinSet::new(), open: Vec::new(), last_warning: None };
    while let Some(accepted) = shutdown.run_until_cancelled(connections.accept(&listener)).await {
        match accepted {
            Ok(stream) => {
                if shutdown.run_until_cancelled(connections.make_room()).await.is_none() {
                    break;
                }
                connections.open(stream, router.clone(), shutdown.clone());
            }
            Err(error) => connections.recover(&error).await,
        }
    }
    drop(listener);
    while connections.tasks.join_next().await.is_some() {}
}

/// The connections of a server.
struct OpenConnections {
    limits: ServerLimits,
    /// Notified when a connection becomes idle.
    idle: Arc<Notify>,
    tasks: JoinSet<()>,
    open: Vec<Arc<ConnectionState>>,
    /// Time of the last warning.
    last_warning: Option<Instant>,
}

impl OpenConnections {
    /// Accepts the next connection, and removes ended ones meanwhile.
    async fn accept(&mut self, listener: &TcpListener) -> io::Result<TcpStream> {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => self.remove(ended),
                accepted = listener.accept() => return accepted.map(|(stream, _)| stream),
            }
        }
    }

    /// Waits until there is room for one more connection. A full server closes connections that owe no response: first those
    /// that never had one, longest silent first.
    async fn make_room(&mut self) {
        while self.tasks.len() >= self.limits.max_connections {
            self.warn_rarely("too many connections: closing silent ones");
            self.close_one();
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.remove(ended),
                () = self.idle.notified() => {}
            }
        }
    }

    fn close_one(&self) -> bool {
        let silent = self.open.iter().filter_map(|state| Some((state.eviction_rank()?, state)));
        silent.min_by_key(|(rank, _)| *rank).is_some_and(|(_, state)| state.close_if_silent())
    }

    fn open(&mut self, stream: TcpStream, router: Router, shutdown: CancellationToken) {
        // Responses are written in one piece; waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("cannot set TCP_NODELAY: {error}");
        }
        let state = ConnectionState::new(Arc::clone(&self.idle));
        self.open.push(Arc::clone(&state));
        self.tasks.spawn(serve_connection(stream, router, state, self.limits, shutdown));
    }

    fn remove(&mut self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            warn!("a connection task panicked: {error}");
        }
        // A task drops its state before it is seen to have ended.
        self.open.retain(|state| Arc::strong_count(state) > 1);
    }

    /// After a failed `accept`: closes a connection, as connections use what the system lacks, above all files.
    async fn recover(&mut self, error: &io::Error) {
        self.warn_rarely(&format!("cannot accept connections ({error}): closing silent ones"));
        if self.close_one()
            && let Some(ended) = self.tasks.join_next().await
        {
            self.remove(ended);
        }
        sleep(ACCEPT_PAUSE).await;
    }

    fn warn_rarely(&mut self, message: &str) {
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
            warn!("{message}, {} are open", self.tasks.len());
            self.last_warning = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use super::*;

    /// Longer than any test takes.
    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

    struct TestServer {
        address: SocketAddr,
        shutdown: CancellationToken,
        /// Requests waiting for `release`.
        waiting: Arc<AtomicUsize>,
        release: Arc<Semaphore>,
        task: JoinHandle<()>,
    }

    /// Answers `/now` at once, `/later` once released.
    async fn serving(address: &str, connections: usize) -> TestServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, release) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
        let (waiting, released) = (Arc::<AtomicUsize>::default(), Arc::clone(&release));
        let later = {
            let counted = Arc::clone(&waiting);
            move || {
                let (counted, released) = (Arc::clone(&counted), Arc::clone(&released));
                async move {
                    counted.fetch_add(1, Ordering::Relaxed);
                    released.acquire().await.unwrap().forget();
                }
            }
        };
        let router = Router::new().route("/now", get(async || "now")).route("/later", post(later));
        let limits = ServerLimits { max_connections: connections, ..ServerLimits::default() };
        let task = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        TestServer { address, shutdown, waiting, release, task }
    }

    async fn send(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn read_to_end(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A closed connection may be reset.
        let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut text)).await.expect("it is closed");
        String::from_utf8(text).unwrap()
    }

    const NOW: &str = "GET /now HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn silent_connections_make_room_for_others() {
        let served = serving("127.0.0.1:0", 4).await;
        let mut silent = Vec::new();
        for index in 0..40 {
            silent.push(send(served.address, ["", "GET /now HTTP/1.1\r\nhost: "][index % 2]).await);
            assert!(read_to_end(send(served.address, NOW).await).await.ends_with("\r\n\r\nnow"), "{index}");
        }
        let first = silent.swap_remove(0);
        assert_eq!(read_to_end(first).await, "");
    }

    #[tokio::test]
    async fn a_connection_with_an_open_request_is_not_closed() {
        let served = serving("127.0.0.1:0", 4).await;
        let later = "POST /later HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let mut owed = Vec::new();
        for _ in 0..4 {
            owed.push(send(served.address, later).await);
        }
        while served.waiting.load(Ordering::Relaxed) < owed.len() {
            tokio::task::yield_now().await;
        }
        // There is no room for this one until one of the others has its response.
        let asking = tokio::spawn(read_to_end(send(served.address, NOW).await));
        served.release.add_permits(1);
        assert!(asking.await.unwrap().ends_with("now"));
        // The shutdown does not lose a response either.
        served.shutdown.cancel();
        served.release.add_permits(3);
        for owed in owed {
            assert!(read_to_end(owed).await.starts_with("HTTP/1.1 200 "));
        }
        tokio::time::timeout(TEST_TIMEOUT, served.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_answered_connection_is_kept_longer_than_a_silent_one() {
        let served = serving("127.0.0.1:0", 4).await;
        let keep = NOW.replace("connection: close\r\n", "");
        let mut proven = send(served.address, &keep).await;
        let mut answer = [0; 1024];
        while !String::from_utf8_lossy(&answer).contains("now") {
            let read = proven.read(&mut answer).await.unwrap();
            assert!(read > 0);
        }
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(send(served.address, "").await);
        }
        assert!(read_to_end(send(served.address, NOW).await).await.ends_with("now"));
        proven.write_all(NOW.as_bytes()).await.unwrap();
        assert!(read_to_end(proven).await.ends_with("now"));
    }

    #[tokio::test]
    async fn a_shutdown_does_not_wait_for_incomplete_requests() {
        let served = serving("127.0.0.1:0", 16).await;
        let mut silent = Vec::new();
        for text in ["", "POST", "POST /later HTTP/1.1\r\nhost: "] {
            silent.push(send(served.address, text).await);
        }
        // All connections above are accepted once this one is answered.
        read_to_end(send(served.address, NOW).await).await;
        served.shutdown.cancel();
        tokio::time::timeout(TEST_TIMEOUT, served.task).await.unwrap().unwrap();
        for silent in silent {
            assert_eq!(read_to_end(silent).await, "");
        }
        assert!(TcpStream::connect(served.address).await.is_err());
    }

    #[tokio::test]
    async fn ipv6_addresses_work() {
        // A machine may have no IPv6.
        if TcpListener::bind("[::1]:0").await.is_err() {
            return;
        }
        for address in ["[::1]:0", "[::]:0"] {
            let served = serving(address, 4).await;
            let asked = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), served.address.port());
            assert!(read_to_end(send(asked, NOW).await).await.ends_with("now"), "{address}");
        }
    }
}
