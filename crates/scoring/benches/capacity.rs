//! Requests a second from an ML API whose capacity changes under the client: adaptive concurrency beside fixed settings, each in a run
//! of its own: `cargo bench -p assay-scoring --bench capacity`. It takes two minutes and a half.
//!
//! The API takes 20 ms a request and serves 8 at a time, then 4, then 16; others wait there in order. Adaptive concurrency should
//! stay within 10 % of the best fixed setting in each phase, with fewer requests waiting.

#![expect(clippy::print_stdout, reason = "figures are what the program is for")]

mod api;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use assay_scoring::{ApiOptions, ConcurrencyMode, Scorer};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SERVICE: Duration = Duration::from_millis(20);
const CAPACITIES: [usize; 3] = [8, 4, 16];
const PHASE: Duration = Duration::from_secs(7);
const MAX_WORKERS: u16 = 32;
const FIXED: [u16; 6] = [1, 2, 4, 8, 16, 32];
/// Share of the best fixed setting that is good enough.
const GOAL: f64 = 0.9;
/// Rows of a request.
const ROWS: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// Callers at the same time: more than there are workers, so that none is idle.
const CALLERS: usize = 2 * MAX_WORKERS as usize;

/// The simulated API: so many requests at a time are served.
struct Api {
    capacity: Semaphore,
    answered: AtomicU64,
    /// Sum of the requests' times here.
    micros: AtomicU64,
}

/// What one phase brought.
#[derive(Clone, Copy)]
struct Phase {
    requests_per_second: f64,
    /// Time of a request on average.
    latency: Duration,
}

fn main() {
    let runtime = Runtime::new().expect("a runtime starts");
    println!("requests a second (mean latency) at a capacity of {CAPACITIES:?}, {SERVICE:?} a request");
    let mut best = [0.0_f64; CAPACITIES.len()];
    for workers in FIXED {
        let phases = runtime.block_on(run(ConcurrencyMode::Fixed, workers));
        show(&format!("fixed {workers}"), &phases);
        for (best, phase) in best.iter_mut().zip(phases) {
            *best = best.max(phase.requests_per_second);
        }
    }
    let phases = runtime.block_on(run(ConcurrencyMode::Adaptive, MAX_WORKERS));
    show(&format!("adaptive, up to {MAX_WORKERS}"), &phases);
    let shares: Vec<f64> = phases.iter().zip(best).map(|(phase, best)| phase.requests_per_second / best).collect();
    let shown: Vec<String> = shares.iter().map(|share| format!("{:>14.1} %", 100.0 * share)).collect();
    println!("{:<20}{}", "of the best fixed", shown.concat());
    assert!(shares.iter().all(|share| *share >= GOAL), "adaptive concurrency is below {} % of the best", 100.0 * GOAL);
}

fn show(setting: &str, phases: &[Phase]) {
    let shown: Vec<String> = phases
        .iter()
        .map(|Phase { requests_per_second, latency }| {
            format!("{requests_per_second:>7.0} ({:>3} ms)", latency.as_millis())
        })
        .collect();
    println!("{setting:<20}{}", shown.join("  "));
}

/// One client against one API, through all phases.
async fn run(mode: ConcurrencyMode, workers: u16) -> [Phase; CAPACITIES.len()] {
    let api = Arc::new(Api { capacity: Semaphore::new(0), answered: AtomicU64::new(0), micros: AtomicU64::new(0) });
    let url = serve(Arc::clone(&api)).await;
    let options = ApiOptions { api_max_workers: workers, api_concurrency: mode, ..ApiOptions::default() };
    let scorer = Arc::new(Scorer::new(&url, &options).expect("the address is right"));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (scorer, stop) = (Arc::clone(&scorer), stop.clone());
        callers.spawn(async move {
            let transactions = api::transactions(ROWS.get());
            while let Ok(outcomes) = scorer.score(&transactions, ROWS, &stop).await {
                assert!(outcomes.iter().all(Result::is_ok));
            }
        });
    }
    let (mut phases, mut before) = ([Phase { requests_per_second: 0.0, latency: Duration::ZERO }; CAPACITIES.len()], 0);
    for (phase, capacity) in phases.iter_mut().zip(CAPACITIES) {
        api.change_capacity(before, capacity).await;
        before = capacity;
        *phase = api.observe().await;
    }
    stop.cancel();
    while callers.join_next().await.is_some() {}
    phases
}

impl Api {
    async fn change_capacity(&self, before: usize, after: usize) {
        self.capacity.add_permits(after.saturating_sub(before));
        let fewer = u32::try_from(before.saturating_sub(after)).expect("capacities are small");
        self.capacity.acquire_many(fewer).await.expect("it is open").forget();
    }

    #[allow(clippy::cast_precision_loss)]
    async fn observe(&self) -> Phase {
        let (began, count, time) =
            (Instant::now(), || self.answered.load(Ordering::Relaxed), || self.micros.load(Ordering::Relaxed));
        let (answered, micros) = (count(), time());
        tokio::time::sleep(PHASE).await;
        let (answered, micros) = (count() - answered, time() - micros);
        let requests_per_second = answered as f64 / began.elapsed().as_secs_f64();
        Phase { requests_per_second, latency: Duration::from_micros(micros / answered.max(1)) }
    }
}

async fn serve(simulated: Arc<Api>) -> String {
    let answer = api::answer(ROWS.get());
    let predict = async move |_: Bytes| {
        let arrived = Instant::now();
        let served = simulated.capacity.acquire().await.expect("it is open");
        tokio::time::sleep(SERVICE).await;
        drop(served);
        simulated.answered.fetch_add(1, Ordering::Relaxed);
        simulated.micros.fetch_add(u64::try_from(arrived.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        answer.clone()
    };
    api::serve(Router::new().route("/predict", post(predict))).await
}
