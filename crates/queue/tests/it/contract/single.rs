//! The contract of `serve`, on both brokers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_queue::{Broker, DeliveryOutcome, Message, ServeOptions, serve};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ROUTE, Running, message, next, on_both, publish, until_depth};

on_both! {
    concurrency_is_bounded(100);
    a_failed_attempt_is_retried_and_counted(100);
    a_panic_is_a_failed_attempt(100);
    a_message_that_always_panics_is_dead_lettered(100);
    an_undecodable_message_is_dead_lettered(100);
    a_message_is_dead_lettered_if_its_outcome_says_so(100);
    shutdown_lets_running_work_end(100);
    shutdown_gives_back_unfinished_messages(100);
    a_message_released_while_stopping_is_redelivered(100);
}

pub(crate) const OPTIONS: ServeOptions = ServeOptions { concurrency: 4, prefetch: 8, drain: Duration::from_secs(20) };

/// Serves with `work`, which receives each message.
pub(crate) fn start<W, F>(broker: &Arc<dyn Broker>, options: ServeOptions, work: W) -> Running
where
    W: Fn(Message) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = DeliveryOutcome> + Send + 'static,
{
    let decode = |message: &Message| match &message.body[..] {
        b"{}" => Ok(message.clone()),
        b"panic" => panic!("on purpose"),
        _ => Err("not a test message".to_owned()),
    };
    Running::start(|shutdown| serve(Arc::clone(broker), ROUTE, options, shutdown, decode, work))
}

async fn concurrency_is_bounded(broker: Arc<dyn Broker>) {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // None passes the barrier before four are in work: fewer would hang.
    let four = Arc::new(Barrier::new(4));
    let (done, mut all_done) = mpsc::unbounded_channel();
    let serving = start(&broker, OPTIONS, {
        let most = Arc::clone(&most);
        move |message| {
            let (running, most, four, done) =
                (Arc::clone(&running), Arc::clone(&most), Arc::clone(&four), done.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                four.wait().await;
                running.fetch_sub(1, Ordering::SeqCst);
                done.send(message.id).unwrap();
                DeliveryOutcome::Done
            }
        }
    });
    publish(&*broker, ROUTE, 40).await;
    let mut ids = Vec::new();
    while ids.len() < 40 {
        ids.push(all_done.recv().await.unwrap());
    }
    serving.end().await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..40).map(|id| id.to_string()).collect::<Vec<_>>());
    until_depth(&*broker, ROUTE, 0, 0).await;
}

/// Serves one message with `outcome` per attempt, and returns the attempts once one of them is done.
async fn attempts(
    broker: &Arc<dyn Broker>,
    outcome: impl Fn(u32) -> DeliveryOutcome + Clone + Send + Sync + 'static,
) -> Vec<u32> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let done = Arc::new(Notify::new());
    let serving = start(broker, OPTIONS, {
        let (seen, done) = (Arc::clone(&seen), Arc::clone(&done));
        move |message| {
            let (seen, done, outcome) = (Arc::clone(&seen), Arc::clone(&done), outcome.clone());
            async move {
                seen.lock().unwrap().push(message.attempt);
                let outcome = outcome(message.attempt);
                if outcome == DeliveryOutcome::Done {
                    done.notify_one();
                }
                outcome
            }
        }
    });
    publish(&**broker, ROUTE, 1).await;
    done.notified().await;
    serving.end().await;
    until_depth(&**broker, ROUTE, 0, 0).await;
    let seen = seen.lock().unwrap();
    seen.clone()
}

async fn a_failed_attempt_is_retried_and_counted(broker: Arc<dyn Broker>) {
    let outcome = |attempt| match attempt {
        0 | 1 => DeliveryOutcome::Retry { after: Duration::ZERO },
        _ => DeliveryOutcome::Done,
    };
    assert_eq!(attempts(&broker, outcome).await, [0, 1, 2]);
}

async fn a_panic_is_a_failed_attempt(broker: Arc<dyn Broker>) {
    let outcome = |attempt| if attempt == 0 { panic!("on purpose") } else { DeliveryOutcome::Done };
    assert_eq!(attempts(&broker, outcome).await, [0, 1]);
}

async fn a_message_that_always_panics_is_dead_lettered(broker: Arc<dyn Broker>) {
    let serving = start(&broker, OPTIONS, |_| async { panic!("on purpose") });
    broker.publish(ROUTE, Message { attempt: 4, ..message("poison") }).await.unwrap();
    assert_eq!(first_death(&broker).await, ("poison".to_owned(), "the work on it panicked 5 times".to_owned()));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn an_undecodable_message_is_dead_lettered(broker: Arc<dyn Broker>) {
    let serving = start(&broker, OPTIONS, |_| async { DeliveryOutcome::Done });
    for (body, reason) in [("garbage", "not a test message"), ("panic", "decoding it panicked")] {
        broker.publish(ROUTE, Message { body: body.into(), ..message(body) }).await.unwrap();
        assert_eq!(first_death(&broker).await, (body.to_owned(), reason.to_owned()));
    }
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_message_is_dead_lettered_if_its_outcome_says_so(broker: Arc<dyn Broker>) {
    let serving =
        start(&broker, OPTIONS, |_| async { DeliveryOutcome::DeadLetter { reason: "of another version".to_owned() } });
    publish(&*broker, ROUTE, 1).await;
    assert_eq!(first_death(&broker).await, ("0".to_owned(), "of another version".to_owned()));
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

/// The id and the reason of the next dead letter.
async fn first_death(broker: &Arc<dyn Broker>) -> (String, String) {
    let mut dead = broker.consume_dead_letters(1).await.unwrap();
    let delivery = next(&mut dead).await;
    let death = delivery.death.clone().unwrap();
    assert_eq!(death.queue, "transactions.batch");
    let id = delivery.message.id.clone();
    delivery.ack();
    dead.close().await;
    (id, death.reason)
}

async fn shutdown_lets_running_work_end(broker: Arc<dyn Broker>) {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let options = ServeOptions { concurrency: 1, ..OPTIONS };
    let serving = start(&broker, options, {
        let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
        move |_| {
            let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
            async move {
                started.notify_one();
                go_on.notified().await;
                DeliveryOutcome::Done
            }
        }
    });
    publish(&*broker, ROUTE, 3).await;
    started.notified().await;
    serving.shutdown.cancel();
    go_on.notify_one();
    serving.end().await;
    // The one in work was acknowledged, and no other one started.
    until_depth(&*broker, ROUTE, 2, 0).await;
}

async fn shutdown_gives_back_unfinished_messages(broker: Arc<dyn Broker>) {
    let started = Arc::new(Notify::new());
    let options = ServeOptions { drain: Duration::from_millis(50), ..OPTIONS };
    let serving = start(&broker, options, {
        let started = Arc::clone(&started);
        move |_| {
            started.notify_one();
            std::future::pending()
        }
    });
    publish(&*broker, ROUTE, 1).await;
    started.notified().await;
    serving.end().await;
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!((delivery.message.attempt, delivery.redelivered), (0, true));
}

async fn a_message_released_while_stopping_is_redelivered(broker: Arc<dyn Broker>) {
    let stop = CancellationToken::new();
    let started = Arc::new(Notify::new());
    let serving = start(&broker, OPTIONS, {
        let (stop, started) = (stop.clone(), Arc::clone(&started));
        move |_| {
            let (stop, started) = (stop.clone(), Arc::clone(&started));
            async move {
                started.notify_one();
                stop.cancelled().await;
                DeliveryOutcome::Release
            }
        }
    });
    publish(&*broker, ROUTE, 1).await;
    started.notified().await;
    serving.shutdown.cancel();
    stop.cancel();
    serving.end().await;
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!((delivery.message.attempt, delivery.redelivered), (0, true));
}
