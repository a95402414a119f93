//! The contract of work that does not end: no message is held for long, none is lost, and no attempt is counted.
//!
//! In process, the minute in a delay queue passes on a paused clock; on RabbitMQ, the fixture moves the messages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_queue::{Broker, DeliveryOutcome, DrainOutcome, Message, PublishError};
use tokio::sync::{mpsc, watch};

use super::{batch as serving_batches, dead_letters, single as serving};
use crate::fixture::{ROUTE, Running, ids, message, next, publish, until_depth};

const HOLD: Duration = Duration::from_millis(500);
const A_MINUTE: Duration = Duration::from_mins(1);

/// Runs each test on both brokers. `minutes_pass`: whether deferred messages come back.
macro_rules! on_both {
    ($($test:ident($length:expr, minutes_pass: $minutes_pass:expr);)*) => {
        mod in_process {
            $(
                #[tokio::test(start_paused = true)]
                async fn $test() {
                    let broker = assay_queue::InProcess::with_hold_timeout($length, super::HOLD);
                    let test = super::$test(broker);
                    tokio::time::timeout(std::time::Duration::from_hours(1), test).await.expect("the test hangs");
                }
            )*
        }
        mod on_rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let mut server = $crate::fixture::Server::new($length);
                    server.options.hold_timeout = super::HOLD;
                    let broker = server.connect().await;
                    let client = server.client().await;
                    if $minutes_pass {
                        server.let_minutes_pass(&client, $crate::fixture::ROUTE).await;
                    }
                    $crate::fixture::within_a_minute(super::$test(std::sync::Arc::clone(&broker))).await;
                    broker.close().await;
                    client.close(200, "the test is over".into()).await.unwrap();
                    server.delete_all().await;
                }
            )*
        }
    };
}

on_both! {
    a_message_whose_work_hangs_is_deferred_as_the_same_attempt(100, minutes_pass: true);
    messages_behind_work_that_hangs_go_back_to_the_queue(100, minutes_pass: false);
    a_batch_that_hangs_is_deferred_with_the_next_one(100, minutes_pass: true);
    a_message_that_cannot_be_deferred_goes_back_to_the_queue(5, minutes_pass: false);
    a_retry_without_room_goes_back_to_the_queue(5, minutes_pass: false);
    a_dead_letter_whose_work_hangs_is_redelivered(100, minutes_pass: false);
}

/// The start of work on a message.
#[derive(Debug, Clone)]
struct Begun {
    id: String,
    attempt: u32,
    /// How many were in work then, this one included.
    in_work: usize,
}

/// A dependency of work; while it is unreachable, the work hangs.
pub(crate) struct Dependency {
    is_down: watch::Sender<bool>,
    in_work: AtomicUsize,
    begun: mpsc::UnboundedSender<Begun>,
    done: mpsc::UnboundedSender<Message>,
}

struct Seen {
    begun: mpsc::UnboundedReceiver<Begun>,
    done: mpsc::UnboundedReceiver<Message>,
}

impl Dependency {
    fn new() -> (Arc<Self>, Seen) {
        let (begun, see_begun) = mpsc::unbounded_channel();
        let (done, see_done) = mpsc::unbounded_channel();
        let dependency = Self { is_down: watch::Sender::new(true), in_work: AtomicUsize::new(0), begun, done };
        (Arc::new(dependency), Seen { begun: see_begun, done: see_done })
    }

    fn serve(self: &Arc<Self>, broker: &Arc<dyn Broker>) -> Running {
        let dependency = Arc::clone(self);
        serving::start(broker, serving::OPTIONS, move |message| {
            let dependency = Arc::clone(&dependency);
            async move { dependency.work(message).await }
        })
    }

    async fn work(&self, message: Message) -> DeliveryOutcome {
        struct InWork<'a>(&'a AtomicUsize);
        impl Drop for InWork<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let in_work = self.in_work.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_work = InWork(&self.in_work);
        self.begun.send(Begun { id: message.id.clone(), attempt: message.attempt, in_work }).unwrap();
        self.is_down.subscribe().wait_for(|is_down| !is_down).await.unwrap();
        self.done.send(message).unwrap();
        DeliveryOutcome::Done
    }
}

impl Seen {
    async fn begun(&mut self, count: usize) -> Vec<Begun> {
        let mut begun = Vec::new();
        while begun.len() < count {
            begun.push(self.begun.recv().await.unwrap());
        }
        begun
    }

    /// The sorted ids of finished messages; each must be a first attempt.
    async fn all_done(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let message = self.done.recv().await.unwrap();
            assert_eq!(message.attempt, 0, "message {}", message.id);
            ids.push(message.id);
        }
        ids.sort();
        ids
    }
}

async fn a_message_whose_work_hangs_is_deferred_as_the_same_attempt(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 10).await;
    let (dependency, mut seen) = Dependency::new();
    let serving = dependency.serve(&broker);
    let begun = seen.begun(8).await;
    assert!(begun.iter().all(|begun| begun.attempt == 0), "{begun:?}");
    let mut in_work: Vec<_> = begun.iter().map(|begun| begun.in_work).collect();
    // The first four report in any order.
    in_work[..4].sort_unstable();
    assert_eq!(in_work, [1, 2, 3, 4, 1, 1, 1, 1]);

    dependency.is_down.send_replace(false);
    assert_eq!(seen.all_done(10).await, ids(0..10));
    until_depth(&*broker, ROUTE, 0, 1).await;

    // It is back at full pace: two are in work at a time during the next outage.
    dependency.is_down.send_replace(true);
    while seen.begun.try_recv().is_ok() {}
    publish(&*broker, ROUTE, 3).await;
    while seen.begun(1).await[0].in_work < 2 {}
    dependency.is_down.send_replace(false);
    assert_eq!(seen.all_done(3).await, ids(0..3));
    serving.end().await;
    assert!(seen.done.try_recv().is_err(), "some work was done twice");
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn messages_behind_work_that_hangs_go_back_to_the_queue(broker: Arc<dyn Broker>) {
    // Four in work, four in the buffer.
    publish(&*broker, ROUTE, 8).await;
    let (dependency, mut seen) = Dependency::new();
    let serving = dependency.serve(&broker);
    let begun: Vec<_> = seen.begun(4).await.into_iter().map(|begun| begun.id).collect();
    // The fifth starts only after the consumer ended; the next consumer receives what it held.
    let fifth = seen.begun(1).await.remove(0).id;
    let mut other = broker.consume(ROUTE, 10).await.unwrap();
    let mut elsewhere = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut other).await;
        elsewhere.push(delivery.message.id.clone());
        delivery.ack();
    }
    let mut all = [begun, vec![fifth], elsewhere].concat();
    all.sort();
    assert_eq!(all, ids(0..8));
    serving.end().await;
}

async fn a_batch_that_hangs_is_deferred_with_the_next_one(broker: Arc<dyn Broker>) {
    let mut serving = serving_batches::Serving::start(&broker, serving_batches::OPTIONS, serving_batches::done);
    publish(&*broker, ROUTE, 8).await;
    assert_eq!(serving.batches.recv().await.unwrap().len(), 5);
    // From now on one at a time is tried.
    for _ in 0..3 {
        let probe = serving.batches.recv().await.unwrap();
        assert!(matches!(&probe[..], [(_, 0)]), "{probe:?}");
    }
    serving.let_end(100);
    let mut done = Vec::new();
    while done.len() < 8 {
        let (id, attempt) = serving.ended.recv().await.unwrap();
        assert_eq!(attempt, 0, "message {id}");
        done.push(id);
    }
    done.sort();
    assert_eq!(done, ids(0..8));
    until_depth(&*broker, ROUTE, 0, 1).await;
    assert!(serving.ended.try_recv().is_err(), "some work was done twice");
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

/// Fills the delay queue of a minute.
async fn fill_the_longest_delay(broker: &dyn Broker) {
    while broker.publish_later(ROUTE, message("filler"), A_MINUTE).await != Err(PublishError::Full) {}
}

/// The attempts at a message, the first of which runs `first`.
async fn attempts<F>(broker: &Arc<dyn Broker>, first: impl Fn() -> F + Clone + Send + Sync + 'static) -> Vec<u32>
where
    F: Future<Output = DeliveryOutcome> + Send + 'static,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (done, mut is_done) = mpsc::unbounded_channel();
    let serving = serving::start(broker, serving::OPTIONS, {
        let seen = Arc::clone(&seen);
        move |message| {
            let (seen, done, first) = (Arc::clone(&seen), done.clone(), first.clone());
            async move {
                let is_first = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(message.attempt);
                    seen.len() == 1
                };
                if is_first {
                    return first().await;
                }
                done.send(()).unwrap();
                DeliveryOutcome::Done
            }
        }
    });
    publish(&**broker, ROUTE, 1).await;
    is_done.recv().await.unwrap();
    serving.end().await;
    until_depth(&**broker, ROUTE, 0, 0).await;
    let seen = seen.lock().unwrap();
    seen.clone()
}

async fn a_message_that_cannot_be_deferred_goes_back_to_the_queue(broker: Arc<dyn Broker>) {
    fill_the_longest_delay(&*broker).await;
    assert_eq!(attempts(&broker, std::future::pending).await, [0, 0]);
}

async fn a_retry_without_room_goes_back_to_the_queue(broker: Arc<dyn Broker>) {
    fill_the_longest_delay(&*broker).await;
    assert_eq!(attempts(&broker, || async { DeliveryOutcome::Retry { after: A_MINUTE } }).await, [0, 0]);
}

async fn a_dead_letter_whose_work_hangs_is_redelivered(broker: Arc<dyn Broker>) {
    broker.dead_letter(ROUTE, message("dead"), "hopeless").await.unwrap();
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let (recorded, mut is_recorded) = mpsc::unbounded_channel();
    let (down, is_down) = watch::channel(true);
    let draining = dead_letters::start(&broker, dead_letters::DRAIN, move |message, death| {
        begun.send((message.id, death.reason)).unwrap();
        let (mut is_down, recorded) = (is_down.clone(), recorded.clone());
        async move {
            is_down.wait_for(|is_down| !is_down).await.unwrap();
            recorded.send(()).unwrap();
            DrainOutcome::Recorded
        }
    });
    for _ in 0..3 {
        assert_eq!(has_begun.recv().await.unwrap(), ("dead".to_owned(), "hopeless".to_owned()));
    }
    down.send_replace(false);
    is_recorded.recv().await.unwrap();
    draining.end().await;
    dead_letters::expect_no_dead_letters(&*broker).await;
}
