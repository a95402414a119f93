//! How much the scorer asks of the API: requests at a time, retries, bytes.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assay_transaction::Entry;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, entry, options, quick, score, score_chunks, score_in_requests, within};
use crate::{ApiOptions, Scorer};

/// An API that can be down, and counts the requests that it is asked to serve at a time.
#[derive(Clone, Default)]
struct CountingApi {
    is_down: Arc<AtomicBool>,
    now: Arc<AtomicUsize>,
    /// How many were there when each arrived, itself included.
    arrivals: Arc<Mutex<Vec<usize>>>,
}

impl CountingApi {
    async fn serve(&self) -> String {
        let api = self.clone();
        let app = axum::Router::new().fallback(move |body: String| api.clone().answer(body));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }

    async fn answer(self, body: String) -> Result<String, axum::http::StatusCode> {
        if body.is_empty() {
            return Ok(String::new());
        }
        if self.is_down.load(Ordering::SeqCst) {
            return Err(axum::http::StatusCode::TOO_MANY_REQUESTS);
        }
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.arrivals.lock().unwrap().push(now);
        // Long enough for others to arrive, if they are sent.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
        let items: Vec<_> =
            rows.iter().map(|row| serde_json::json!({"transaction_id": row["id"], "label": 1})).collect();
        Ok(serde_json::to_string(&items).unwrap())
    }

    fn take_arrivals(&self) -> Vec<usize> {
        std::mem::take(&mut *self.arrivals.lock().unwrap())
    }
}

#[tokio::test]
async fn requests_begin_one_at_a_time_and_so_they_do_after_an_outage() {
    let api = CountingApi::default();
    let scorer = Scorer::with_policy(&api.serve().await, &options(), quick()).unwrap();
    within(score_chunks(&scorer, 40)).await;
    let first = api.take_arrivals();
    assert!(first[0] == 1 && first[1] <= 2 && first[2] <= 2, "{first:?}");
    assert!(first.iter().all(|now| *now <= scorer.max_workers()), "{first:?}");
    api.is_down.store(true, Ordering::SeqCst);
    let mut state = scorer.state();
    let repair = async {
        state.wait_for(|state| !state.is_ready()).await.unwrap();
        api.is_down.store(false, Ordering::SeqCst);
    };
    let (found, ()) = within(async { tokio::join!(score_chunks(&scorer, 40), repair) }).await;
    assert!(found.iter().all(|found| found.predicted.len() == 9));
    let after = api.take_arrivals();
    assert!(after[0] == 1 && after[1] <= 2 && after[2] <= 2, "no stampede: {after:?}");
    assert_eq!(scorer.stats().outages, 1);
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let requests_by_row = Mutex::new(HashMap::<String, u32>::new());
    let stub = Stub::serve(move |request| {
        let mut requests = requests_by_row.lock().unwrap();
        let count = requests.entry(request.ids().swap_remove(0)).or_default();
        *count += 1;
        if *count <= 3 { Reply::Status(500) } else { Reply::Scores }
    });
    let scorer = Scorer::with_policy(&stub.url(), &options(), quick()).unwrap();
    // The first shows that the model works, so that no canaries are needed later.
    assert_outcomes(&score(&scorer, entries(900..902, "", &[])).await, 900..902, &[]);
    let began = Instant::now();
    let found = within(join_all((0..60).map(|chunk| score(&scorer, entries(chunk * 2..chunk * 2 + 2, "", &[]))))).await;
    assert!(found.iter().all(|found| found.predicted.len() == 2), "none fails for it");
    let stats = scorer.stats();
    #[allow(clippy::cast_precision_loss)]
    let (retries, requests) = (stats.retries as f64, stats.requests as f64);
    let allowed = 100.0 + 0.2 * requests + 10.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(retries <= allowed, "{retries} retries of {requests} requests");
    assert!(retries >= 180.0);
}

/// Rows with descriptions of so many characters.
fn sized(rows: std::ops::Range<u64>, characters: impl Fn(u64) -> usize) -> Vec<Entry> {
    rows.map(|row| entry(row, &"x".repeat(characters(row)))).collect()
}

#[tokio::test]
async fn requests_are_bounded_by_bytes_as_well_as_rows() {
    let limit = 20_000;
    let stub = Stub::serve(|_| Reply::Scores);
    let bounded = ApiOptions { api_max_bytes: Some(limit), ..options() };
    let scorer = Scorer::with_policy(&stub.url(), &bounded, quick()).unwrap();
    let rows = sized(0..300, |row| if row == 7 { 50_000 } else { usize::try_from(row).unwrap() * 10 % 1_000 });
    let stop = CancellationToken::new();
    let found = within(score_in_requests(&scorer, rows, NonZeroUsize::new(100).unwrap(), &stop)).await.unwrap();
    assert_outcomes(&found, 0..300, &[]);
    let requests = stub.requests();
    for request in &requests {
        let (bytes, rows) = (request.body.len(), request.ids().len());
        assert!(bytes <= limit as usize || rows == 1, "{bytes} bytes of {rows} rows");
    }
    assert_eq!(
        requests.iter().filter(|request| request.body.len() > limit as usize).count(),
        1,
        "the large one, alone"
    );
    let full = requests.iter().filter(|request| request.body.len() > limit as usize / 2).count();
    assert!(full + 3 >= requests.len(), "they are no smaller than needed: {full} of {}", requests.len());
}

#[tokio::test]
async fn requests_that_wait_become_smaller_too_once_the_apis_limit_shows() {
    let most = 10_000;
    let stub = Stub::serve(move |request| if request.body.len() > most { Reply::Status(413) } else { Reply::Scores });
    let scorer = Scorer::with_policy(&stub.url(), &options(), quick()).unwrap();
    // Four requests of 16 kB each, sent one at a time at first.
    let rows = sized(0..400, |_| 0);
    let stop = CancellationToken::new();
    let found = within(score_in_requests(&scorer, rows, NonZeroUsize::new(100).unwrap(), &stop)).await.unwrap();
    assert_outcomes(&found, 0..400, &[]);
    let refused = stub.requests().iter().filter(|request| request.body.len() > most).count();
    assert_eq!(refused, 1, "only the first");
}
