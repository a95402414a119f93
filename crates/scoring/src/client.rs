//! The scorer: what the predictor calls to score transactions.

use std::num::NonZeroUsize;
use std::time::Duration;

use assay_connect::ExposeSecret as _;
use assay_transaction::{EncodedTransaction, FailureClass, Lane, ScoreOutcome};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::api::health::{HealthCheck, HealthStatus};
use crate::api::http::{HttpClient, RequestError};
use crate::api::protocol::Protocol;
use crate::breaker::CircuitBreaker;
use crate::canary::SuccessTracker;
use crate::concurrency::ConcurrencyLimit;
use crate::failure::Symptom;
use crate::metrics::{self, ScorerCounters};
use crate::model_version::ModelVersions;
use crate::options::Policy;
use crate::options::TLS_PREFIX;
use crate::pace::Pace;
use crate::permits::{ApiPermit, ApiPermits};
use crate::provenance::Provenance;
use crate::request::{ClientState, RequestExecutor};
use crate::retry_budget::RetryBudget;
use crate::scale::ScaleCheck;
use crate::split::{FinishedRow, PendingRow, SizeLimit, split_into_requests};
use crate::{ApiOptions, ApiState, ScoreError, ScorerStats, ScoringError};

/// How long the first health check at startup may take before the wait is logged.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Scores transactions through an ML API. One serves a whole process: it bounds the requests in flight, and one circuit
/// breaker holds back all callers.
#[derive(Debug)]
pub struct Scorer {
    pub(crate) shared: ClientState,
    max_workers: usize,
    api_timeout: Duration,
}

impl Scorer {
    /// A scorer for the API at this address. Does not connect yet; fails if the address is invalid.
    pub fn new(url: &str, options: &ApiOptions) -> Result<Self, ScoringError> {
        Self::with_policy(url, options, Policy::default())
    }

    /// A scorer for the API named by the settings.
    pub fn from_options(options: &ApiOptions) -> Result<Self, ScoringError> {
        let url = options.address()?;
        options.endpoint.tls().require_tls(url.expose_secret().starts_with("https:"), "https://")?;
        Self::new(url.expose_secret(), options)
    }

    pub(crate) fn with_policy(url: &str, options: &ApiOptions, policy: Policy) -> Result<Self, ScoringError> {
        let protocol = Protocol::from_options(options)?;
        let http = HttpClient::new(url.trim(), &protocol, options)?;
        Ok(Self::with_client(http, protocol, options, policy))
    }

    pub(crate) fn with_client(http: HttpClient, protocol: Protocol, options: &ApiOptions, policy: Policy) -> Self {
        metrics::describe();
        let max_workers = usize::from(options.api_max_workers);
        if let Some(digest) = protocol.features_digest() {
            info!("the features file of ML_API_PROTOCOL={} has the digest {digest}", options.ml_api_protocol);
        }
        let provenance = Provenance::new(http.predict_url(), protocol.features_digest(), options.reasons_from);
        let permits = ApiPermits::new(max_workers, options.realtime_reserve);
        let shared = ClientState {
            breaker: CircuitBreaker::new(http.address(), http.predict_path(), &policy),
            pace: Pace::new(http.address(), options.api_rate_limit, &policy),
            http,
            protocol,
            health_check: HealthCheck::default(),
            max_retries: options.max_retries,
            policy,
            concurrency: ConcurrencyLimit::new(options.api_concurrency, max_workers, permits.clone()),
            permits,
            retry_budget: RetryBudget::new(),
            successes: SuccessTracker::new(),
            size_limit: SizeLimit::new(options.api_max_bytes),
            scale: ScaleCheck::new(options.score_scale),
            inputs_fit: watch::Sender::new(false),
            model_versions: ModelVersions::new(options.model_version.as_deref()),
            provenance,
            counters: ScorerCounters::default(),
            canary_lock: Mutex::default(),
        };
        Self { shared, max_workers, api_timeout: options.api_timeout }
    }

    /// Waits up to `startup` for any HTTP response of the API, and logs what it waits for. Whether the API scores shows with
    /// the first transaction; trouble then is waited out, and fails no row.
    pub async fn wait_until_ready(&self, startup: Duration) -> Result<(), ScoringError> {
        self.wait_for_response(startup).await?;
        // The first request tries again, and waits as for any outage.
        if let Err(RequestError { symptom, .. }) = self.shared.learn_model().await {
            let address = self.shared.http.address();
            warn!(
                "ML API at {address} does not describe its model as needed ({symptom}): transactions wait until it does"
            );
        }
        Ok(())
    }

    /// Waits up to `startup` for any HTTP response.
    async fn wait_for_response(&self, startup: Duration) -> Result<(), ScoringError> {
        let ClientState { http, policy, .. } = &self.shared;
        let mut backoff = policy.outage.within(startup).started();
        let mut is_logged = false;
        let mut log_wait = |problem: &str| {
            if !std::mem::replace(&mut is_logged, true) {
                let (url, limit) = (http.address(), startup.as_secs_f64().round());
                warn!("waiting for the ML API at {url} ({problem}), up to {limit} s (STARTUP_TIMEOUT)");
            }
        };
        loop {
            let response = {
                let asking = self.first_response(|| backoff.attempt_timeout(policy.health_timeout));
                let mut asking = std::pin::pin!(asking);
                tokio::select! {
                    response = &mut asking => response,
                    () = tokio::time::sleep(QUIET_TIME) => {
                        log_wait("no response yet");
                        asking.await
                    }
                }
            };
            let symptom = match response {
                Ok(health) => {
                    self.log_health(&health);
                    return Ok(());
                }
                Err(symptom) => symptom,
            };
            let pause = if matches!(symptom, Symptom::Tls(_)) { None } else { backoff.next_delay() };
            let Some(pause) = pause else { return Err(self.no_response(symptom, startup)) };
            log_wait(&symptom.to_string());
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once for any HTTP response, each request for so long: the health check and, if that is not answered, a request about no
    /// transaction. `Err` says why there is none.
    pub(crate) async fn first_response(&self, time: impl Fn() -> Duration) -> Result<HealthStatus, Symptom> {
        let ClientState { http, health_check, .. } = &self.shared;
        match health_check.ask(http, time(), 0).await {
            HealthStatus::NoAnswer(error) if http.predict_nothing(time()).await.is_err() => Err(error.symptom),
            HealthStatus::Unreachable(error) => Err(error.symptom),
            answered => Ok(answered),
        }
    }

    /// The error of an API that gave no response within `startup`.
    pub(crate) fn no_response(&self, symptom: Symptom, startup: Duration) -> ScoringError {
        let url = self.shared.http.address().to_owned();
        match symptom {
            Symptom::Tls(error) => ScoringError::Tls { url, cause: error.cause(), remedy: error.remedy(TLS_PREFIX) },
            symptom => ScoringError::Unreachable { url, startup, problem: symptom.to_string() },
        }
    }

    /// Says what the first response shows of an API without a health check that is well.
    fn log_health(&self, health: &HealthStatus) {
        let http = &self.shared.http;
        let address = http.address();
        match health {
            HealthStatus::Healthy | HealthStatus::Unreachable(_) => {}
            HealthStatus::NoCheck(RequestError { symptom, .. }) => {
                if let Some(path) = http.health_path() {
                    info!("ML API at {address} has no health check at GET {path} ({symptom}), and needs none");
                }
            }
            HealthStatus::Unhealthy(RequestError { symptom, .. }) => {
                warn!(
                    "ML API at {address} responds to its health check with {symptom}: transactions wait until it scores"
                );
            }
            HealthStatus::NoAnswer(RequestError { symptom, .. }) => info!(
                "ML API at {address} does not respond to its health check ({symptom}), but does to POST {}",
                http.predict_path()
            ),
        }
    }

    /// Scores every transaction, in requests of at most `batch_size` that are sent at the same time, however long that takes:
    /// outages, a broken model and wrong settings are waited out. Returns an outcome for each, in order.
    ///
    /// Once `stop` fires no further request is sent; those in flight may still complete the call. Safe to drop: the transactions
    /// can be scored again.
    pub async fn score(
        &self,
        transactions: &[EncodedTransaction],
        batch_size: NonZeroUsize,
        stop: &CancellationToken,
    ) -> Result<Vec<ScoreOutcome>, ScoreError> {
        self.score_in(Lane::Batch, transactions, batch_size, None, stop).await
    }

    /// As [`Scorer::score`], for live transactions; the first request uses `permit`.
    pub async fn score_live(
        &self,
        transactions: &[EncodedTransaction],
        batch_size: NonZeroUsize,
        permit: Option<ApiPermit>,
        stop: &CancellationToken,
    ) -> Result<Vec<ScoreOutcome>, ScoreError> {
        self.score_in(Lane::Realtime, transactions, batch_size, permit, stop).await
    }

    /// Waits for a permit of the realtime lane; more rows can be collected meanwhile. `is_full`: the rows fill a request. Safe
    /// to cancel.
    pub async fn acquire_live_permit(&self, is_full: bool) -> ApiPermit {
        self.shared.permits.acquire(Lane::Realtime, is_full).await
    }

    async fn score_in(
        &self,
        lane: Lane,
        transactions: &[EncodedTransaction],
        batch_size: NonZeroUsize,
        permit: Option<ApiPermit>,
        stop: &CancellationToken,
    ) -> Result<Vec<ScoreOutcome>, ScoreError> {
        let mut finished = Vec::with_capacity(transactions.len());
        let (mut rows, mut unwritable) = (Vec::with_capacity(transactions.len()), Vec::new());
        for (position, transaction) in transactions.iter().enumerate() {
            match self.writable(transaction) {
                Ok(id) => rows.push(PendingRow { position, id }),
                Err(reason) => unwritable.push((position, reason)),
            }
        }
        if self.shared.protocol.has_features() && !transactions.is_empty() {
            let problem = unwritable.first().map_or("", |(_, reason)| reason);
            self.shared.until_inputs_fit(!rows.is_empty(), problem, stop).await?;
        }
        finished.extend(unwritable.into_iter().map(|(position, reason)| {
            PendingRow { position, id: Uuid::nil() }.failed(FailureClass::Rejected, reason, 0)
        }));
        let reserved_permit = std::sync::Mutex::new(permit);
        let executor =
            RequestExecutor { shared: &self.shared, transactions, lane, reserved_permit: &reserved_permit, stop };
        let groups = split_into_requests(rows, transactions, batch_size, &self.shared.size_limit);
        let mut executing: FuturesUnordered<_> = groups.into_iter().map(|group| executor.execute(group)).collect();
        while let Some(outcome) = executing.next().await {
            let outcome = outcome?;
            finished.extend(outcome.finished);
            executing.extend(outcome.halves.into_iter().flatten().map(|half| executor.execute(half)));
        }
        drop(executing);
        let outcomes = in_order(finished);
        let scored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        self.shared.counters.scored.add(scored);
        self.shared.counters.failed.add(outcomes.len() - scored);
        Ok(outcomes)
    }

    /// The id of a transaction that can be sent; else why it fails before it is.
    fn writable(&self, transaction: &EncodedTransaction) -> Result<Uuid, String> {
        // Without an id its response could not be matched. The loader never sends such a row.
        let id = transaction.id().map_err(|_| "the transaction has no id to match the response by".to_owned())?;
        self.shared.protocol.check(transaction)?;
        Ok(id)
    }

    /// The pace of this process, which the fleet shares.
    pub fn pace(&self) -> &Pace {
        &self.shared.pace
    }

    /// Time until the next probe, while the API does not work.
    pub fn time_until_probe(&self) -> Duration {
        self.shared.breaker.time_until_probe()
    }

    /// Most requests that are ever in flight at a time; at present it may be fewer.
    pub fn max_workers(&self) -> usize {
        self.max_workers
    }

    /// How long a chunk of so many rows may take, outages aside, if one row always makes the API time out: its request takes all
    /// retries as a whole, then its halves in turn, then all retries of the row alone. The chunk's other requests take up to a
    /// time-out each, as many at a time as there are permits: the fewest that time-outs leave.
    pub fn longest_bisection(&self, rows: usize, batch_size: NonZeroUsize) -> Duration {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let halvings = count(batch_size.get().min(rows).max(1)).next_power_of_two().ilog2().saturating_sub(1);
        let rounds = count(rows.div_ceil(batch_size.get()).div_ceil(self.shared.concurrency.least_after_timeouts()));
        let attempts = 2 * (self.shared.max_retries + 1) + halvings;
        self.api_timeout.saturating_mul(attempts.saturating_add(rounds.saturating_sub(1)))
    }

    /// The first digits of the SHA-256 of the features file, which say what made a prediction; none with the native protocol.
    pub fn features_digest(&self) -> Option<&str> {
        self.shared.protocol.features_digest()
    }

    /// The counts so far.
    pub fn stats(&self) -> ScorerStats {
        let ScorerCounters { requests, retries, bisections, canaries, scored, failed } = &self.shared.counters;
        ScorerStats {
            requests: requests.get(),
            retries: retries.get(),
            bisections: bisections.get(),
            canaries: canaries.get(),
            outages: self.shared.breaker.outages(),
            scored: scored.get(),
            failed: failed.get(),
        }
    }

    /// Whether requests can be sent at the moment; else why not.
    pub fn health(&self) -> Result<(), String> {
        match &*self.shared.breaker.state().borrow() {
            ApiState::Ready => self.shared.pace.health(),
            ApiState::Unavailable { reason, .. } => Err(format!("the ML API is unavailable ({reason})")),
            ApiState::Misconfigured { reason, remedy } => {
                Err(format!("the ML API cannot be used ({reason}): {remedy}"))
            }
        }
    }

    /// The state of the API, now and from now on.
    pub fn state(&self) -> watch::Receiver<ApiState> {
        self.shared.breaker.state()
    }
}

/// Each position is there once, as each row has one owner.
fn in_order(mut finished: Vec<FinishedRow>) -> Vec<ScoreOutcome> {
    finished.sort_by_key(|row| row.position);
    finished.into_iter().map(|row| row.outcome).collect()
}
