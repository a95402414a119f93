//! Transactions a second through the client, with a nearly free API in the same process, at 100 a request, by the number of
//! requests in flight: `cargo bench -p assay-scoring`.

use std::num::NonZeroUsize;

use assay_scoring::{ApiOptions, Scorer};
use assay_transaction::EncodedTransaction;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The default of `API_BATCH_SIZE`.
const ROWS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
/// Requests an iteration.
const REQUESTS: usize = 50;

fn main() {
    divan::main();
}

fn transactions() -> Vec<EncodedTransaction> {
    let transaction = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        let transaction = format!(
            r#"{{"id":"{id}","description":"Carrefour City Paris 11","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":"Carrefour","operation_type":"card_payment","side":"debit","attributes":{{"country":"FR"}}}}"#
        );
        serde_json::from_str(&transaction).expect("it is JSON")
    };
    (0..ROWS.get()).map(transaction).collect()
}

/// The response to these transactions, as the reference API writes it.
fn answer() -> Bytes {
    let item = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        format!(
            r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.0312,"model_version":"demo-1"}}"#
        )
    };
    format!("[{}]", (0..ROWS.get()).map(item).collect::<Vec<_>>().join(",")).into()
}

#[divan::bench(args = [1, 5, 20])]
fn score(bencher: Bencher<'_, '_>, workers: u16) {
    let runtime = Runtime::new().expect("a runtime starts");
    let answer = answer();
    let app = Router::new().route("/predict", post(async move |_: Bytes| answer.clone()));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    runtime.spawn(async move { axum::serve(listener, app).await });
    let scorer = Scorer::new(&url, &ApiOptions { api_max_workers: workers, ..ApiOptions::default() })
        .expect("the address is right");
    let stop = CancellationToken::new();
    let transactions = transactions();
    bencher.counter(ItemsCount::new(ROWS.get() * REQUESTS)).bench_local(|| {
        let requests = (0..REQUESTS).map(|_| scorer.score(&transactions, ROWS, &stop));
        let outcomes = runtime.block_on(join_all(requests));
        let is_scored = |outcomes: &Vec<_>| outcomes.len() == ROWS.get() && outcomes.iter().all(Result::is_ok);
        assert!(outcomes.iter().all(|outcomes| outcomes.as_ref().is_ok_and(is_scored)));
    });
}
