//! The control law, round by round. How it fares with an API is in `simulation`.

use proptest::prelude::*;

use super::*;

/// Answers a round of as many attempts as allowed, each after so many seconds.
fn round(controller: &mut Controller, seconds: f64) -> Option<FallReason> {
    let attempts: Vec<_> = (0..controller.limit()).map(|_| controller.begin()).collect();
    let (slot, outcome) = (controller.slot, AttemptOutcome::Scored { rows: 100, seconds });
    attempts.into_iter().filter_map(|attempt| controller.end(attempt, outcome, slot)).last()
}

/// The limits of so many rounds with the same latency.
fn limits(controller: &mut Controller, rounds: usize) -> Vec<usize> {
    let limit = |_| {
        round(controller, 0.020);
        controller.limit()
    };
    (0..rounds).map(limit).collect()
}

#[test]
fn slow_start_doubles_up_to_the_ceiling() {
    for (max, expected) in [(1, &[1, 1, 1][..]), (5, &[2, 4, 5, 5]), (32, &[2, 4, 8, 16, 32, 32])] {
        let mut controller = Controller::new(max);
        assert_eq!(controller.limit(), 1);
        assert_eq!(limits(&mut controller, expected.len()), expected, "of {max}");
    }
}

#[test]
fn a_limit_that_is_not_reached_does_not_grow() {
    let mut controller = Controller::new(32);
    assert_eq!(limits(&mut controller, 2), [2, 4]);
    for _ in 0..100 {
        let attempt = controller.begin();
        controller.end(attempt, AttemptOutcome::Scored { rows: 1, seconds: 0.020 }, 0);
    }
    assert_eq!(controller.limit(), 4);
}

#[test]
fn a_trial_tells_a_wait_from_a_slower_model() {
    /// The latency at this limit, and at half of it; the limit that follows.
    const CASES: [(f64, f64, usize); 4] = [(0.080, 0.040, 9), (0.080, 0.080, 16), (0.080, 0.070, 16), (2.0, 1.0, 9)];
    for (all, half, expected) in CASES {
        let mut controller = Controller::new(16);
        assert_eq!(limits(&mut controller, 4), [2, 4, 8, 16]);
        round(&mut controller, 0.020);
        assert_eq!((round(&mut controller, all), controller.limit()), (None, 8), "a trial begins");
        let fell = round(&mut controller, half);
        assert_eq!(controller.limit(), expected, "{all} s, and with half as many {half} s");
        let share = (expected < 16).then_some(FallReason::Waiting { share: half / all });
        assert_eq!(fell.map(|reason| reason.to_string()), share.map(|reason| reason.to_string()));
    }
}

#[test]
fn only_a_common_trial_learns_that_the_model_is_slower() {
    for (slot, during, after) in [(0, 16, 16), (1, 8, 32)] {
        let mut controller = Controller::new(32);
        assert_eq!(limits(&mut controller, 4), [2, 4, 8, 16]);
        round(&mut controller, 0.080);
        assert_eq!(controller.limit(), 8, "a trial begins");
        round(&mut controller, 0.080);
        assert_eq!(controller.limit(), 16, "the latency is the same with fewer");
        round(&mut controller, 0.080);
        let attempt = controller.begin();
        controller.end(attempt, AttemptOutcome::Other, slot);
        assert_eq!(controller.limit(), during, "slot {slot}");
        for _ in 0..4 {
            round(&mut controller, 0.080);
        }
        assert_eq!(controller.limit(), after, "slot {slot}");
    }
}

#[test]
fn a_short_wait_is_tolerated() {
    let mut controller = Controller::new(16);
    for _ in 0..5 {
        assert_eq!(round(&mut controller, 0.001), None);
    }
    for _ in 0..200 {
        assert_eq!((round(&mut controller, 0.010), controller.limit()), (None, 16));
    }
}

#[test]
fn a_time_out_takes_a_tenth_once_a_round() {
    let mut controller = Controller::new(32);
    limits(&mut controller, 5);
    let attempts: Vec<_> = (0..32).map(|_| controller.begin()).collect();
    let fell: Vec<_> =
        attempts.into_iter().filter_map(|attempt| controller.end(attempt, AttemptOutcome::TimedOut, 0)).collect();
    assert_eq!((fell, controller.limit()), (vec![FallReason::TimedOut], 28));
    for _ in 0..200 {
        let attempt = controller.begin();
        controller.end(attempt, AttemptOutcome::TimedOut, 0);
    }
    assert_eq!(controller.limit(), LEAST_AFTER_TIMEOUT, "others are not held up by a row that times out");
}

#[test]
fn after_an_outage_it_starts_over_and_approaches_the_last_limit_slowly() {
    let mut controller = Controller::new(32);
    limits(&mut controller, 5);
    round(&mut controller, 0.020);
    let in_flight = controller.begin();
    assert_eq!((controller.restart(OpenReason::Outage), controller.limit()), (Some(FallReason::Outage), 1));
    assert_eq!(controller.end(in_flight, AttemptOutcome::Scored { rows: 1, seconds: 9.0 }, 0), None, "it began before");
    assert_eq!(limits(&mut controller, 5), [2, 4, 8, 16, 28]);
    assert_eq!(limits(&mut controller, 8), [29, 30, 31, 31, 31, 31, 32, 32]);
}

#[test]
fn a_limit_that_is_refused_again_and_again_is_approached_ever_more_slowly() {
    let mut controller = Controller::new(32);
    for patience in [4, 16, 64, 256, 256] {
        let mut rounds = 0;
        while controller.limit() < 16 {
            round(&mut controller, 0.020);
            rounds += 1;
        }
        controller.restart(OpenReason::Outage);
        assert_eq!(controller.patience, patience, "after {rounds} rounds");
    }
    limits(&mut controller, 1_000);
    assert_eq!((controller.limit(), controller.patience), (32, 1), "but not for good");
}

#[test]
fn during_slow_start_an_outage_leaves_half() {
    let mut controller = Controller::new(32);
    assert_eq!(limits(&mut controller, 4), [2, 4, 8, 16]);
    controller.restart(OpenReason::Outage);
    assert_eq!(limits(&mut controller, 5), [2, 4, 8, 9, 10]);
    controller.restart(OpenReason::Outage);
    assert_eq!((controller.restart(OpenReason::Outage), controller.limit()), (None, 1), "nothing is left to take away");
    assert_eq!(limits(&mut controller, 4), [2, 4, 8, 9]);
}

#[test]
fn what_is_not_scored_whatever_the_load_is_no_wall() {
    for reason in [OpenReason::Misconfiguration, OpenReason::BrokenModel] {
        let mut starting = Controller::new(32);
        assert_eq!(limits(&mut starting, 4), [2, 4, 8, 16]);
        for _ in 0..3 {
            assert_eq!((starting.restart(reason), starting.limit()), (Some(FallReason::NothingScored), 1));
            assert_eq!(limits(&mut starting, 3), [2, 4, 8], "{reason:?}");
        }
        assert_eq!(limits(&mut starting, 2), [16, 32]);
        assert_eq!((starting.wall, starting.patience), (f64::INFINITY, 1));

        let mut settled = Controller::new(32);
        limits(&mut settled, 4);
        settled.restart(OpenReason::Outage);
        limits(&mut settled, 5);
        let (before, wall, patience) = (settled.limit(), settled.wall, settled.patience);
        assert_eq!(before, 10);
        settled.restart(reason);
        assert_eq!(limits(&mut settled, 4), [2, 4, 8, before], "as far as it was");
        assert_eq!((settled.wall, settled.patience), (wall, patience), "the last outage is not forgotten");
    }
}

#[test]
fn a_reason_says_what_was_seen() {
    let cases = [
        (FallReason::Waiting { share: 0.5 }, "each took 50 % of the time"),
        (FallReason::TimedOut, "API_TIMEOUT"),
        (FallReason::Outage, "outage"),
        (FallReason::NothingScored, "nothing was scored"),
    ];
    for (reason, expected) in cases {
        assert!(reason.to_string().contains(expected), "{reason}");
    }
}

proptest! {
    #[test]
    fn the_limit_is_within_its_bounds_whatever_happens(
        max in 1_usize..40,
        steps in proptest::collection::vec((0_u8..20, 1_usize..500, 0.0_f64..3.0), 0..800),
    ) {
        let mut controller = Controller::new(max);
        let mut in_flight = Vec::new();
        for (step, rows, seconds) in steps {
            let fell = match (step, in_flight.pop()) {
                (0, attempt) => {
                    in_flight.extend(attempt);
                    controller.restart(OpenReason::Outage)
                }
                (1, Some(attempt)) => controller.end(attempt, AttemptOutcome::TimedOut, 0),
                (2, Some(attempt)) => controller.end(attempt, AttemptOutcome::Other, 0),
                (3..12, Some(attempt)) => controller.end(attempt, AttemptOutcome::Scored { rows, seconds }, 0),
                (_, attempt) => {
                    in_flight.extend(attempt);
                    in_flight.push(controller.begin());
                    None
                }
            };
            prop_assert!((1..=max).contains(&controller.limit()));
            prop_assert_eq!(controller.in_flight, in_flight.len());
            if let Some(FallReason::TimedOut) = fell {
                prop_assert!(controller.limit() < max);
            }
        }
    }
}
