//! The contract of `serve_batches`, on both brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::{BatchItem, BatchOptions, Broker, DeliveryOutcome, Message, serve_batches};
use tokio::sync::{Semaphore, mpsc};

use crate::fixture::{ROUTE, Running, ids, message, next, on_both, publish, until_depth};

on_both! {
    a_batch_is_complete_once_it_weighs_enough(100);
    a_batch_waits_no_longer_than_max_wait(100);
    a_batch_does_not_wait_for_items_that_do_not_come(100);
    a_batch_grows_while_another_is_in_work(100);
    a_batch_does_not_wait_for_more_than_the_prefetch(100);
    light_items_raise_the_prefetch_until_a_batch_is_complete(100);
    a_batch_is_complete_once_its_messages_have_enough_bytes(100);
    the_next_batch_is_collected_while_one_is_in_work(100);
    each_item_has_its_own_outcome(100);
    a_batch_that_panics_is_worked_on_item_by_item(100);
    an_undecodable_message_is_dead_lettered(100);
    shutdown_finishes_the_collected_batch(100);
    shutdown_gives_back_unfinished_messages(100);
}

const NEVER: Duration = Duration::from_hours(1);
pub(crate) const OPTIONS: BatchOptions = BatchOptions {
    enough_weight: 5,
    max_weight: 5,
    max_bytes: usize::MAX,
    max_wait: NEVER,
    max_pause: NEVER,
    prefetch: 20,
    drain: Duration::from_secs(20),
};

/// The same for batches of that weight.
fn heavy(weight: usize) -> BatchOptions {
    BatchOptions { enough_weight: weight, max_weight: weight, ..OPTIONS }
}

pub(crate) type Item = (String, u32);

/// A service that reports what it decodes and works on, and whose work the test can hold up.
pub(crate) struct Serving {
    running: Running,
    decoded: mpsc::UnboundedReceiver<String>,
    pub(crate) batches: mpsc::UnboundedReceiver<Vec<Item>>,
    /// The items whose work has ended.
    pub(crate) ended: mpsc::UnboundedReceiver<Item>,
    /// One permit for each batch that may end.
    may_end: Arc<Semaphore>,
}

impl Serving {
    pub(crate) fn start(
        broker: &Arc<dyn Broker>,
        options: BatchOptions,
        outcome: fn(&Item) -> DeliveryOutcome,
    ) -> Self {
        let may_end = Arc::new(Semaphore::new(0));
        let (decoding, decoded) = mpsc::unbounded_channel();
        let (working, batches) = mpsc::unbounded_channel();
        let (ending, ended) = mpsc::unbounded_channel();
        let decode = move |message: &Message| {
            if &message.body[..] != b"{}" {
                return Err("not a test message".to_owned());
            }
            decoding.send(message.id.clone()).unwrap();
            Ok(BatchItem { value: (message.id.clone(), message.attempt), weight: 1 })
        };
        let work = {
            let may_end = Arc::clone(&may_end);
            move |items: Vec<Item>| {
                let (may_end, working, ending) = (Arc::clone(&may_end), working.clone(), ending.clone());
                async move {
                    working.send(items.clone()).unwrap();
                    may_end.acquire().await.unwrap().forget();
                    let outcomes = items.iter().map(outcome).collect();
                    for item in items {
                        // Most tests ignore it.
                        let _ = ending.send(item);
                    }
                    outcomes
                }
            }
        };
        let running =
            Running::start(|shutdown| serve_batches(Arc::clone(broker), ROUTE, options, shutdown, decode, work));
        Self { running, decoded, batches, ended, may_end }
    }

    async fn batch(&mut self) -> Vec<String> {
        self.batches.recv().await.unwrap().into_iter().map(|(id, _)| id).collect()
    }

    /// Publishes messages, and returns their batches.
    async fn batches_of(&mut self, broker: &Arc<dyn Broker>, messages: usize) -> Vec<Vec<String>> {
        publish(&**broker, ROUTE, messages).await;
        let (mut batches, mut found) = (Vec::new(), 0);
        while found < messages {
            let batch = self.batch().await;
            found += batch.len();
            batches.push(batch);
        }
        batches
    }

    pub(crate) fn let_end(&self, batches: usize) {
        self.may_end.add_permits(batches);
    }

    pub(crate) async fn end(self) {
        self.running.end().await;
    }
}

pub(crate) fn done(_: &Item) -> DeliveryOutcome {
    DeliveryOutcome::Done
}

async fn a_batch_is_complete_once_it_weighs_enough(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, OPTIONS, done);
    serving.let_end(2);
    publish(&*broker, ROUTE, 10).await;
    assert_eq!(serving.batch().await, ids(0..5));
    assert_eq!(serving.batch().await, ids(5..10));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_waits_no_longer_than_max_wait(broker: Arc<dyn Broker>) {
    let options = BatchOptions { max_wait: Duration::from_millis(20), ..heavy(1000) };
    let mut serving = Serving::start(&broker, options, done);
    serving.let_end(3);
    publish(&*broker, ROUTE, 3).await;
    let mut worked_on = Vec::new();
    while worked_on.len() < 3 {
        worked_on.extend(serving.batch().await);
    }
    assert_eq!(worked_on, ids(0..3));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_does_not_wait_for_items_that_do_not_come(broker: Arc<dyn Broker>) {
    let mut serving =
        Serving::start(&broker, BatchOptions { max_pause: Duration::from_millis(20), ..heavy(1000) }, done);
    serving.let_end(3);
    let mut worked_on = serving.batches_of(&broker, 3).await.concat();
    worked_on.sort();
    assert_eq!(worked_on, ids(0..3));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_grows_while_another_is_in_work(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, BatchOptions { max_weight: 8, ..heavy(2) }, done);
    publish(&*broker, ROUTE, 15).await;
    assert_eq!(serving.batch().await, ids(0..2), "nothing else is in work");
    for id in ids(0..10) {
        assert_eq!(serving.decoded.recv().await, Some(id));
    }
    serving.let_end(1);
    assert_eq!(serving.batch().await, ids(2..10), "it is full");
    for id in ids(10..15) {
        assert_eq!(serving.decoded.recv().await, Some(id));
    }
    serving.let_end(2);
    assert_eq!(serving.batch().await, ids(10..15));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_does_not_wait_for_more_than_the_prefetch(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, BatchOptions { prefetch: 3, ..heavy(1000) }, done);
    publish(&*broker, ROUTE, 6).await;
    assert_eq!(serving.batch().await, ids(0..3));
    serving.let_end(2);
    serving.end().await;
}

async fn light_items_raise_the_prefetch_until_a_batch_is_complete(broker: Arc<dyn Broker>) {
    let options = BatchOptions { max_wait: Duration::from_millis(500), prefetch: 3, ..heavy(40) };
    let mut serving = Serving::start(&broker, options, done);
    serving.let_end(1000);
    // The first batches show how many messages make a complete one.
    while !serving.batches_of(&broker, 80).await.iter().any(|batch| batch.len() == 40) {}
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_is_complete_once_its_messages_have_enough_bytes(broker: Arc<dyn Broker>) {
    let options = BatchOptions { max_bytes: 7, prefetch: 50, ..heavy(1000) };
    let mut serving = Serving::start(&broker, options, done);
    serving.let_end(2);
    publish(&*broker, ROUTE, 8).await;
    assert_eq!(serving.batch().await, ids(0..4), "of two bytes each");
    assert_eq!(serving.batch().await, ids(4..8));
    serving.end().await;
}

async fn the_next_batch_is_collected_while_one_is_in_work(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, OPTIONS, done);
    publish(&*broker, ROUTE, 10).await;
    assert_eq!(serving.batch().await, ids(0..5));
    // The next batch is decoded while the first one is in work.
    for id in ids(0..10) {
        assert_eq!(serving.decoded.recv().await, Some(id));
    }
    assert!(serving.batches.is_empty());
    serving.let_end(1);
    assert_eq!(serving.batch().await, ids(5..10));
    serving.let_end(1);
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn each_item_has_its_own_outcome(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, heavy(4), |(id, attempt)| match (id.as_str(), attempt) {
        ("1", 0) => DeliveryOutcome::Retry { after: Duration::ZERO },
        ("2", _) => DeliveryOutcome::DeadLetter { reason: "a conflict".to_owned() },
        _ => DeliveryOutcome::Done,
    });
    serving.let_end(1);
    publish(&*broker, ROUTE, 4).await;
    assert_eq!(serving.batch().await, ids(0..4));
    let mut dead = broker.consume_dead_letters(1).await.unwrap();
    assert_eq!(next(&mut dead).await.message.id, "2");
    // The retry comes with the next batch.
    serving.let_end(1);
    for id in ["a", "b", "c"] {
        broker.publish(ROUTE, message(id)).await.unwrap();
    }
    let second: BTreeMap<_, _> = serving.batches.recv().await.unwrap().into_iter().collect();
    assert_eq!(second.get("1"), Some(&1));
    assert_eq!(second.len(), 4);
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_batch_that_panics_is_worked_on_item_by_item(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, heavy(3), |(id, attempt)| {
        assert!(id != "1" || *attempt > 0, "on purpose");
        DeliveryOutcome::Done
    });
    serving.let_end(10);
    publish(&*broker, ROUTE, 3).await;
    assert_eq!(serving.batch().await, ids(0..3));
    for alone in ids(0..3) {
        assert_eq!(serving.batch().await, [alone]);
    }
    // Only the one at fault is retried.
    for id in ["a", "b"] {
        broker.publish(ROUTE, message(id)).await.unwrap();
    }
    let second: BTreeMap<_, _> = serving.batches.recv().await.unwrap().into_iter().collect();
    assert_eq!(second, [("1", 1), ("a", 0), ("b", 0)].map(|(id, attempt)| (id.to_owned(), attempt)).into());
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn an_undecodable_message_is_dead_lettered(broker: Arc<dyn Broker>) {
    let serving = Serving::start(&broker, OPTIONS, done);
    broker.publish(ROUTE, Message { body: "garbage".into(), ..message("garbage") }).await.unwrap();
    let mut dead = broker.consume_dead_letters(1).await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!(delivery.message.id, "garbage");
    assert_eq!(delivery.death.as_ref().unwrap().reason, "not a test message");
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn shutdown_finishes_the_collected_batch(broker: Arc<dyn Broker>) {
    let mut serving = Serving::start(&broker, OPTIONS, done);
    publish(&*broker, ROUTE, 8).await;
    assert_eq!(serving.batch().await, ids(0..5));
    for id in ids(0..8) {
        assert_eq!(serving.decoded.recv().await, Some(id));
    }
    serving.running.shutdown.cancel();
    serving.let_end(2);
    assert_eq!(serving.batch().await, ids(5..8));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn shutdown_gives_back_unfinished_messages(broker: Arc<dyn Broker>) {
    let options = BatchOptions { drain: Duration::from_millis(50), ..OPTIONS };
    let mut serving = Serving::start(&broker, options, done);
    publish(&*broker, ROUTE, 7).await;
    assert_eq!(serving.batch().await, ids(0..5));
    serving.end().await;
    until_depth(&*broker, ROUTE, 7, 0).await;
}
