//! Transactions a second through the client, with a nearly free API in the same process, at 100 a request, by the number of
//! requests in flight: `cargo bench -p assay-scoring`.

mod api;

use std::num::NonZeroUsize;

use assay_scoring::{ApiOptions, Scorer};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The default of `API_BATCH_SIZE`.
const ROWS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
/// Requests an iteration.
const REQUESTS: usize = 50;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 5, 20])]
fn score(bencher: Bencher<'_, '_>, workers: u16) {
    let runtime = Runtime::new().expect("a runtime starts");
    let answer = api::answer(ROWS.get());
    let app = Router::new().route("/predict", post(async move |_: Bytes| answer.clone()));
    let url = runtime.block_on(api::serve(app));
    let scorer = Scorer::new(&url, &ApiOptions { api_max_workers: workers, ..ApiOptions::default() })
        .expect("the address is right");
    let stop = CancellationToken::new();
    let transactions = api::transactions(ROWS.get());
    bencher.counter(ItemsCount::new(ROWS.get() * REQUESTS)).bench_local(|| {
        let requests = (0..REQUESTS).map(|_| scorer.score(&transactions, ROWS, &stop));
        let outcomes = runtime.block_on(join_all(requests));
        let is_scored = |outcomes: &Vec<_>| outcomes.len() == ROWS.get() && outcomes.iter().all(Result::is_ok);
        assert!(outcomes.iter().all(|outcomes| outcomes.as_ref().is_ok_and(is_scored)));
    });
}
