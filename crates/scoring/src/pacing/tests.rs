//! Processes at a simulated API, in simulated time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ROWS: f64 = 100.0;
/// A step of the simulation.
const STEP: Duration = Duration::from_millis(1);
const SECONDS: u32 = 120;

/// An API with a token bucket, which refuses without tokens and asks for a pause of a second.
struct Api {
    rate: f64,
    burst: f64,
    tokens: f64,
}

impl Api {
    fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: burst }
    }

    fn step(&mut self) {
        self.tokens = (self.tokens + self.rate * STEP.as_secs_f64()).min(self.burst);
    }

    fn accepts(&mut self) -> bool {
        let is_accepted = self.tokens >= ROWS;
        self.tokens -= if is_accepted { ROWS } else { 0.0 };
        is_accepted
    }
}

/// A process that always has more to send.
struct Process {
    learned: LearnedRate,
    bucket: TokenBucket,
    held: Duration,
    /// When its requests arrive at the API.
    in_flight: VecDeque<Duration>,
}

impl Process {
    fn new() -> Self {
        let (held, in_flight) = (Duration::ZERO, VecDeque::new());
        Self { learned: LearnedRate::unknown(), bucket: TokenBucket::default(), held, in_flight }
    }

    fn send(&mut self, now: Duration, latency: Duration) {
        while self.held <= now && self.in_flight.len() < 16 {
            if let Some(rate) = self.learned.rate()
                && self.bucket.take(now, rate, ROWS).is_err()
            {
                self.learned.limited(now);
                return;
            }
            self.in_flight.push_back(now + latency);
        }
    }

    /// Holds for a second, unless it does. Returns the rate to tell.
    fn hold(&mut self, now: Duration, told: Option<f64>, random: &mut Random) -> Option<f64> {
        if self.held > now {
            return None;
        }
        let measured = self.learned.refused(now, SECOND, told);
        self.held = now + SECOND + Duration::from_millis(100).mul_f64(random.next());
        if let Some(rate) = self.learned.rate() {
            self.bucket.restart(self.held, rate, ROWS, random.next());
        }
        measured
    }
}

/// Numbers between 0 and 1, the same in each run.
struct Random(u32);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}

/// What happened from the middle on.
#[derive(Debug, Default)]
struct Seen {
    requests: f64,
    refused: f64,
    /// The share of what was allowed.
    used: f64,
    /// The highest rate of a process, over the lowest.
    unevenness: f64,
}

/// Simulates processes, of which each starts so many seconds after the one before.
fn simulate(processes: usize, mut api: Api, latency: Duration, delay: u32, change: f64) -> Seen {
    let mut processes: Vec<_> = (0..processes).map(|_| Process::new()).collect();
    let (mut seen, mut random, mut now) = (Seen::default(), Random(1), Duration::ZERO);
    while now < SECONDS * SECOND {
        now += STEP;
        api.step();
        if now == SECOND * SECONDS / 3 {
            (api.rate, api.burst) = (api.rate * change, api.burst * change);
        }
        let is_counted = now > SECONDS * SECOND / 2;
        for at in (0..processes.len()).filter(|at| u32::try_from(*at).is_ok_and(|at| now >= at * delay * SECOND)) {
            processes[at].send(now, latency);
            while processes[at].in_flight.pop_front_if(|arrives| *arrives <= now).is_some() {
                let is_accepted = api.accepts();
                if is_counted {
                    seen.requests += 1.0;
                    seen.refused += if is_accepted { 0.0 } else { 1.0 };
                    seen.used += if is_accepted { ROWS / (60.0 * api.rate) } else { 0.0 };
                }
                if is_accepted {
                    processes[at].learned.accepted(now, ROWS);
                } else if processes[at].held <= now {
                    let told = processes[at].hold(now, None, &mut random);
                    for process in &mut processes {
                        let _ = process.hold(now, told, &mut random);
                    }
                }
            }
        }
    }
    let rates = || processes.iter().filter_map(|process| process.learned.rate());
    seen.unevenness = rates().fold(0.0, f64::max) / rates().fold(f64::MAX, f64::min);
    seen
}

#[test]
fn a_fleet_uses_what_an_api_allows_and_is_hardly_ever_refused() {
    for (processes, rate, burst, delay, change) in [
        (4, 10_000.0, 1.0, 0, 1.0),
        (1, 10_000.0, 1.0, 0, 1.0),
        (4, 2_000.0, 1.0, 0, 1.0),
        (12, 20_000.0, 1.0, 0, 1.0),
        (4, 10_000.0, 3.0, 0, 1.0),
        // The others start later.
        (4, 10_000.0, 1.0, 10, 1.0),
        // The API changes what it allows.
        (4, 10_000.0, 1.0, 0, 0.4),
        (4, 5_000.0, 1.0, 0, 1.5),
    ] {
        for latency in [5, 60] {
            let api = Api::new(rate, burst * rate);
            let seen = simulate(processes, api, Duration::from_millis(latency), delay, change);
            let what =
                format!("{processes} at {rate} × {change}, burst {burst}, {latency} ms, delay {delay}: {seen:?}");
            assert!(seen.refused / seen.requests <= 0.02 && seen.used >= 0.95, "{what}");
            assert!(seen.unevenness < 3.0, "{what}");
        }
    }
}

#[test]
fn a_refusal_measures_what_was_accepted_since_the_one_before() {
    let mut learned = LearnedRate::unknown();
    assert_eq!(learned.rate(), None);
    learned.limited(SECOND);
    learned.accepted(SECOND, 300.0);
    assert_eq!(learned.refused(SECOND, SECOND, None), Some(300.0));
    for second in 2..=5 {
        learned.limited(second * SECOND);
        learned.accepted(second * SECOND, 100.0);
    }
    // Four times 100 in the four seconds since, the hold included.
    assert_eq!(
        learned.refused(5 * SECOND, SECOND, Some(150.0)),
        Some(110.0),
        "and a step towards the rate of the other"
    );
}

#[test]
fn the_first_refusal_measures_what_was_accepted_without_a_break() {
    /// When 1,000 were accepted each time, in halves of a second; when the API refused; the rate.
    type Case = (&'static [u32], u32, Option<f64>);
    let cases: [Case; 7] = [
        // The process started long before.
        (&[16, 17], 18, Some(2_000.0)),
        (&[16], 16, Some(1_000.0)),
        // One before a break says nothing of what is sent after it.
        (&[0, 1, 2, 16, 17], 18, Some(2_000.0)),
        (&[0, 3, 6, 9, 12, 15, 16, 17], 18, Some(8_000.0 / 9.0)),
        // Two windows.
        (&[2, 4, 6, 8, 10, 12, 14, 16], 18, Some(1_000.0)),
        // An idle process is refused for what others sent.
        (&[2, 3, 4], 18, None),
        (&[], 18, None),
    ];
    let half = |halves: u32| halves * SECOND / 2;
    for (accepted, refused, expected) in cases {
        let mut learned = LearnedRate::unknown();
        for halves in accepted {
            learned.accepted(half(*halves), 1_000.0);
        }
        assert_eq!(learned.refused(half(refused), SECOND, None), expected, "{accepted:?} {refused}");
    }
}

#[test]
fn a_refusal_that_measures_nothing_lowers_the_rate_little_or_not() {
    /// Accepted since the last refusal, whether requests waited, the rate of another; and what becomes of 1,000.
    type Case = (f64, bool, Option<f64>, f64);
    let cases: [Case; 8] = [
        (0.0, false, None, 1_000.0),
        (0.0, true, None, 1_000.0),
        (10.0, false, None, 850.0),
        (10.0, false, Some(1_000.0), 1_000.0),
        (10.0, false, Some(2_000.0), 1_200.0),
        // What nobody can have is not believed.
        (10.0, false, Some(1e6), 2_800.0),
        (10.0, false, Some(f64::MAX), 850.0),
        (10.0, true, None, 300.0),
    ];
    for (accepted, waits, told, expected) in cases {
        let mut learned = LearnedRate::unknown();
        let _ = learned.refused(SECOND, SECOND, Some(1_000.0));
        learned.accepted(4 * SECOND, accepted);
        if waits {
            learned.limited(3 * SECOND);
            learned.limited(5 * SECOND);
        }
        let _ = learned.refused(6 * SECOND, SECOND, told);
        let (found, is_grown) = (learned.rate().unwrap(), waits && accepted == 0.0);
        let most = if is_grown { 1.05 * expected } else { 1.02 * expected };
        assert!((expected..=most).contains(&found), "{accepted} {waits} {told:?}: {found}");
    }
}

#[test]
fn an_idle_process_takes_the_rate_of_the_others() {
    let mut learned = LearnedRate::unknown();
    let _ = learned.refused(SECOND, SECOND, None);
    assert_eq!(learned.rate(), None);
    let _ = learned.refused(3 * SECOND, SECOND, Some(700.0));
    assert_eq!(learned.rate(), Some(700.0));
}

#[test]
fn a_rate_grows_only_while_requests_wait_for_it() {
    let mut learned = LearnedRate::unknown();
    let _ = learned.refused(Duration::ZERO, SECOND, Some(100.0));
    learned.limited(100 * SECOND);
    let after_idling = learned.rate().unwrap();
    assert!(after_idling < 101.0, "{after_idling}");
    let mut before = after_idling;
    for second in 101..160 {
        learned.limited(second * SECOND);
        learned.limited(second * SECOND + SECOND / 2);
        let rate = learned.rate().unwrap();
        assert!(rate > before, "{rate}");
        before = rate;
    }
    assert!(before > 4.0 * after_idling, "faster and faster: {before}");
}

proptest! {
    #[test]
    fn a_bucket_lets_through_its_rate_at_most(rate in 1.0_f64..50_000.0, rows in 1_u32..500, seed: u32) {
        let (mut bucket, mut random) = (TokenBucket::default(), Random(seed));
        let (mut now, mut taken) = (Duration::ZERO, 0.0);
        for _ in 0..500 {
            match bucket.take(now, rate, f64::from(rows)) {
                Ok(()) => taken += f64::from(rows),
                Err(wait) => {
                    prop_assert!(wait >= Duration::from_millis(1));
                    now += wait.mul_f64(0.5 + random.next());
                }
            }
            let most = rate * now.as_secs_f64() + burst(rate) + f64::from(rows);
            prop_assert!(taken <= most, "{taken} of {most}");
        }
    }

    #[test]
    fn a_rate_is_never_lost_to_a_refusal(refusals in proptest::collection::vec((0_u32..5_000, 0_u32..1_000, 0.0_f64..1e6), 1..50)) {
        let (mut learned, mut now) = (LearnedRate::unknown(), Duration::ZERO);
        for (millis, rows, told) in refusals {
            now += Duration::from_millis(millis.into());
            learned.accepted(now, f64::from(rows));
            learned.limited(now);
            let _ = learned.refused(now, Duration::from_millis(millis.into()), (rows % 2 == 0).then_some(told));
            let rate = learned.rate();
            prop_assert!(rate.is_none_or(|rate| rate.is_finite() && rate >= LOWEST), "{rate:?}");
        }
    }
}

#[test]
fn a_bucket_without_a_rate_lets_nothing_through() {
    let mut bucket = TokenBucket::default();
    for second in 0..100 {
        assert_eq!(bucket.take(second * SECOND, 0.0, 1.0), Err(LONGEST_WAIT));
    }
}

#[test]
fn a_large_request_makes_later_ones_wait() {
    let mut bucket = TokenBucket::default();
    let mut sent = 0;
    for millis in 0..60_000 {
        sent += u32::from(bucket.take(Duration::from_millis(millis), 10.0, 100.0).is_ok());
    }
    assert!((6..=7).contains(&sent), "{sent} times 100 at 10 a second");
}
