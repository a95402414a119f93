//! The controller against simulated ML APIs, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::controller::{Attempt, AttemptOutcome, Controller, SLOT_SECONDS};
use super::latency::as_f64;

/// `API_MAX_WORKERS` of the simulations.
const MAX: usize = 32;

/// Nanoseconds of a slot of common trials.
const SLOT: u64 = SLOT_SECONDS * 1_000_000_000;

/// How long a request takes to serve, once it is its turn.
#[derive(Debug, Clone, Copy)]
enum Scatter {
    None,
    /// Between half and one and a half times the mean.
    Even,
    /// Mostly quick, at times several times the mean, as behind a garbage collector.
    Exponential,
}

/// An API that serves so many requests at a time; others wait in order.
#[derive(Debug, Clone, Copy)]
struct Api {
    capacity: usize,
    /// Mean of a request of 100 rows.
    seconds: f64,
    scatter: Scatter,
}

/// What a client got from an API.
#[derive(Debug)]
struct Run {
    answered: usize,
    /// Requests in flight, on average.
    in_flight: f64,
}

/// Clients with endless work and one API, in simulated time.
struct Simulation {
    clients: Vec<Client>,
    random: u64,
    now: u64,
    serving: BinaryHeap<Reverse<(u64, usize)>>,
    waiting: VecDeque<usize>,
    /// When each began, its rows, its client, and what that one's controller knows of it.
    attempts: Vec<(u64, usize, usize, Option<Attempt>)>,
    rows: fn(usize) -> usize,
}

/// A client, with as many requests in flight as it allows.
#[derive(Debug)]
struct Client {
    /// `None` if its limit is fixed.
    controller: Option<Controller>,
    fixed: usize,
    in_flight: usize,
}

impl Client {
    fn limit(&self) -> usize {
        self.controller.as_ref().map_or(self.fixed, Controller::limit)
    }
}

impl Simulation {
    fn adaptive(seed: u64) -> Self {
        Self::fleet(1, seed)
    }

    /// So many adaptive clients.
    fn fleet(clients: usize, seed: u64) -> Self {
        let client = || Client { controller: Some(Controller::new(MAX)), fixed: 0, in_flight: 0 };
        Self::of((0..clients).map(|_| client()).collect(), seed)
    }

    fn fixed(fixed: usize, seed: u64) -> Self {
        Self::of(vec![Client { controller: None, fixed, in_flight: 0 }], seed)
    }

    fn of(clients: Vec<Client>, seed: u64) -> Self {
        let (serving, waiting) = (BinaryHeap::new(), VecDeque::new());
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { clients, random, now: 0, serving, waiting, attempts: Vec::new(), rows: |_| 100 }
    }

    /// A number between 0 and 1 (xorshift).
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[allow(clippy::cast_precision_loss)]
        let random = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        random
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn service(&mut self, api: Api, request: usize) -> u64 {
        let random = self.random();
        let scatter = match api.scatter {
            Scatter::None => 1.0,
            Scatter::Even => 0.5 + random,
            Scatter::Exponential => -(1.0 - random).ln(),
        };
        // A tenth of the time for the request itself, the rest for its rows.
        let size = 0.1 + 0.9 * self.attempts[request].1 as f64 / 100.0;
        (api.seconds * scatter * size * 1e9) as u64 + 1
    }

    /// Lets the API work for so many seconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn run(&mut self, api: Api, seconds: f64) -> Run {
        let (began, end) = (self.now, self.now + (seconds * 1e9) as u64);
        let mut run = Run { answered: 0, in_flight: 0.0 };
        let mut area = 0_f64;
        loop {
            for (number, client) in self.clients.iter_mut().enumerate() {
                while client.in_flight < client.limit() {
                    let request = self.attempts.len();
                    let attempt = client.controller.as_mut().map(Controller::begin);
                    self.attempts.push((self.now, (self.rows)(request), number, attempt));
                    client.in_flight += 1;
                    self.waiting.push_back(request);
                }
            }
            while self.serving.len() < api.capacity {
                let Some(request) = self.waiting.pop_front() else { break };
                let until = self.now + self.service(api, request);
                self.serving.push(Reverse((until, request)));
            }
            let Some(Reverse((until, request))) = self.serving.peek().copied().filter(|next| next.0.0 <= end) else {
                self.now = end;
                break;
            };
            self.serving.pop();
            area += (until - self.now) as f64 * (self.serving.len() + self.waiting.len() + 1) as f64;
            self.now = until;
            run.answered += 1;
            let (began, rows, number, attempt) = self.attempts[request];
            let client = &mut self.clients[number];
            client.in_flight -= 1;
            if let (Some(controller), Some(attempt)) = (&mut client.controller, attempt) {
                let seconds = (until - began) as f64 / 1e9;
                let _ = controller.end(attempt, AttemptOutcome::Scored { rows, seconds }, self.now / SLOT);
            }
        }
        run.in_flight = area / (end - began) as f64;
        run
    }
}

#[allow(clippy::cast_precision_loss)]
fn share(run: &Run, of: &Run) -> f64 {
    run.answered as f64 / of.answered as f64
}

fn api(capacity: usize, seconds: f64, scatter: Scatter) -> Api {
    Api { capacity, seconds, scatter }
}

#[test]
fn it_follows_the_capacity_as_well_as_the_best_fixed_setting() {
    const CAPACITIES: [usize; 3] = [8, 4, 16];
    /// Latency, scatter, least share of the best fixed setting.
    const CASES: [(f64, Scatter, f64); 9] = [
        (0.020, Scatter::None, 0.97),
        (0.020, Scatter::Even, 0.96),
        (0.020, Scatter::Exponential, 0.92),
        (0.100, Scatter::None, 0.93),
        (0.100, Scatter::Even, 0.90),
        (2.0, Scatter::None, 0.94),
        (2.0, Scatter::Even, 0.90),
        (0.002, Scatter::None, 0.97),
        (0.002, Scatter::Exponential, 0.95),
    ];
    for (seconds, scatter, least) in CASES {
        for seed in 1..=5 {
            let runs = |mut simulation: Simulation| {
                CAPACITIES.map(|capacity| simulation.run(api(capacity, seconds, scatter), 300.0 * seconds))
            };
            let adaptive = runs(Simulation::adaptive(seed));
            let fixed = [1, 2, 4, 8, 16, 32].map(|workers| runs(Simulation::fixed(workers, seed)));
            for (phase, capacity) in CAPACITIES.into_iter().enumerate() {
                let shown = format!("at a capacity of {capacity}, {seconds} s, {scatter:?}, seed {seed}");
                let run = &adaptive[phase];
                let worst = fixed.iter().map(|runs| share(run, &runs[phase])).fold(f64::INFINITY, f64::min);
                assert!(worst >= least, "{worst:.3} {shown}");
                // A wait shorter than what is tolerated needs no limit.
                let most = if seconds < 0.010 { MAX } else { 3 * capacity };
                assert!(run.in_flight <= as_f64(most), "{run:?} {shown}");
            }
        }
    }
}

#[test]
fn scatter_is_not_congestion() {
    for (scatter, least) in [(Scatter::None, 0.97), (Scatter::Even, 0.95), (Scatter::Exponential, 0.78)] {
        for seconds in [0.0005, 0.005, 0.05, 0.5] {
            for seed in 1..=5 {
                let free = api(MAX, seconds, scatter);
                let (mut adaptive, mut fixed) = (Simulation::adaptive(seed), Simulation::fixed(MAX, seed));
                let _ramp = (adaptive.run(free, 100.0 * seconds), fixed.run(free, 100.0 * seconds));
                for _ in 0..3 {
                    let found = share(&adaptive.run(free, 1_000.0 * seconds), &fixed.run(free, 1_000.0 * seconds));
                    assert!(found >= least, "{found:.3} at {seconds} s, {scatter:?}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_model_that_becomes_slower_is_not_congestion() {
    for factor in [1.2, 2.0, 10.0] {
        for scatter in [Scatter::None, Scatter::Even] {
            let (mut adaptive, mut fixed) = (Simulation::adaptive(1), Simulation::fixed(MAX, 1));
            let mut seconds = 0.020;
            for change in 0..6 {
                let free = api(MAX, seconds, scatter);
                let found = share(&adaptive.run(free, 300.0 * seconds), &fixed.run(free, 300.0 * seconds));
                assert!(found >= 0.95, "{found:.3} after {change} times {factor}, {scatter:?}");
                seconds *= factor;
            }
        }
    }
}

#[test]
fn requests_of_all_sizes_may_be_mixed() {
    let sizes: [fn(usize) -> usize; 4] = [
        |_| 1,
        |number| if number.is_multiple_of(2) { 1 } else { 100 },
        |number| if number.is_multiple_of(10) { 100 } else { number % 10 },
        |number| 1 << (number / 500 % 7),
    ];
    for (kind, rows) in sizes.into_iter().enumerate() {
        for capacity in [4, 16, MAX] {
            let busy = api(capacity, 0.050, Scatter::None);
            let (mut adaptive, mut fixed) = (Simulation::adaptive(1), Simulation::fixed(MAX, 1));
            (adaptive.rows, fixed.rows) = (rows, rows);
            let found = share(&adaptive.run(busy, 30.0), &fixed.run(busy, 30.0));
            assert!(found >= 0.95, "{found:.3} of kind {kind} at a capacity of {capacity}");
        }
    }
}

/// What all of them cause, none of them could see by itself: their trials must coincide.
#[test]
fn a_fleet_asks_for_little_more_than_one_client() {
    for clients in [2, 4, 10] {
        for (scatter, seconds) in [(Scatter::None, 0.020), (Scatter::Even, 0.020), (Scatter::Even, 0.100)] {
            let (mut fleet, busy) = (Simulation::fleet(clients, 1), api(8, seconds, scatter));
            fleet.run(busy, 200.0);
            let run = fleet.run(busy, 60.0);
            let shown = format!("{run:?} of {clients} clients, {seconds} s, {scatter:?}");
            assert!(as_f64(run.answered) >= 0.95 * 8.0 * 60.0 / seconds, "{shown}");
            assert!(run.in_flight <= as_f64(3 * 8 + 4 * clients), "{shown}");
        }
    }
}
