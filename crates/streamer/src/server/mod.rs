//! The HTTP server: routes, limits and shutdown.
//!
//! Guarantees: bodies of clients without a token are not read; the memory of all bodies is bounded; a response of 202 means
//! confirmed and counted; of a rejected request, nothing is published. A request that was begun is finished even if its client
//! has gone away.

mod error_response;
mod requests;
mod traced;

use std::sync::Arc;
use std::time::Duration;

use assay_http_server::{BodyReader, ServerLimits};
use assay_queue::Broker;
use assay_store::Store;
use assay_transaction::{IdScheme, LiveRules, Namespace};
use axum::Router;
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::error_response::ErrorResponse;
use self::traced::trace_request;
use crate::accept::MessageAcceptor;
use crate::count::LiveCounter;
use crate::lookup::Lookup;
use crate::metrics::{self, count_request};
use crate::tokens::Tokens;
use crate::{StreamError, StreamerOptions};

/// Longest time to receive a body.
const READ: Duration = Duration::from_secs(30);
/// Bytes of all bodies, each held until its response. The decoded transactions take some times as much.
const BODIES: u32 = 16 * 1024 * 1024;

struct ServerState {
    acceptor: MessageAcceptor,
    lookup: Lookup,
    rules: LiveRules,
    namespace: Namespace,
    ids: IdScheme,
    tokens: Tokens,
    bodies: BodyReader,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Permission to serve one request, held until its work is finished.
type RequestPermit = Arc<OwnedSemaphorePermit>;

impl ServerState {
    fn admit(&self, headers: &HeaderMap) -> Result<RequestPermit, ErrorResponse> {
        if !self.tokens.accept(headers) {
            return Err(ErrorResponse::Unauthorized);
        }
        Arc::clone(&self.permits).try_acquire_owned().map(Arc::new).map_err(|_| ErrorResponse::Busy)
    }
}

/// Starts listening.
pub async fn listen(options: &StreamerOptions) -> Result<TcpListener, StreamError> {
    let address = options.streamer_addr;
    TcpListener::bind(address)
        .await
        .map_err(|error| StreamError::Setting(format!("cannot listen at {address} ({error}): check STREAMER_ADDR")))
}

/// Serves until `shutdown`. Then finishes open requests within `drain`, and saves the final counts.
pub async fn serve(
    listener: TcpListener,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &StreamerOptions,
    tokens: Tokens,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), StreamError> {
    metrics::describe();
    let settings = options.read.settings(&options.producer_run_id, store.ids());
    let rules = LiveRules::new(&settings)?;
    let address = listener.local_addr()?;
    let (counter, counting) = LiveCounter::start(Arc::clone(&store) as _, options.producer_run_id.clone());
    let state = Arc::new(ServerState {
        acceptor: MessageAcceptor::new(broker, Arc::clone(&counter), settings.ids),
        lookup: Lookup::new(store),
        rules,
        namespace: settings.namespace,
        ids: settings.ids,
        tokens,
        bodies: BodyReader::new(options.max_body_bytes, BODIES, READ),
        permits: Arc::new(Semaphore::new(options.max_requests as usize)),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    info!("transactions of {} are accepted at http://{address}/transactions", options.producer_run_id);
    let limits = ServerLimits::default();
    // Each served request has a connection, and others arrive meanwhile.
    let limits =
        ServerLimits { max_connections: limits.max_connections.max(2 * options.max_requests as usize), ..limits };
    let answering = assay_http_server::serve(listener, router(&state), limits, shutdown.clone());
    let answered = async {
        answering.await;
        // Work for clients that have gone away.
        state.tasks.close();
        state.tasks.wait().await;
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = answered => {}
        () = overdue => warn!("ending with open requests after DRAIN_TIMEOUT ({drain:?})"),
    }
    counter.finish(counting).await;
    let totals = counter.totals();
    info!("Accepted {} transactions in {} messages", totals.rows, totals.messages);
    Ok(())
}

fn router(state: &Arc<ServerState>) -> Router {
    Router::new()
        .route("/transactions", post(requests::send))
        .route("/transactions/{id}", get(requests::ask))
        .route("/openapi.json", get(requests::describe))
        .fallback(async || ErrorResponse::NoSuchPath)
        .method_not_allowed_fallback(async || ErrorResponse::NoSuchMethod)
        .layer(from_fn(trace_request))
        .layer(from_fn(count_request))
        .with_state(Arc::clone(state))
}
