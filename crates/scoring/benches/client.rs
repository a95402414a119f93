//! Transactions a second through the client, with a nearly free API in the same process, at 100 a request, by the number of
//! requests in flight: `cargo bench -p assay-scoring`.

use assay_scoring::{ApiOptions, Scorer};
use assay_transaction::Entry;
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
const ROWS: usize = 100;
/// Requests an iteration.
const REQUESTS: usize = 50;

fn main() {
    divan::main();
}

fn entries() -> Vec<Entry> {
    let entry = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        let transaction = format!(
            r#"{{"id":"{id}","description":"Carrefour City Paris 11","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":"Carrefour","operation_type":"card_payment","side":"debit","attributes":{{"country":"FR"}}}}"#
        );
        let transaction = serde_json::from_str(&transaction).expect("it is JSON");
        Entry { row: row as u64 + 1, external_id: None, transaction }
    };
    (0..ROWS).map(entry).collect()
}

/// The response to these entries, as the reference API writes it.
fn answer() -> Bytes {
    let item = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        format!(
            r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.0312,"model_version":"demo-1"}}"#
        )
    };
    format!("[{}]", (0..ROWS).map(item).collect::<Vec<_>>().join(",")).into()
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
    let chunk = entries();
    bencher.counter(ItemsCount::new(ROWS * REQUESTS)).with_inputs(|| vec![chunk.clone(); REQUESTS]).bench_values(
        |chunks| {
            let answers = runtime.block_on(join_all(chunks.into_iter().map(|chunk| scorer.score(chunk, &stop))));
            assert!(answers.iter().all(|scores| scores.as_ref().is_ok_and(|scores| scores.predicted.len() == ROWS)));
        },
    );
}
