//! HTTP: routes, limits, and an orderly end.
//!
//! Guarantees: who has no token is not read; a request that is answered with 202 is with the broker and counted; where one is
//! refused as a whole, nothing of it is published. What was begun is ended although its sender has gone away.

mod refusal;
mod requests;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::Broker;
use assay_store::Store;
use assay_transaction::{LiveRules, Namespace};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::refusal::Refusal;
use crate::acceptance::Acceptance;
use crate::counting::Counter;
use crate::lookup::Lookup;
use crate::metrics::{self, count_request};
use crate::tokens::Tokens;
use crate::{ServeOptions, StreamError};

/// What all requests share.
struct Served {
    acceptance: Acceptance,
    lookup: Lookup,
    rules: LiveRules,
    namespace: Namespace,
    tokens: Tokens,
    max_body_bytes: u32,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// That one more request may be answered; whoever has to end what it began keeps it.
type Permit = Arc<OwnedSemaphorePermit>;

impl Served {
    /// Lets a request in, or says why not.
    fn admit(&self, headers: &HeaderMap) -> Result<Permit, Refusal> {
        if !self.tokens.let_in(headers) {
            return Err(Refusal::Unauthorized);
        }
        Arc::clone(&self.permits).try_acquire_owned().map(Arc::new).map_err(|_| Refusal::Busy)
    }
}

/// Begins to listen.
pub async fn listen(options: &ServeOptions) -> Result<TcpListener, StreamError> {
    let address = options.streamer_addr;
    TcpListener::bind(address)
        .await
        .map_err(|error| StreamError::Setting(format!("cannot listen at {address} ({error}): check STREAMER_ADDR")))
}

/// Answers until `shutdown`, then finishes the requests that it has, within `drain`, and tells the ledger the last counts.
pub async fn serve(
    listener: TcpListener,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &ServeOptions,
    tokens: Tokens,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), StreamError> {
    metrics::describe();
    let settings = options.read.settings(&options.producer_run_id);
    let rules = LiveRules::new(&settings)?;
    let address = listener.local_addr()?;
    let (counter, counting) = Counter::start(Arc::clone(&store) as _, options.producer_run_id.clone());
    let served = Arc::new(Served {
        acceptance: Acceptance::new(broker, Arc::clone(&counter)),
        lookup: Lookup::new(store),
        rules,
        namespace: settings.namespace,
        tokens,
        max_body_bytes: options.max_body_bytes,
        permits: Arc::new(Semaphore::new(options.max_requests as usize)),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    info!("transactions of {} are taken at http://{address}/transactions", options.producer_run_id);
    // Answers are written at once; waiting for more to send would only make them late.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            debug!("cannot set TCP_NODELAY: {error}");
        }
    });
    let answering = axum::serve(listener, router(&served)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let answered = async {
        let ended = answering.into_future().await;
        // What was begun for senders that have gone away.
        served.tasks.close();
        served.tasks.wait().await;
        ended
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let ended = tokio::select! {
        ended = answered => ended,
        () = overdue => {
            warn!("ending with requests that are still open after DRAIN_TIMEOUT ({drain:?})");
            Ok(())
        }
    };
    counter.finish(counting).await;
    let totals = counter.totals();
    info!("Accepted {} transactions in {} messages", totals.rows, totals.messages);
    Ok(ended?)
}

fn router(served: &Arc<Served>) -> Router {
    Router::new()
        .route("/transactions", post(requests::send))
        .route("/transactions/{id}", get(requests::ask))
        .fallback(async || Refusal::NoSuchPath)
        .method_not_allowed_fallback(async || Refusal::NoSuchMethod)
        .layer(from_fn(count_request))
        .layer(DefaultBodyLimit::max(served.max_body_bytes as usize))
        .with_state(Arc::clone(served))
}
