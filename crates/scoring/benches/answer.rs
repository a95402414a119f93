//! How fast a response of the ML API is read, in the order of the request and in another: `cargo bench -p assay-scoring`.

use std::hint::black_box;

use assay_scoring::{Matching, read_response};
use divan::Bencher;
use divan::counter::ItemsCount;
use uuid::Uuid;

/// The default of `API_BATCH_SIZE`.
const ROWS: usize = 100;

fn main() {
    divan::main();
}

fn ids() -> Vec<Uuid> {
    (0..ROWS).map(|row| Uuid::new_v5(&Uuid::NAMESPACE_URL, &row.to_be_bytes())).collect()
}

/// As the reference API writes it.
fn answer<'a>(ids: impl Iterator<Item = &'a Uuid>) -> Vec<u8> {
    let item = |id: &Uuid| {
        format!(
            r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.0312,"model_version":"demo-1"}}"#
        )
    };
    format!("[{}]", ids.map(item).collect::<Vec<_>>().join(",")).into_bytes()
}

fn read(bencher: Bencher<'_, '_>, body: &[u8]) {
    let asked = ids();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let read = read_response(black_box(body), black_box(&asked), Matching::Id).expect("it is a response");
        assert!(read.iter().all(Result::is_ok));
    });
}

#[divan::bench]
fn in_order(bencher: Bencher<'_, '_>) {
    read(bencher, &answer(ids().iter()));
}

#[divan::bench]
fn in_another_order(bencher: Bencher<'_, '_>) {
    read(bencher, &answer(ids().iter().rev()));
}
