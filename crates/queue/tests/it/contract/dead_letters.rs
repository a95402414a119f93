//! The contract of `serve_dead_letters`, on both brokers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Death, DrainOutcome, Message, serve_dead_letters};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixture::{OTHER, ROUTE, Running, message, next, on_both, publish, until_depth};

on_both! {
    dead_letters_of_stages_and_of_the_broker_arrive_unchanged(100);
    an_unrecorded_dead_letter_is_redelivered(100);
    many_dead_letters_are_drained_one_at_a_time(100);
    nothing_is_lost_when_the_consumer_dies(100);
    shutdown_lets_running_work_end(100);
    shutdown_gives_back_unfinished_messages(100);
}

pub(crate) fn start<W, F>(broker: &Arc<dyn Broker>, drain: Duration, work: W) -> Running
where
    W: Fn(Message, Death) -> F + Send + Sync + 'static,
    F: Future<Output = DrainOutcome> + Send + 'static,
{
    Running::start(|shutdown| serve_dead_letters(Arc::clone(broker), shutdown, drain, work))
}

pub(crate) const DRAIN: Duration = Duration::from_secs(20);

async fn dead_letter(broker: &dyn Broker, count: usize) {
    for id in 0..count {
        broker.dead_letter(ROUTE, message(id.to_string()), "hopeless").await.unwrap();
    }
}

/// Expects that no dead letter is left: the next one is one published now.
pub(crate) async fn expect_no_dead_letters(broker: &dyn Broker) {
    broker.dead_letter(OTHER, message("the last"), "a test").await.unwrap();
    let mut dead = broker.consume_dead_letters(10).await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!(delivery.message.id, "the last");
    delivery.ack();
    dead.close().await;
}

async fn dead_letters_of_stages_and_of_the_broker_arrive_unchanged(broker: Arc<dyn Broker>) {
    let garbage = Message { attempt: 3, body: vec![0xff, 0, b'{'].into(), ..message("garbage") };
    broker.dead_letter(OTHER, garbage.clone(), "no chunk: expected value at line 1").await.unwrap();
    publish(&*broker, ROUTE, 1).await;
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    // Beyond the delivery limit.
    for _ in 0..101 {
        next(&mut consumer).await.release();
    }
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let draining = start(&broker, DRAIN, move |message, death| {
        seen.send((message, death)).unwrap();
        async { DrainOutcome::Recorded }
    });
    let mut letters = [all_seen.recv().await.unwrap(), all_seen.recv().await.unwrap()];
    letters.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    let [(given_up, by_the_broker), (dead_lettered, by_a_stage)] = letters;
    assert_eq!((given_up.id.as_str(), &given_up.body[..]), ("0", &b"{}"[..]));
    let death = |queue: &str, reason: &str| Death { queue: queue.to_owned(), reason: reason.to_owned() };
    assert_eq!(by_the_broker, death("transactions.batch", "delivery_limit"));
    assert_eq!(dead_lettered, garbage);
    assert_eq!(by_a_stage, death("predictions.realtime", "no chunk: expected value at line 1"));
    draining.end().await;
    consumer.close().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
    expect_no_dead_letters(&*broker).await;
}

async fn an_unrecorded_dead_letter_is_redelivered(broker: Arc<dyn Broker>) {
    dead_letter(&*broker, 3).await;
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let draining = start(&broker, DRAIN, {
        let before = std::sync::Mutex::new(HashSet::new());
        move |message: Message, _| {
            let is_first = before.lock().unwrap().insert(message.id.clone());
            let seen = seen.clone();
            async move {
                match message.id.as_str() {
                    "0" if is_first => DrainOutcome::NotRecorded,
                    "1" if is_first => panic!("on purpose"),
                    _ => {
                        seen.send(message.id).unwrap();
                        DrainOutcome::Recorded
                    }
                }
            }
        }
    });
    let mut recorded = Vec::new();
    while recorded.len() < 3 {
        recorded.push(all_seen.recv().await.unwrap());
    }
    recorded.sort();
    assert_eq!(recorded, ["0", "1", "2"]);
    draining.end().await;
    expect_no_dead_letters(&*broker).await;
}

async fn many_dead_letters_are_drained_one_at_a_time(broker: Arc<dyn Broker>) {
    dead_letter(&*broker, 100).await;
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let draining = start(&broker, DRAIN, {
        let in_work = Arc::new(tokio::sync::Mutex::new(()));
        move |message, _| {
            let (seen, in_work) = (seen.clone(), Arc::clone(&in_work));
            async move {
                let _alone = in_work.try_lock().unwrap();
                tokio::task::yield_now().await;
                seen.send(message.id).unwrap();
                DrainOutcome::Recorded
            }
        }
    });
    for id in 0..100 {
        assert_eq!(all_seen.recv().await, Some(id.to_string()));
    }
    draining.end().await;
    expect_no_dead_letters(&*broker).await;
}

/// Starts work on the first dead letter that never ends.
async fn stuck(broker: &Arc<dyn Broker>, drain: Duration) -> Running {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let draining = start(broker, drain, move |_, _| {
        begun.send(()).unwrap();
        std::future::pending()
    });
    has_begun.recv().await.unwrap();
    draining
}

async fn expect_redelivered(broker: &Arc<dyn Broker>, count: usize) {
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let draining = start(broker, DRAIN, move |message, _| {
        seen.send(message.id).unwrap();
        async { DrainOutcome::Recorded }
    });
    let mut ids = HashSet::new();
    for _ in 0..count {
        assert!(ids.insert(all_seen.recv().await.unwrap()));
    }
    assert_eq!(ids, (0..count).map(|id| id.to_string()).collect());
    draining.end().await;
    expect_no_dead_letters(&**broker).await;
}

async fn nothing_is_lost_when_the_consumer_dies(broker: Arc<dyn Broker>) {
    dead_letter(&*broker, 30).await;
    let draining = stuck(&broker, DRAIN).await;
    draining.task.abort();
    assert!(draining.task.await.unwrap_err().is_cancelled());
    expect_redelivered(&broker, 30).await;
}

async fn shutdown_gives_back_unfinished_messages(broker: Arc<dyn Broker>) {
    dead_letter(&*broker, 3).await;
    stuck(&broker, Duration::from_millis(50)).await.end().await;
    expect_redelivered(&broker, 3).await;
}

async fn shutdown_lets_running_work_end(broker: Arc<dyn Broker>) {
    dead_letter(&*broker, 1).await;
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let may_end = CancellationToken::new();
    let draining = start(&broker, DRAIN, {
        let may_end = may_end.clone();
        move |_, _| {
            begun.send(()).unwrap();
            let may_end = may_end.clone();
            async move {
                may_end.cancelled().await;
                DrainOutcome::Recorded
            }
        }
    });
    has_begun.recv().await.unwrap();
    draining.shutdown.cancel();
    may_end.cancel();
    draining.end().await;
    expect_no_dead_letters(&*broker).await;
}
