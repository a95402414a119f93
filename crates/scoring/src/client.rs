//! The scorer: what the predictor calls.

use std::time::Duration;

use assay_transaction::{Entry, FailedRow, FailureClass, Lane, Predicted};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::breaker::CircuitBreaker;
use crate::canary::SuccessTracker;
use crate::failure::Symptom;
use crate::health::{HealthCheck, HealthStatus};
use crate::http::{HttpClient, RequestError};
use crate::options::TLS_PREFIX;
use crate::permits::{RequestPermit, RequestPermits};
use crate::policy::Policy;
use crate::request::{ClientState, RequestExecutor};
use crate::row::{PendingRow, RowOutcome};
use crate::split::{SizeLimit, part};
use crate::stats::ScorerCounters;
use crate::{ApiOptions, ApiState, ScoreError, ScorerStats, ScoringError, metrics};

/// What an attempt has at least, though the start-up may be over sooner: so that the error tells what is wrong, and not that
/// there was no time left to ask.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// How long the first question at the start may go unanswered before that is said.
const SILENCE: Duration = Duration::from_secs(1);

/// Has transactions scored by an ML API. One serves a whole process: it bounds the requests under way, and all its callers
/// learn together that the API is away.
#[derive(Debug)]
pub struct Scorer {
    shared: ClientState,
    max_workers: usize,
    api_timeout: Duration,
}

/// What became of the entries of a call: each of them is in exactly one of the lists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Scored, in the order of the call.
    pub predicted: Vec<Predicted>,
    /// Not scored, in the order of the call.
    pub failed: Vec<FailedRow>,
}

impl Scorer {
    /// A scorer for the API at this address. Connects to nothing yet; fails for an address that cannot be one.
    pub fn new(url: &str, options: &ApiOptions) -> Result<Self, ScoringError> {
        Self::with_policy(url, options, Policy::default())
    }

    /// A scorer for the API that the settings name.
    pub fn from_options(options: &ApiOptions) -> Result<Self, ScoringError> {
        let url = options.address()?;
        options.tls().expect_tls(url.starts_with("https:"), "https://")?;
        Self::new(&url, options)
    }

    pub(crate) fn with_policy(url: &str, options: &ApiOptions, policy: Policy) -> Result<Self, ScoringError> {
        metrics::describe(options.api_max_workers);
        let max_workers = usize::from(options.api_max_workers);
        let http = HttpClient::new(url.trim(), options)?;
        let shared = ClientState {
            breaker: CircuitBreaker::new(http.address(), http.predict_path(), &policy),
            http,
            health_check: HealthCheck::default(),
            max_retries: options.max_retries,
            policy,
            permits: RequestPermits::new(max_workers, options.realtime_reserve),
            successes: SuccessTracker::new(),
            size_limit: SizeLimit::none(),
            counters: ScorerCounters::default(),
            canary_lock: Mutex::default(),
        };
        Ok(Self { shared, max_workers, api_timeout: options.api_timeout })
    }

    /// Waits until the API gives any HTTP answer, at most for `startup`, and says what it waits for. Whether it scores shows
    /// with the first transaction: what does not work then is waited out, and fails no row.
    pub async fn wait_until_ready(&self, startup: Duration) -> Result<(), ScoringError> {
        let ClientState { http, policy, .. } = &self.shared;
        let deadline = Instant::now() + startup;
        let url = || http.address().to_owned();
        let mut is_said = false;
        let mut say = |problem: &str| {
            if !std::mem::replace(&mut is_said, true) {
                let (url, limit) = (http.address(), startup.as_secs_f64().round());
                warn!("waiting for the ML API at {url} ({problem}), for {limit} s at the most (STARTUP_TIMEOUT)");
            }
        };
        let patience =
            || policy.health_timeout.min(deadline.saturating_duration_since(Instant::now()).max(LAST_MOMENT));
        for step in 0.. {
            let asking = self.shared.health_check.ask(http, patience(), 0);
            let mut asking = std::pin::pin!(asking);
            let health = tokio::select! {
                health = &mut asking => health,
                () = tokio::time::sleep(SILENCE) => {
                    say("it does not answer yet");
                    asking.await
                }
            };
            let error = match health {
                HealthStatus::Healthy => return Ok(()),
                HealthStatus::NoCheck(RequestError { symptom, .. }) => {
                    info!(
                        "ML API at {} has no health check at GET /health ({symptom}), and needs none",
                        http.address()
                    );
                    return Ok(());
                }
                HealthStatus::Unhealthy(RequestError { symptom, .. }) => {
                    warn!(
                        "ML API at {} answers GET /health with {symptom}: transactions wait until it scores",
                        http.address()
                    );
                    return Ok(());
                }
                HealthStatus::NoAnswer(RequestError { symptom, .. })
                    if http.accepts_empty_predict(patience()).await =>
                {
                    info!(
                        "ML API at {} does not answer GET /health ({symptom}), but requests to score",
                        http.address()
                    );
                    return Ok(());
                }
                HealthStatus::NoAnswer(error) | HealthStatus::Unreachable(error) => error,
            };
            if let Symptom::Tls(error) = error.symptom {
                let (cause, remedy) = (error.cause(), error.remedy(TLS_PREFIX));
                return Err(ScoringError::Tls { url: url(), cause, remedy });
            }
            let problem = error.symptom.to_string();
            let now = Instant::now();
            if now >= deadline {
                return Err(ScoringError::Away { url: url(), startup, problem });
            }
            say(&problem);
            // However long the next pause would be, the whole time is used: it may come at the end.
            tokio::time::sleep_until(deadline.min(now + policy.outage.delay(step))).await;
        }
        Ok(())
    }

    /// Has every entry scored, however long that takes: an outage, a broken model and a wrong setting are waited out.
    ///
    /// Once `stop` fires no further request is sent; those under way may still complete the call. Dropping the future is
    /// safe: the entries can be scored again.
    pub async fn score(&self, entries: Vec<Entry>, stop: &CancellationToken) -> Result<Scores, ScoreError> {
        self.score_in(Lane::Batch, entries, None, stop).await
    }

    /// As [`Scorer::score`], for live transactions; the first request uses a permit that was waited for before.
    pub async fn score_live(
        &self,
        entries: Vec<Entry>,
        permit: Option<RequestPermit>,
        stop: &CancellationToken,
    ) -> Result<Scores, ScoreError> {
        self.score_in(Lane::Realtime, entries, permit, stop).await
    }

    /// Waits for a permit of the realtime lane, so that more can be collected until there is one. `is_whole` says that what is
    /// to be asked for fills a request. Safe to cancel.
    pub async fn acquire_live_permit(&self, is_whole: bool) -> RequestPermit {
        self.shared.permits.acquire(Lane::Realtime, is_whole).await
    }

    async fn score_in(
        &self,
        lane: Lane,
        entries: Vec<Entry>,
        permit: Option<RequestPermit>,
        stop: &CancellationToken,
    ) -> Result<Scores, ScoreError> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut rows = Vec::with_capacity(entries.len());
        for (position, entry) in entries.into_iter().enumerate() {
            match entry.transaction.id() {
                Ok(id) => rows.push(PendingRow { position, id, entry, attempts: 0 }),
                // The answer could not be matched. The loader writes none such.
                Err(_) => outcomes.push(
                    PendingRow { position, id: Uuid::nil(), entry, attempts: 0 }
                        .failed(FailureClass::Rejected, "the transaction has no id to match an answer by".to_owned()),
                ),
            }
        }
        let reserved_permit = std::sync::Mutex::new(permit);
        let inquiry = RequestExecutor { shared: &self.shared, lane, reserved_permit: &reserved_permit, stop };
        let mut asking: FuturesUnordered<_> =
            part(rows, &self.shared.size_limit).into_iter().map(|part| inquiry.execute(part)).collect();
        while let Some(settled) = asking.next().await {
            let settled = settled?;
            outcomes.extend(settled.outcomes);
            asking.extend(settled.halves.into_iter().flatten().map(|half| inquiry.execute(half)));
        }
        drop(asking);
        let scores = in_order(outcomes);
        self.shared.counters.scored.add(scores.predicted.len());
        self.shared.counters.failed.add(scores.failed.len());
        Ok(scores)
    }

    /// How long nobody asks the API from now on.
    #[cfg(test)]
    pub(crate) fn time_until_probe(&self) -> Duration {
        self.shared.breaker.time_until_probe()
    }

    /// How many requests may be under way at a time.
    pub fn max_workers(&self) -> usize {
        self.max_workers
    }

    /// How long a chunk of 100 rows may take, no outage counted, where one of them makes the API time out whenever it is
    /// asked for: with all repetitions as it came, then by halves, then with all repetitions alone.
    pub fn longest_bisection(&self) -> Duration {
        const HALVINGS: u32 = 6;
        let repetitions = 2 * (self.shared.max_retries + 1);
        self.api_timeout * (repetitions + HALVINGS)
    }

    /// What was done so far.
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

    /// Whether the API can be asked at the moment; else why not.
    pub fn health(&self) -> Result<(), String> {
        match &*self.shared.breaker.state().borrow() {
            ApiState::Ready => Ok(()),
            ApiState::Unavailable { reason, .. } => Err(format!("the ML API is unavailable ({reason})")),
            ApiState::Misconfigured { reason, remedy } => {
                Err(format!("the ML API refuses to work ({reason}): {remedy}"))
            }
        }
    }

    /// Whether the API can be asked, now and from now on.
    pub fn state(&self) -> watch::Receiver<ApiState> {
        self.shared.breaker.state()
    }
}

fn in_order(mut outcomes: Vec<RowOutcome>) -> Scores {
    outcomes.sort_unstable_by_key(|outcome| outcome.position);
    let mut scores = Scores::default();
    for outcome in outcomes {
        match outcome.result {
            Ok(predicted) => scores.predicted.push(predicted),
            Err(failed) => scores.failed.push(failed),
        }
    }
    scores
}
