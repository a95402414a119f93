use futures_util::FutureExt as _;

use super::gate::FIRST_ALONE;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than all that returns from a hold waits.
const RETURNED: Duration = Duration::from_millis(101);

fn pace(limit: u32) -> Pace {
    Pace::new("http://ml-api:8000", NonZeroU32::new(limit), &Policy::default())
}

fn refusal(status: u16, retry_after: Option<u64>) -> RequestError {
    RequestError { symptom: Symptom::status(status), retry_after: retry_after.map(Duration::from_secs) }
}

/// Admission without a wait.
fn admit_now(pace: &Pace, rows: usize, lane: Lane) -> Option<Admission<'_>> {
    pace.admit(rows, lane, &CancellationToken::new()).now_or_never().map(Result::unwrap)
}

#[track_caller]
fn score(pace: &Pace) {
    assert!(!admit_now(pace, 1, Lane::Batch).expect("nothing holds it").end(Ok(())));
}

fn refuse(pace: &Pace, status: u16, retry_after: Option<u64>) -> bool {
    admit_now(pace, 1, Lane::Batch).expect("nothing holds it").end(Err(&refusal(status, retry_after)))
}

#[tokio::test(start_paused = true)]
async fn after_a_hold_one_request_goes_first() {
    let pace = pace(0);
    assert_eq!(pace.heed(ToldHold::RetryAfter { hold: 2 * SECOND, rate: None }), Some(2 * SECOND));
    let begun = Instant::now();
    assert!(pace.is_held() && admit_now(&pace, 1, Lane::Batch).is_none());
    let stop = CancellationToken::new();
    let first = pace.admit(1, Lane::Batch, &stop).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited >= 2 * SECOND && waited <= 2 * SECOND + 2 * RETURNED, "{waited:?}");
    assert!(pace.is_held() && admit_now(&pace, 1, Lane::Realtime).is_none(), "it goes alone");
    first.end(Ok(()));
    assert!(!pace.is_held() && admit_now(&pace, 1, Lane::Realtime).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_first_request_without_a_response_stops_the_others_for_a_while_only() {
    let (pace, stop) = (pace(0), CancellationToken::new());
    pace.heed(ToldHold::RetryAfter { hold: SECOND, rate: None });
    let first = pace.admit(1, Lane::Batch, &stop).await.unwrap();
    let sent = Instant::now();
    let _second = pace.admit(1, Lane::Batch, &stop).await.unwrap();
    assert!(sent.elapsed() >= FIRST_ALONE);
    drop(first);
    assert!(!pace.is_held(), "others went before");
}

#[tokio::test(start_paused = true)]
async fn another_goes_first_in_place_of_one_that_was_not_sent() {
    let (pace, stop) = (pace(0), CancellationToken::new());
    pace.heed(ToldHold::RetryAfter { hold: SECOND, rate: None });
    let first = pace.admit(1, Lane::Batch, &stop).await.unwrap();
    let mut waiting = [0, 1].map(|_| Box::pin(pace.admit(1, Lane::Batch, &stop)));
    assert!(waiting.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
    drop(first);
    let mut admitted: Vec<_> = waiting.iter_mut().filter_map(|waiting| waiting.as_mut().now_or_never()).collect();
    assert_eq!(admitted.len(), 1, "alone");
    let mut second = admitted.pop().unwrap().unwrap();
    second.mark_sent();
    drop(second);
    assert!(!pace.is_held(), "its response was not waited for");
    assert!(waiting[1].as_mut().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_tokens_gets_those_of_one_that_was_not_sent() {
    let (pace, stop) = (pace(100), CancellationToken::new());
    tokio::time::advance(SECOND).await;
    let admission = admit_now(&pace, 25, Lane::Batch).unwrap();
    let mut waiting = std::pin::pin!(pace.admit(25, Lane::Batch, &stop));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(admission);
    assert!(waiting.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_rate_is_no_outage_while_others_are_scored() {
    let pace = pace(0);
    assert!(!refuse(&pace, 429, Some(1)), "nothing was ever scored");
    tokio::time::advance(SECOND + RETURNED).await;
    score(&pace);
    tokio::time::advance(SECOND).await;
    assert!(!refuse(&pace, 503, Some(1)), "it is overloaded, whatever it asks for");
    tokio::time::advance(SECOND + RETURNED).await;
    score(&pace);
    let mut refusals = 0;
    while refuse(&pace, 429, None) {
        refusals += 1;
        tokio::time::advance(10 * SECOND).await;
    }
    assert_eq!(refusals, MAX_REFUSALS);
    tokio::time::advance(10 * SECOND).await;
    score(&pace);
    tokio::time::advance(SECOND).await;
    assert!(!refuse(&pace, 429, Some(60)), "a long pause is an outage");
    assert!(!pace.holds().borrow().as_ref().unwrap().reason.is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_at_a_refusal_say_nothing_new() {
    let pace = pace(0);
    score(&pace);
    let under_way: Vec<_> = (0..9).map(|_| admit_now(&pace, 100, Lane::Batch).unwrap()).collect();
    let mut holds = pace.holds();
    assert!(refuse(&pace, 429, Some(1)));
    let rate = holds.borrow_and_update().as_ref().unwrap().rate;
    assert!(under_way.iter().all(Admission::is_overtaken));
    for admission in under_way {
        assert!(admission.end(Err(&refusal(429, Some(1)))));
    }
    assert!(!holds.has_changed().unwrap(), "told once");
    assert_eq!(pace.gate().learned.rate(), rate, "and learned from once");
    let later = admit_now(&pace, 1, Lane::Batch);
    assert!(later.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_longer_pause_is_told_again() {
    let pace = pace(0);
    let under_way = admit_now(&pace, 100, Lane::Batch).unwrap();
    let _ = refuse(&pace, 429, Some(1));
    let mut holds = pace.holds();
    let _ = under_way.end(Err(&refusal(429, Some(30))));
    assert!(holds.has_changed().unwrap());
    assert_eq!(holds.borrow_and_update().as_ref().unwrap().until, Instant::now() + 30 * SECOND);
    tokio::time::advance(29 * SECOND).await;
    assert!(admit_now(&pace, 1, Lane::Batch).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_absurd_hold_is_capped() {
    let (year, hour) = (Duration::from_hours(24 * 365), Duration::from_hours(1));
    let told = pace(0);
    assert_eq!(told.heed(ToldHold::RetryAfter { hold: Duration::MAX, rate: None }), Some(hour));
    let circuit = pace(0);
    assert_eq!(circuit.heed(ToldHold::Circuit { hold: year }), Some(LONGEST_CIRCUIT_HOLD));
    let asked = pace(0);
    let _ = refuse(&asked, 429, Some(year.as_secs()));
    assert_eq!(asked.holds().borrow().as_ref().unwrap().until, Instant::now() + hour);
    tokio::time::advance(hour + Duration::from_mins(1)).await;
    for pace in [told, circuit, asked] {
        assert!(admit_now(&pace, 1, Lane::Batch).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_a_neighbour_stops_nothing_that_scores() {
    let circuit = ToldHold::Circuit { hold: SECOND };
    let scoring = pace(0);
    score(&scoring);
    assert_eq!(scoring.heed(circuit), None);
    let idle = pace(0);
    assert_eq!(idle.heed(circuit), Some(SECOND));
    tokio::time::advance(SECOND + RETURNED).await;
    assert_eq!(idle.heed(circuit), None, "it has to see for itself first");
    let request = admit_now(&idle, 1, Lane::Batch).unwrap();
    let _ = request.end(Err(&Symptom::ConnectionLost.into()));
    assert_eq!(idle.heed(circuit), Some(SECOND));
    tokio::time::advance(2 * SCORED_LATELY).await;
    assert_eq!(scoring.heed(circuit), Some(SECOND), "its last success is too old");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_limit_is_kept_and_can_change() {
    let (pace, stop) = (pace(1_000), CancellationToken::new());
    assert_eq!(pace.limit().unwrap().get(), 1_000);
    let count = async |pace: &Pace, seconds: u32| {
        let (end, mut sent) = (Instant::now() + seconds * SECOND, 0);
        while let Ok(admission) = tokio::time::timeout_at(end, pace.admit(100, Lane::Batch, &stop)).await {
            admission.unwrap().end(Ok(()));
            sent += 100;
        }
        sent
    };
    let all = count(&pace, 10).await;
    assert!((9_800..=10_400).contains(&all), "{all}");
    pace.set_share(250.0);
    assert_eq!(pace.rate(), Some(250.0));
    let quarter = count(&pace, 20).await;
    assert!((4_800..=5_300).contains(&quarter), "{quarter}");
    pace.set_share(0.0);
    assert_eq!(count(&pace, 10).await, 0);
    let mut waiting = std::pin::pin!(pace.admit(1, Lane::Batch, &stop));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(pace.is_busy());
    pace.set_share(1e6);
    waiting.await.unwrap().end(Ok(()));
    tokio::time::advance(BUSY + SECOND).await;
    assert!(!pace.is_busy());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_uses_no_share() {
    let pace = pace(100);
    tokio::time::advance(SECOND).await;
    for _ in 0..1_000 {
        admit_now(&pace, 25, Lane::Batch).unwrap().withdraw();
    }
    let last = admit_now(&pace, 25, Lane::Batch);
    assert!(last.is_some() && admit_now(&pace, 25, Lane::Batch).is_none());
}

#[tokio::test(start_paused = true)]
async fn live_transactions_go_first_and_leave_every_tenth_turn() {
    let (pace, stop) = (pace(100), CancellationToken::new());
    let order = Mutex::new(Vec::new());
    let go = async |lane: Lane| {
        let admission = pace.admit(50, lane, &stop).await.unwrap();
        order.lock().unwrap().push(lane);
        admission.end(Ok(()));
    };
    let lanes = [Lane::Batch; 30].into_iter().chain([Lane::Realtime; 30]);
    futures_util::future::join_all(lanes.map(go)).await;
    let order = order.into_inner().unwrap();
    // The first two found tokens.
    let batches = order[2..24].iter().filter(|lane| **lane == Lane::Batch).count();
    assert!((2..=4).contains(&batches), "{order:?}");
    assert_eq!(order.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait() {
    let (pace, stop) = (pace(1), CancellationToken::new());
    pace.set_share(0.0);
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pace.admit(1, Lane::Batch, &stop))).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
    stop.cancel();
    for waiting in waiting {
        assert_eq!(waiting.await.map(|_| ()), Err(ScoreError::Stopped));
    }
    assert_eq!(pace.gate().waiting, [0; 2]);
}
