//! Retrying: how long to pause between attempts, and for how long to go on.
//!
//! All services are waited for by one [`RetryPolicy`]. The callers keep what differs: which errors are worth a retry, and what
//! is logged. Decision 0029 says which policy each service has, and why.
//!
//! Guarantees: no pause is longer than the policy's maximum. With a time limit, the last attempt is made when the time is up.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// An attempt has at least this long, even if the time limit is over sooner: its error then names the cause, rather than the
/// lack of time.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// Pauses that double from the initial to the maximum one, with jitter: each lasts between half and the whole of that, so that
/// processes that failed together do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub maximum: Duration,
    /// Retries end when attempts have failed for this long. Without a limit they never end.
    pub limit: Option<Duration>,
}

impl RetryPolicy {
    /// A policy without a time limit.
    pub const fn new(initial: Duration, maximum: Duration) -> Self {
        Self { initial, maximum, limit: None }
    }

    /// The same policy with a time limit.
    #[must_use]
    pub const fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The pause before this retry, counted from 0.
    pub fn delay(&self, retry: u32) -> Duration {
        self.longest_delay(retry).mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// The same pause without jitter.
    pub fn longest_delay(&self, retry: u32) -> Duration {
        self.initial.saturating_mul(2_u32.saturating_pow(retry)).min(self.maximum)
    }

    /// The pauses of one series of attempts. The time limit starts with the first failure.
    pub const fn backoff(self) -> Backoff {
        Backoff { policy: self, retries: 0, failing_since: None }
    }

    /// The same pauses. The time limit starts now.
    pub fn started(self) -> Backoff {
        Backoff { failing_since: Some(Instant::now()), ..self.backoff() }
    }
}

/// Between nothing and all of `whole`, at random.
pub fn random_part(whole: Duration) -> Duration {
    whole.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// The pauses of one series of attempts.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    retries: u32,
    failing_since: Option<Instant>,
}

impl Backoff {
    /// An attempt succeeded: the next failure starts over.
    pub const fn reset(&mut self) {
        *self = self.policy.backoff();
    }

    /// Whether an attempt has failed since the last success.
    pub const fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// An attempt failed: the pause before the next one, or none when the time is up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        self.failing_since.get_or_insert_with(Instant::now);
        let (delay, left) = (self.policy.delay(self.retries), self.time_left());
        self.retries = self.retries.saturating_add(1);
        (!left.is_zero()).then(|| delay.min(left))
    }

    /// How long the next attempt may take: the longest attempt, or what is left of the time limit.
    pub fn attempt_timeout(&self, longest: Duration) -> Duration {
        self.time_left().max(SHORTEST_ATTEMPT).min(longest)
    }

    fn time_left(&self) -> Duration {
        let spent = self.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.policy.limit.map_or(Duration::MAX, |limit| limit.saturating_sub(spent))
    }

    /// An attempt failed: pauses before the next one. Returns false when the time is up.
    pub async fn pause(&mut self) -> bool {
        let Some(delay) = self.next_delay() else { return false };
        sleep(delay).await;
        true
    }
}

/// Calls `attempt` until it succeeds, returns an error that `is_retryable` rejects, or the policy's time is up.
pub async fn until_ok<T, E, F: Future<Output = Result<T, E>>>(
    policy: RetryPolicy,
    mut attempt: impl FnMut() -> F,
    is_retryable: impl FnMut(&E) -> bool,
) -> Result<T, E> {
    repeat(policy.started(), Duration::MAX, |_| attempt(), is_retryable).await
}

/// As [`until_ok`], for a service that may still be starting. `attempt` receives how long it may take: the longest attempt, or
/// what is left of `startup`.
pub async fn at_startup<T, E, F: Future<Output = Result<T, E>>>(
    policy: RetryPolicy,
    startup: Duration,
    longest_attempt: Duration,
    attempt: impl FnMut(Duration) -> F,
    is_retryable: impl FnMut(&E) -> bool,
) -> Result<T, E> {
    repeat(policy.within(startup).started(), longest_attempt, attempt, is_retryable).await
}

/// As [`until_ok`]; returns none if `stop` ends a pause. Attempts are not interrupted.
pub async fn until_ok_or_stopped<T, E, F: Future<Output = Result<T, E>>>(
    policy: RetryPolicy,
    stop: &CancellationToken,
    mut attempt: impl FnMut() -> F,
    mut is_retryable: impl FnMut(&E) -> bool,
) -> Option<Result<T, E>> {
    let mut backoff = policy.started();
    loop {
        match attempt().await {
            Err(error) if is_retryable(&error) => {
                if !stop.run_until_cancelled(backoff.pause()).await? {
                    return Some(Err(error));
                }
            }
            result => return Some(result),
        }
    }
}

async fn repeat<T, E, F: Future<Output = Result<T, E>>>(
    mut backoff: Backoff,
    longest_attempt: Duration,
    mut attempt: impl FnMut(Duration) -> F,
    mut is_retryable: impl FnMut(&E) -> bool,
) -> Result<T, E> {
    loop {
        match attempt(backoff.attempt_timeout(longest_attempt)).await {
            Err(error) if is_retryable(&error) => {
                if !backoff.pause().await {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(1));

    #[test]
    fn delays_double_up_to_the_maximum() {
        for (retry, longest) in [(0, 100), (1, 200), (3, 800), (4, 1000), (u32::MAX, 1000)] {
            assert_eq!(POLICY.longest_delay(retry).as_millis(), longest, "{retry}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_starts_over() {
        let mut backoff = POLICY.within(Duration::from_hours(1)).backoff();
        assert!(!backoff.is_failing());
        let delays: Vec<_> = (0..20).map_while(|_| backoff.next_delay()).collect();
        assert!(delays.len() == 20 && delays[19] >= POLICY.maximum / 2, "{delays:?}");
        assert!(backoff.is_failing());
        backoff.reset();
        assert!(!backoff.is_failing());
        assert!(backoff.next_delay().unwrap() <= POLICY.initial);
        assert_eq!(POLICY.within(Duration::ZERO).backoff().next_delay(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_is_made_when_the_time_is_up() {
        let (began, startup) = (Instant::now(), Duration::from_secs(10));
        let latest = Cell::new(Duration::ZERO);
        let attempt = |timeout: Duration| {
            latest.set(timeout);
            async { Err::<(), _>("unreachable") }
        };
        assert_eq!(at_startup(POLICY, startup, startup / 2, attempt, |_| true).await, Err("unreachable"));
        assert_eq!((began.elapsed(), latest.get()), (startup, SHORTEST_ATTEMPT));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_with_success_a_lasting_error_or_a_stop() {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            let number = attempts.get();
            async move { if number < 5 { Err(number) } else { Ok(number) } }
        };
        assert_eq!(until_ok(POLICY, attempt, |_| true).await, Ok(5));
        attempts.set(0);
        assert_eq!(until_ok(POLICY, attempt, |error| *error < 3).await, Err(3));
        attempts.set(0);
        let stop = CancellationToken::new();
        assert_eq!(until_ok_or_stopped(POLICY, &stop, attempt, |_| true).await, Some(Ok(5)));
        stop.cancel();
        attempts.set(0);
        assert_eq!(until_ok_or_stopped(POLICY, &stop, attempt, |_| true).await, None);
        assert_eq!(attempts.get(), 1);
    }

    proptest! {
        #[test]
        fn a_delay_lies_between_half_and_the_whole(initial in 1_u64..10_000, maximum in 1_u64..100_000, retry: u32) {
            let policy = RetryPolicy::new(Duration::from_millis(initial), Duration::from_millis(maximum));
            let (delay, longest) = (policy.delay(retry), policy.longest_delay(retry));
            prop_assert!(longest / 2 <= delay && delay <= longest && longest <= policy.maximum);
        }
    }
}
