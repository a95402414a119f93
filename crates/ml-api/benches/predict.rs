//! Transactions scored a second on one core, from the JSON of the request to that of the response, and by step.
//!
//! ```text
//! cargo bench -p assay-ml-api --bench predict
//! ```

#[path = "../tests/it/generated.rs"]
mod generated;

use assay_ml_api::{FeatureEncoder, Model, ModelFile, TransactionFields, predict};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// As the predictor sends them, with UUIDs as ids.
fn transactions(count: usize) -> Vec<TransactionFields<'static>> {
    generated::transactions(7, count).map(|(transaction, _)| transaction).collect()
}

fn body(count: usize) -> Vec<u8> {
    serde_json::to_vec(&transactions(count)).expect("transactions are JSON")
}

/// Parse, features, trees, response; the target is 200,000 a second on one core.
#[divan::bench(args = [1, 10, 100, 1_000])]
fn request_to_response(bencher: Bencher<'_, '_>, count: usize) {
    let (model, body) = (Model::bundled(), body(count));
    let bencher = bencher.counter(ItemsCount::new(count));
    bencher.bench_local(|| predict(&model, black_box(&body), count).expect("a good request"));
}

#[divan::bench]
fn parse_100(bencher: Bencher<'_, '_>) {
    let body = body(100);
    let bencher = bencher.counter(ItemsCount::new(100_usize));
    bencher.bench_local(|| serde_json::from_slice::<Vec<TransactionFields<'_>>>(black_box(&body)).expect("JSON").len());
}

#[divan::bench]
fn features_100(bencher: Bencher<'_, '_>) {
    let file: ModelFile = serde_json::from_str(Model::BUNDLED).expect("the bundled model");
    let (encoder, transactions) = (FeatureEncoder::new(&file.tables), transactions(100));
    let bencher = bencher.counter(ItemsCount::new(transactions.len()));
    bencher.bench_local(|| {
        for transaction in &transactions {
            black_box(encoder.encode(black_box(transaction)));
        }
    });
}

#[divan::bench]
fn trees_100(bencher: Bencher<'_, '_>) {
    let file: ModelFile = serde_json::from_str(Model::BUNDLED).expect("the bundled model");
    let (model, encoder) = (Model::bundled(), FeatureEncoder::new(&file.tables));
    let features: Vec<_> = transactions(100).iter().map(|transaction| encoder.encode(transaction)).collect();
    let bencher = bencher.counter(ItemsCount::new(features.len()));
    bencher.bench_local(|| {
        for features in &features {
            black_box(model.score_features(black_box(features)));
        }
    });
}
