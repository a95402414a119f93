//! How long to wait for what. Apart from the settings, so that tests can be quick.

use std::time::Duration;

use assay_connect::RetryPolicy;

/// The waits of a scorer.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Between repetitions of a request that the API failed on.
    pub(crate) retry: RetryPolicy,
    /// Between questions after the health of an API that is away.
    pub(crate) outage: RetryPolicy,
    /// Between requests to an API that refuses everything, until somebody repairs it.
    pub(crate) repair: RetryPolicy,
    /// How long other requests under way are given to show that the model works, before it is asked.
    pub(crate) patience: Duration,
    /// How long `GET /health` may take.
    pub(crate) health_timeout: Duration,
    /// The longest that a `Retry-After` is believed.
    pub(crate) longest_retry_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let (millis, seconds) = (Duration::from_millis, Duration::from_secs);
        Self {
            retry: RetryPolicy::new(millis(200), seconds(5)),
            outage: RetryPolicy::new(millis(500), seconds(30)),
            repair: RetryPolicy::new(seconds(2), seconds(30)),
            patience: millis(100),
            health_timeout: seconds(5),
            longest_retry_after: Duration::from_hours(1),
        }
    }
}
