//! Bounds in bytes of consumers and publishers.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Consumer, Delivery, InProcess, Message, PublishError, publish_until_confirmed};
use tokio_util::sync::CancellationToken;

use crate::fixture::{OTHER, ROUTE, Server, message, next, on_both, publish, until_depth, within_a_minute};

on_both! {
    bytes_in_work_are_bounded_by_the_budget(100);
    each_lane_has_its_own_budget(100);
    a_message_larger_than_the_budget_is_taken_alone(100);
    the_prefetch_can_be_changed(1000);
}

const MIB: usize = 1024 * 1024;
/// Most bytes in work from a queue.
const IN_WORK: usize = 16 * MIB;

/// An incompressible body.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(bytes);
    body
}

fn large(id: usize, body: &[u8]) -> Message {
    Message { body: body.to_vec().into(), ..message(id.to_string()) }
}

/// Takes deliveries until no more come.
async fn take_all(consumer: &mut Box<dyn Consumer>) -> Vec<Delivery> {
    let mut held = vec![next(consumer).await];
    // Long enough for what is there.
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(500), consumer.next()).await {
        held.push(delivery);
    }
    held
}

fn bytes(held: &[Delivery]) -> usize {
    held.iter().map(|delivery| delivery.message.body.len()).sum()
}

async fn bytes_in_work_are_bounded_by_the_budget(broker: Arc<dyn Broker>) {
    const MESSAGES: usize = 12;
    // Compressed they are small, and all of them may be at hand.
    let body = vec![b'a'; 3 * MIB];
    let publishing = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for id in 0..MESSAGES {
                let message = large(id, &body);
                publish_until_confirmed(&*broker, ROUTE, message, &CancellationToken::new()).await.unwrap();
            }
        })
    };
    let mut consumers = [broker.consume(ROUTE, 50).await.unwrap(), broker.consume(ROUTE, 50).await.unwrap()];
    let mut settled = 0;
    while settled < MESSAGES {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let [one, two] = &mut consumers;
        // One of them may receive nothing, as the other one has it all.
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            tokio::join!(async { first = take_all(one).await }, async { second = take_all(two).await })
        })
        .await;
        let held = bytes(&first) + bytes(&second);
        assert!(held <= IN_WORK, "{held} bytes are held");
        settled += first.len() + second.len();
        first.into_iter().chain(second).for_each(Delivery::ack);
    }
    publishing.await.unwrap();
    for consumer in consumers {
        consumer.close().await;
    }
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn each_lane_has_its_own_budget(broker: Arc<dyn Broker>) {
    let body = vec![b'a'; 15 * MIB];
    broker.publish(ROUTE, large(0, &body)).await.unwrap();
    publish(&*broker, OTHER, 1).await;
    let (mut batch, mut realtime) = (broker.consume(ROUTE, 5).await.unwrap(), broker.consume(OTHER, 5).await.unwrap());
    let held = next(&mut batch).await;
    next(&mut realtime).await.ack();
    held.ack();
}

async fn a_message_larger_than_the_budget_is_taken_alone(broker: Arc<dyn Broker>) {
    let body = vec![b'a'; 16 * MIB];
    broker.publish(OTHER, large(0, &body)).await.unwrap();
    let mut consumer = broker.consume(OTHER, 5).await.unwrap();
    let held = next(&mut consumer).await;
    assert_eq!(held.message.body.len(), 16 * MIB);
    publish(&*broker, OTHER, 1).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err(), "no memory is left");
    held.ack();
    next(&mut consumer).await.ack();
}

async fn the_prefetch_can_be_changed(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 60).await;
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    let mut held = take_all(&mut consumer).await;
    assert_eq!((held.len(), consumer.prefetch()), (10, 10));
    consumer.set_prefetch(40);
    while held.len() < 40 {
        held.push(next(&mut consumer).await);
    }
    assert_eq!(consumer.prefetch(), 40);
    consumer.set_prefetch(2);
    // Deliveries already held stay valid.
    held.into_iter().for_each(Delivery::ack);
    for _ in 40..60 {
        next(&mut consumer).await.ack();
    }
    while consumer.prefetch() != 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publish(&*broker, ROUTE, 5).await;
    assert_eq!(take_all(&mut consumer).await.len(), 2);
    consumer.close().await;
    until_depth(&*broker, ROUTE, 5, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_lower_the_prefetch_and_small_ones_raise_it() {
    let server = Server::new(1000);
    let broker = server.connect().await;
    within_a_minute(async {
        let mut consumer = broker.consume(ROUTE, 50).await.unwrap();
        assert!(consumer.prefetch() < 50, "large messages are expected at first");
        let pass = async |consumer: &mut Box<dyn Consumer>, count: usize, body: &[u8]| {
            for id in 0..count {
                broker.publish(ROUTE, large(id, body)).await.unwrap();
                next(consumer).await.ack();
            }
        };
        pass(&mut consumer, 10, b"{}").await;
        assert_eq!(consumer.prefetch(), 50);
        let body = noise(4 * MIB);
        pass(&mut consumer, 2, &body).await;
        let prefetch = usize::from(consumer.prefetch());
        assert!((1..=8).contains(&prefetch), "{prefetch} of {} bytes may be at hand", body.len());
        pass(&mut consumer, 150, b"{}").await;
        assert_eq!(consumer.prefetch(), 50, "large messages are not expected for ever");
        consumer.close().await;
        until_depth(&*broker, ROUTE, 0, 0).await;
    })
    .await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_messages_with_one_id_only_the_returned_one_fails() {
    let server = Server::new(1000);
    let broker = server.connect().await;
    let client = server.client().await;
    server.delete_queue(&client, &ROUTE.to_string()).await;
    within_a_minute(async {
        for round in 0..50 {
            let (gone, there) = tokio::join!(
                broker.publish(ROUTE, message("one")),
                broker.publish(OTHER, Message { attempt: round, ..message("one") })
            );
            assert_eq!(there, Ok(()), "round {round}");
            if gone == Ok(()) {
                // It was declared again meanwhile.
                assert!(round > 0);
                server.delete_queue(&client, &ROUTE.to_string()).await;
            } else {
                assert_eq!(gone, Err(PublishError::Unroutable), "round {round}");
            }
        }
    })
    .await;
    server.end(broker).await;
}

#[tokio::test]
async fn in_process_queues_are_bounded_in_bytes() {
    let broker = InProcess::new(1000);
    let body = vec![b'a'; 3 * MIB / 2];
    for id in 0..3 {
        broker.publish(ROUTE, large(id, &body)).await.unwrap();
        broker.publish_later(ROUTE, large(id, &body), Duration::from_mins(1)).await.unwrap();
    }
    assert_eq!(broker.publish(ROUTE, message("small")).await, Err(PublishError::Full));
    assert_eq!(broker.publish_later(ROUTE, message("small"), Duration::ZERO).await, Err(PublishError::Full));
    broker.publish(OTHER, message("small")).await.unwrap();
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    next(&mut consumer).await.ack();
    broker.wait_for_room(ROUTE).await;
    broker.publish(ROUTE, message("small")).await.unwrap();
}
