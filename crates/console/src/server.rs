//! The routes, who gets through to them, and what every response says.

use std::sync::Arc;

use assay_http_server::ServerLimits;
use assay_queue::BrokerOptions;
use assay_store::Store;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::access::{Access, Refusal};
use crate::commands::Commands;
use crate::error::PageError;
use crate::pages::{operations, row, rows, run, runs, search};
use crate::queues::Queues;
use crate::{ConsoleError, ConsoleOptions, actions, assets, live};

/// Most pages that take changes at a time.
const STREAMS: usize = 200;

/// Largest form of an order, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// What a page may load: what this console ships, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the console reads and runs.
pub struct ConsoleServices {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// The broker whose queues are shown, if it is set.
    pub broker: BrokerOptions,
    /// Runs the commands that pages show.
    pub commands: Commands,
}

/// What requests share.
pub(crate) struct Console {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queues: Queues,
    pub(crate) commands: Commands,
    pub(crate) has_actions: bool,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    access: Access,
}

pub(crate) type Shared = Arc<Console>;

/// A console that listens, and serves nobody yet.
pub struct Listening {
    listener: TcpListener,
    access: Access,
    has_actions: bool,
}

/// Checks the settings, reads the users and listens: before anything is connected, so that what is wrong there is told at once.
pub async fn listen(options: &ConsoleOptions) -> Result<Listening, ConsoleError> {
    let access = Access::new(options)?;
    let address = options.console_addr;
    let listener = TcpListener::bind(address).await.map_err(|error| ConsoleError::Listen { address, error })?;
    Ok(Listening { listener, access, has_actions: options.console_actions })
}

impl Listening {
    /// Serves the console until `shutdown`.
    pub async fn serve(self, services: ConsoleServices, shutdown: CancellationToken) {
        let Self { listener, access, has_actions } = self;
        if let Ok(address) = listener.local_addr() {
            info!("the console is at http://{address}/");
        }
        let console = Arc::new(Console {
            store: services.store,
            queues: Queues::new(services.broker),
            commands: services.commands,
            has_actions,
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown: shutdown.clone(),
            access,
        });
        assay_http_server::serve(listener, router(&console), ServerLimits::default(), shutdown).await;
        console.queues.close().await;
    }
}

fn router(console: &Shared) -> Router {
    Router::new()
        .route("/", get(runs::runs))
        .route("/operations", get(operations::operations))
        .route("/search", get(search::search))
        .route("/runs/{run}", get(run::run))
        .route("/runs/{run}/series", get(run::series))
        .route("/runs/{run}/rows/{row}", get(row::row))
        .route("/runs/{run}/invalid", get(rows::invalid).post(rows::unmasked))
        .route("/runs/{run}/failed", get(rows::failed))
        .route("/runs/{run}/rejected.csv", get(rows::download).post(rows::download_unmasked))
        .route("/runs/{run}/report", get(rows::report))
        .route("/runs/{run}/actions/{action}", get(actions::confirm).post(actions::order))
        .route("/live", get(live::of_runs))
        .route("/live/runs/{run}", get(live::of_run))
        .route("/assets/{name}", get(assets::asset))
        .fallback(async || PageError::Missing("There is no page at this address.".to_owned()))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(Arc::clone(console), guard))
        .layer(from_fn(secure))
        .with_state(Arc::clone(console))
}

/// Lets a user through.
async fn guard(State(console): State<Shared>, mut request: Request, next: Next) -> Response {
    match console.access.check(request.method(), request.headers()) {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(Refusal::Unauthenticated) => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"Assay console\", charset=\"UTF-8\"")];
            let why = "This console needs a name and a token: CONSOLE_USERS_FILE lists the users.\n";
            (StatusCode::UNAUTHORIZED, ask, why).into_response()
        }
        Err(Refusal::ForeignHost(host)) => {
            let why = format!(
                "This console is not known as {host:?}. Reach it as localhost, or add the name to CONSOLE_HOSTS.\n"
            );
            (StatusCode::MISDIRECTED_REQUEST, why).into_response()
        }
        Err(Refusal::ForeignOrigin) => {
            (StatusCode::FORBIDDEN, "A page of another origin sent this request: nothing was done.\n").into_response()
        }
    }
}

/// Adds what every response says to a browser.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages hold data of customers; only what is shipped may be kept.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
