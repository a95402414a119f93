//! The contract of a broker.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_queue::{Broker, ConfirmError, Death, MAX_MESSAGE_BYTES, Message, PublishError, publish_until_confirmed};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::{OTHER, ROUTE, fill, message, next, on_both, publish, until_depth};

on_both! {
    messages_are_delivered_in_order(100);
    deliveries_of_a_dropped_consumer_are_redelivered(100);
    a_released_message_is_redelivered(100);
    a_full_queue_refuses_until_there_is_room(5);
    publishing_until_confirmed_waits_for_room(5);
    stopping_ends_the_wait_for_room(5);
    a_delayed_message_comes_later_and_blocks_no_other(100);
    a_delayed_message_waits_for_room_in_a_full_queue(5);
    a_dead_letter_keeps_its_reason(100);
    a_long_reason_is_cut_to_the_limit_of_a_header(100);
    a_message_over_the_delivery_limit_is_dead_lettered(100);
    a_message_over_the_size_limit_is_refused(100);
    no_more_is_held_than_the_prefetch(100);
    depth_and_consumers_are_counted_per_route(100);
    two_consumers_share_a_queue(100);
    a_closed_broker_publishes_and_delivers_nothing(100);
}

async fn messages_are_delivered_in_order(broker: Arc<dyn Broker>) {
    let sent: Vec<Message> = (0..20)
        .map(|id| Message {
            attempt: id,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            body: vec![u8::try_from(id).unwrap(); 10_000 * id as usize].into(),
            ..message(id.to_string())
        })
        .collect();
    for message in &sent {
        broker.publish(ROUTE, message.clone()).await.unwrap();
    }
    let mut consumer = broker.consume(ROUTE, 50).await.unwrap();
    for expected in sent {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, expected);
        assert_eq!((delivery.redelivered, &delivery.death), (false, &None));
        delivery.ack();
    }
    consumer.close().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn deliveries_of_a_dropped_consumer_are_redelivered(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 5).await;
    let mut first = broker.consume(ROUTE, 10).await.unwrap();
    let held = [next(&mut first).await, next(&mut first).await, next(&mut first).await];
    let [zero, one, two] = held;
    one.ack();
    drop(first);

    let mut second = broker.consume(ROUTE, 10).await.unwrap();
    let mut redelivered = HashSet::new();
    for _ in 0..4 {
        let delivery = next(&mut second).await;
        if ["0", "2"].contains(&delivery.message.id.as_str()) {
            assert!(delivery.redelivered, "{}", delivery.message.id);
        }
        redelivered.insert(delivery.message.id.clone());
        delivery.ack();
    }
    assert_eq!(redelivered, ["0", "2", "3", "4"].map(String::from).into());
    // Receipts of an ended consumer do nothing.
    zero.ack();
    two.ack();
    second.close().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
}

async fn a_released_message_is_redelivered(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 1).await;
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    next(&mut consumer).await.release();
    let again = next(&mut consumer).await;
    assert!(again.redelivered);
    again.ack();
}

async fn a_full_queue_refuses_until_there_is_room(broker: Arc<dyn Broker>) {
    let taken = fill(&*broker, ROUTE).await;
    // RabbitMQ enforces its bound a message or two late.
    assert!((5..=8).contains(&taken), "{taken} messages in a queue of 5");
    // The other queues are not full.
    broker.publish(OTHER, message("other")).await.unwrap();

    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    for id in 0..taken {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.id, id.to_string());
        delivery.ack();
    }
    while broker.publish(ROUTE, message("more")).await == Err(PublishError::Full) {
        broker.wait_for_room(ROUTE).await;
    }
    assert_eq!(next(&mut consumer).await.message.id, "more");
}

async fn publishing_until_confirmed_waits_for_room(broker: Arc<dyn Broker>) {
    let taken = fill(&*broker, ROUTE).await;
    let mut publishing = JoinSet::new();
    for id in 0..50 {
        let broker = Arc::clone(&broker);
        publishing.spawn(async move {
            let stop = CancellationToken::new();
            publish_until_confirmed(&*broker, ROUTE, message(format!("waiting {id}")), &stop).await
        });
    }
    let mut consumer = broker.consume(ROUTE, 3).await.unwrap();
    let mut delivered = HashSet::new();
    while delivered.len() < taken + 50 {
        let delivery = next(&mut consumer).await;
        delivered.insert(delivery.message.id.clone());
        delivery.ack();
    }
    while let Some(published) = publishing.join_next().await {
        published.unwrap().unwrap();
    }
}

async fn stopping_ends_the_wait_for_room(broker: Arc<dyn Broker>) {
    let stop = CancellationToken::new();
    stop.cancel();
    // One attempt is always made.
    publish_until_confirmed(&*broker, OTHER, message("in time"), &stop).await.unwrap();

    fill(&*broker, ROUTE).await;
    let published = publish_until_confirmed(&*broker, ROUTE, message("too late"), &stop).await;
    assert_eq!(published, Err(ConfirmError::Stopped));
}

async fn a_delayed_message_comes_later_and_blocks_no_other(broker: Arc<dyn Broker>) {
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    let start = Instant::now();
    let delayed = Message { attempt: 3, ..message("delayed") };
    broker.publish_later(ROUTE, delayed.clone(), Duration::from_millis(200)).await.unwrap();
    broker.publish_later(ROUTE, message("much later"), Duration::from_secs(30)).await.unwrap();
    broker.publish(ROUTE, message("at once")).await.unwrap();

    assert_eq!(next(&mut consumer).await.message.id, "at once");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message, delayed);
    assert!(start.elapsed() >= Duration::from_secs(1), "the shortest step is a second");
}

async fn a_delayed_message_waits_for_room_in_a_full_queue(broker: Arc<dyn Broker>) {
    let taken = fill(&*broker, ROUTE).await;
    // A full work queue does not block retries.
    broker.publish_later(ROUTE, message("delayed"), Duration::ZERO).await.unwrap();
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    for _ in 0..taken {
        next(&mut consumer).await.ack();
    }
    assert_eq!(next(&mut consumer).await.message.id, "delayed");
}

async fn a_dead_letter_keeps_its_reason(broker: Arc<dyn Broker>) {
    broker.dead_letter(OTHER, message("hopeless"), "no chunk: expected value at line 1").await.unwrap();
    let mut dead = broker.consume_dead_letters(10).await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!(delivery.message.id, "hopeless");
    let reason = "no chunk: expected value at line 1".to_owned();
    assert_eq!(delivery.death, Some(Death { queue: "predictions.realtime".to_owned(), reason }));
    delivery.ack();
}

async fn a_long_reason_is_cut_to_the_limit_of_a_header(broker: Arc<dyn Broker>) {
    broker.dead_letter(OTHER, message("hopeless"), &"é".repeat(1_000_000)).await.unwrap();
    let mut dead = broker.consume_dead_letters(10).await.unwrap();
    assert_eq!(next(&mut dead).await.death.unwrap().reason, "é".repeat(512));
}

async fn a_message_over_the_delivery_limit_is_dead_lettered(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 1).await;
    let mut dead = broker.consume_dead_letters(10).await.unwrap();
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    let mut deliveries = 0;
    let delivery = loop {
        tokio::select! {
            delivery = dead.next() => break delivery.unwrap(),
            delivery = consumer.next() => {
                deliveries += 1;
                delivery.unwrap().release();
            }
        }
    };
    assert_eq!(deliveries, 101);
    assert_eq!(delivery.message.id, "0");
    let death = Death { queue: "transactions.batch".to_owned(), reason: "delivery_limit".to_owned() };
    assert_eq!(delivery.death, Some(death));
    // Dead letters may be given back more often.
    delivery.release();
    for _ in 0..120 {
        next(&mut dead).await.release();
    }
}

async fn a_message_over_the_size_limit_is_refused(broker: Arc<dyn Broker>) {
    let bytes = MAX_MESSAGE_BYTES + 1;
    let large = Message { body: vec![b' '; bytes].into(), ..message("large") };
    let published = publish_until_confirmed(&*broker, ROUTE, large, &CancellationToken::new()).await;
    assert_eq!(published, Err(ConfirmError::TooLarge { bytes }));
    publish(&*broker, ROUTE, 1).await;
}

async fn no_more_is_held_than_the_prefetch(broker: Arc<dyn Broker>) {
    publish(&*broker, ROUTE, 10).await;
    let mut consumer = broker.consume(ROUTE, 3).await.unwrap();
    let mut held = vec![next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    until_depth(&*broker, ROUTE, 7, 1).await;
    held.remove(1).ack();
    assert_eq!(next(&mut consumer).await.message.id, "3");
    until_depth(&*broker, ROUTE, 6, 1).await;
}

async fn depth_and_consumers_are_counted_per_route(broker: Arc<dyn Broker>) {
    until_depth(&*broker, ROUTE, 0, 0).await;
    publish(&*broker, ROUTE, 4).await;
    publish(&*broker, OTHER, 2).await;
    until_depth(&*broker, ROUTE, 4, 0).await;
    until_depth(&*broker, OTHER, 2, 0).await;
    let one = broker.consume(ROUTE, 1).await.unwrap();
    let mut two = broker.consume(ROUTE, 1).await.unwrap();
    next(&mut two).await.ack();
    one.close().await;
    two.close().await;
    until_depth(&*broker, ROUTE, 3, 0).await;
    until_depth(&*broker, OTHER, 2, 0).await;
}

async fn two_consumers_share_a_queue(broker: Arc<dyn Broker>) {
    let mut one = broker.consume(ROUTE, 1).await.unwrap();
    let mut two = broker.consume(ROUTE, 1).await.unwrap();
    publish(&*broker, ROUTE, 2).await;
    // Neither settles, so each of them must receive one.
    let (first, second) = tokio::join!(next(&mut one), next(&mut two));
    assert_ne!(first.message.id, second.message.id);
}

async fn a_closed_broker_publishes_and_delivers_nothing(broker: Arc<dyn Broker>) {
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    broker.close().await;
    assert!(consumer.next().await.is_none());
    let published = broker.publish(ROUTE, message("late")).await;
    assert!(matches!(published, Err(PublishError::Unavailable(_))), "{published:?}");
}
