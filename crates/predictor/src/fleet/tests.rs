use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use assay_queue::{BroadcastListener, InProcess};
use assay_scoring::ApiOptions;
use assay_transaction::EncodedTransaction;
use axum::Router;
use axum::http::{StatusCode, header};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;

const URL: &str = "http://user:secret@127.0.0.1:1";
const SECOND: Duration = Duration::from_secs(1);

fn fleet(url: &str, limit: u32) -> Arc<Fleet> {
    let options = ApiOptions { api_rate_limit: NonZeroU32::new(limit), ..ApiOptions::default() };
    Arc::new(Fleet::join(Arc::new(Scorer::new(url, &options).unwrap())))
}

/// Lets predictors hear each other until they are dropped.
async fn connect(broker: &Arc<dyn Broker>, fleets: &[Arc<Fleet>]) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for fleet in fleets {
        let mut listener: Box<dyn BroadcastListener> = broker.listen().await.unwrap();
        let (hearing, telling, broker) = (Arc::clone(fleet), Arc::clone(fleet), Arc::clone(broker));
        tasks.spawn(async move {
            while let Some(message) = listener.next().await {
                hearing.receive(&message);
            }
        });
        tasks.spawn(async move { match telling.tell(&*broker).await {} });
    }
    tasks
}

fn hold(endpoint: &str, kind: HoldKind) -> Message {
    let notice = HoldNotice {
        predictor: "other".into(),
        endpoint: endpoint.into(),
        kind,
        hold_ms: 60_000,
        reason: "status 429".into(),
        rows_per_second: None,
    };
    Message::without_run(HoldNotice::MESSAGE_TYPE, notice.encode().unwrap())
}

/// Sends a request until it opens the circuit, as nothing scores.
async fn open_circuit(fleet: &Fleet) {
    let (stop, mut state) = (CancellationToken::new(), fleet.scorer.state());
    let transaction: EncodedTransaction =
        serde_json::from_str(r#"{"id":"00000000-0000-0000-0000-000000000001"}"#).unwrap();
    let transactions = [transaction];
    tokio::select! {
        _ = fleet.scorer.score(&transactions, std::num::NonZeroUsize::MIN, &stop) => panic!("nothing scores"),
        seen = state.wait_for(|state| !state.is_ready()) => drop(seen.unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_for_the_same_ml_api_and_shows_no_credentials() {
    for (endpoint, kind, is_expected) in [
        ("http://127.0.0.1:1", HoldKind::RetryAfter, true),
        ("http://127.0.0.1:1", HoldKind::Circuit, true),
        ("http://127.0.0.1:1", HoldKind::Unknown, false),
        ("http://127.0.0.1:2", HoldKind::RetryAfter, false),
        (URL, HoldKind::RetryAfter, false),
    ] {
        let fleet = fleet(URL, 0);
        fleet.receive(&hold(endpoint, kind));
        assert_eq!(!fleet.pace().held_for().is_zero(), is_expected, "{endpoint} {kind:?}");
    }
}

/// An ML API that always asks for a pause of a minute, and the number of its requests.
async fn refusing_api() -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let refuse = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "60")])
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(refuse)).await });
    (url, requests)
}

#[tokio::test]
async fn a_pause_that_one_is_asked_for_holds_for_all() {
    let (url, requests) = refusing_api().await;
    let (broker, fleets) = (InProcess::new(10), [fleet(&url, 0), fleet(&url, 0), fleet(URL, 0)]);
    let _tasks = connect(&broker, &fleets).await;
    // Its circuit opens, as the API has never scored.
    open_circuit(&fleets[0]).await;
    let told = async {
        while fleets[1].pace().held_for().is_zero() {
            sleep(SECOND / 100).await;
        }
    };
    tokio::time::timeout(50 * SECOND, told).await.expect("it hears of the pause");
    assert!(fleets[1].pace().held_for() > 50 * SECOND);
    let sent = tokio::time::timeout(SECOND / 2, open_circuit(&fleets[1])).await;
    assert!(sent.is_err(), "the second sends nothing");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    assert!(fleets[2].pace().held_for().is_zero(), "it has another ML API");
}

#[tokio::test(start_paused = true)]
async fn an_opened_circuit_is_told_once_with_its_reason() {
    let (broker, fleet) = (InProcess::new(10), fleet(URL, 0));
    let mut listener = broker.listen().await.unwrap();
    let _tasks = connect(&broker, std::slice::from_ref(&fleet)).await;
    tokio::task::yield_now().await;
    open_circuit(&fleet).await;
    let message = listener.next().await.unwrap();
    let notice = HoldNotice::decode(&message.body).unwrap();
    assert_eq!((notice.kind, notice.endpoint.as_str()), (HoldKind::Circuit, "http://127.0.0.1:1"));
    assert_eq!((notice.reason.as_str(), notice.predictor.as_str()), ("connection refused", fleet.name.as_str()));
    assert!(notice.hold_ms <= 30_000);
    let more = tokio::time::timeout(10 * SECOND, listener.next()).await;
    assert!(more.is_err(), "{more:?}");
    // Its own message changes nothing.
    fleet.receive(&message);
    fleet.receive(&Message::without_run(HoldNotice::MESSAGE_TYPE, "{}"));
    fleet.receive(&Message::without_run(PredictorNotice::MESSAGE_TYPE, "{}"));
}

/// The shares by what the others say, once they are told.
fn shares(fleets: &[Arc<Fleet>]) -> Vec<f64> {
    fleets.iter().map(|fleet| fleet.pace().rate().unwrap().round()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_shared_by_those_alive() {
    let broker = InProcess::new(10);
    let fleets: Vec<_> = (0..4).map(|_| fleet(URL, 1_000)).collect();
    let other_api = fleet("http://127.0.0.1:2", 1_000);
    assert_eq!(shares(&fleets), [0.0; 4], "none before it has listened");
    let first = connect(&broker, &fleets[..2]).await;
    let _other = connect(&broker, std::slice::from_ref(&other_api)).await;
    sleep(SECOND).await;
    assert_eq!(shares(&fleets), [500.0, 500.0, 0.0, 0.0]);
    let _later = connect(&broker, &fleets[2..]).await;
    sleep(SECOND).await;
    assert_eq!(shares(&fleets), [250.0; 4]);
    // One says goodbye, the others die.
    fleets[3].leave(&*broker).await;
    sleep(SECOND / 10).await;
    assert_eq!(shares(&fleets[..1]), [333.0]);
    drop(first);
    sleep(5 * SECOND).await;
    assert_eq!(shares(&fleets[2..3]), [500.0], "it still hears the one that said goodbye and went on");
    assert_eq!(shares(std::slice::from_ref(&other_api)), [1_000.0]);
}
