//! The startup: any HTTP response of the API will do.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_connect::RetryPolicy;
use assay_transaction::Exit;
use tracing_subscriber::fmt::MakeWriter;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, options, quick, score, scorer, within};
use crate::Scorer;
use crate::options::Policy;

/// The captured log.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for CapturedLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Captures the log of this thread, which runs the test.
fn log() -> (CapturedLog, tracing::subscriber::DefaultGuard) {
    let log = CapturedLog::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

const LONG: Duration = Duration::from_secs(50);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn any_http_response_will_do() {
    let answers: [fn() -> Reply; 12] = [
        || Reply::Status(200),
        || Reply::Status(204),
        || Reply::Page(404, "content-type", "text/html"),
        || Reply::Page(405, "allow", "POST"),
        || Reply::Page(302, "location", "/login"),
        || Reply::Status(401),
        || Reply::Status(403),
        || Reply::Status(418),
        || Reply::Status(501),
        || Reply::Status(500),
        || Reply::Status(503),
        || Reply::RetryAfter(429, "3600".to_owned()),
    ];
    for answer in answers {
        let stub = Stub::with_health(|_| Reply::Scores, move |_| answer());
        let scorer = scorer(&stub.url());
        within(scorer.wait_until_ready(LONG)).await.unwrap();
        assert_eq!(stub.health_requests(), 1);
        assert_eq!(scorer.health(), Ok(()));
        assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
        assert_eq!(stub.requests().len(), 1, "it is used like any other");
    }
}

#[tokio::test]
async fn an_api_that_serves_only_predict_will_do() {
    for health in [|| Reply::Stall, || Reply::Drop] {
        let stub = Stub::with_health(|_| Reply::Scores, move |_| health());
        let scorer = scorer(&stub.url());
        within(scorer.wait_until_ready(LONG)).await.unwrap();
        assert_eq!(
            stub.requests().iter().map(|request| request.body.as_str()).collect::<Vec<_>>(),
            ["[]"],
            "no row is made up"
        );
        assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
    }
}

#[tokio::test]
async fn the_whole_time_is_used_however_long_the_pauses_are() {
    let (log, _guard) = log();
    let mut late = Stub::not_started(|_| Reply::Scores, |_| Reply::Status(200));
    let rare = RetryPolicy::new(Duration::from_hours(1), Duration::from_hours(1));
    let scorer = Scorer::with_policy(&late.url(), &options(), Policy { outage: rare, ..quick() }).unwrap();
    let start = async {
        while !log.text().contains("waiting") {
            tokio::task::yield_now().await;
        }
        late.start();
    };
    let (ready, ()) = within(async { tokio::join!(scorer.wait_until_ready(Duration::from_secs(1)), start) }).await;
    ready.unwrap();
}

#[tokio::test]
async fn an_api_without_a_response_ends_the_start() {
    let silent = Stub::not_started(|_| Reply::Scores, |_| Reply::Status(200));
    let error = within(scorer(&silent.url()).wait_until_ready(SHORT)).await.unwrap_err();
    assert_eq!(error.exit(), Exit::DependencyUnavailable);
    let message = error.to_string();
    assert!(message.contains("(connection refused): check ML_API_URL") && message.contains(&silent.url()), "{message}");

    let stalled = Stub::with_health(|_| Reply::Stall, |_| Reply::Stall);
    let error = within(scorer(&stalled.url()).wait_until_ready(SHORT)).await.unwrap_err();
    assert!(error.to_string().contains("(no response in time)"), "{error}");

    let error = within(scorer("http://no-such-host.invalid").wait_until_ready(SHORT)).await.unwrap_err();
    assert_eq!(error.exit(), Exit::DependencyUnavailable);
}

#[tokio::test]
async fn the_wait_is_logged_once() {
    let (log, _guard) = log();
    let mut late = Stub::not_started(|_| Reply::Scores, |_| Reply::Status(404));
    let (url, scorer) = (late.url(), scorer(&late.url()));
    let start = async {
        while !log.text().contains("waiting") {
            tokio::task::yield_now().await;
        }
        late.start();
    };
    let (ready, ()) = within(async { tokio::join!(scorer.wait_until_ready(LONG), start) }).await;
    ready.unwrap();
    let text = log.text();
    let expected = format!("waiting for the ML API at {url} (connection refused), up to 50 s (STARTUP_TIMEOUT)");
    assert_eq!(text.matches(&expected).count(), 1, "{text}");
    assert_eq!(text.matches("waiting").count(), 1, "{text}");
    assert!(text.contains("has no health check at GET /health (HTTP status 404 Not Found)"), "{text}");
}

#[tokio::test]
async fn a_silent_api_is_logged_while_the_start_waits() {
    let (log, _guard) = log();
    let stalled = Stub::with_health(|_| Reply::Scores, |_| Reply::Stall);
    let patient = Policy { health_timeout: Duration::from_mins(1), ..quick() };
    let scorer = Scorer::with_policy(&stalled.url(), &options(), patient).unwrap();
    let said = async {
        while !log.text().contains("(no response yet)") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(async {
        tokio::select! {
            ready = scorer.wait_until_ready(Duration::from_mins(10)) => panic!("{ready:?}"),
            () = said => {}
        }
    })
    .await;
}
