//! A broker that accepts no large messages: a run ends before the chunk that is too large, and later chunks do no harm.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_loader::{LoadError, LoadProgress};
use assay_queue::{
    BroadcastListener, Broker, BrokerError, Consumer, EventQueue, MAX_MESSAGE_BYTES, Message, PublishError,
    QueueCounts, Route,
};
use assay_store::{ChunkOutcome, IdConflict};
use assay_telemetry::Failure as _;
use assay_transaction::{Exit, REQUIRED_COLUMNS, RunState, StopKind};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::fixture::{LoaderFixture, LoaderProcess};
use crate::stopped_early::rejected_chunk;

struct SmallMessageBroker {
    broker: Arc<dyn Broker>,
    max_bytes: usize,
    /// Published chunks.
    published: Mutex<Vec<u64>>,
}

#[async_trait]
impl Broker for SmallMessageBroker {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        let bytes = message.body.len();
        if bytes > self.max_bytes {
            // Others may overtake it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Err(PublishError::TooLarge { bytes });
        }
        let chunk = message.id.rsplit_once('/').unwrap().1.parse().unwrap();
        self.published.lock().unwrap().push(chunk);
        self.broker.publish(route, message).await
    }

    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError> {
        self.broker.publish_later(route, message, after).await
    }

    async fn dead_letter(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError> {
        self.broker.dead_letter(route, message, reason).await
    }

    async fn wait_for_room(&self, route: Route) {
        self.broker.wait_for_room(route).await;
    }

    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.broker.consume(route, prefetch).await
    }

    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.broker.consume_dead_letters(prefetch).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.broker.broadcast(message).await
    }

    async fn publish_to_feed(&self, key: &str, message: Message) -> Result<(), PublishError> {
        self.broker.publish_to_feed(key, message).await
    }

    async fn listen(&self) -> Result<Box<dyn BroadcastListener>, BrokerError> {
        self.broker.listen().await
    }

    async fn subscribe_events(&self, exchange: &str, watched: &str) -> Result<Box<dyn EventQueue>, BrokerError> {
        self.broker.subscribe_events(exchange, watched).await
    }

    async fn depth(&self, route: Route) -> Result<QueueCounts, BrokerError> {
        self.broker.depth(route).await
    }

    fn health(&self) -> Result<(), String> {
        self.broker.health()
    }

    fn max_in_flight(&self) -> usize {
        self.broker.max_in_flight()
    }

    fn hold_timeout(&self) -> Duration {
        self.broker.hold_timeout()
    }

    fn survives_restart(&self) -> bool {
        self.broker.survives_restart()
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}

/// The large chunk.
const LARGE: u64 = 5;

/// A file of ten chunks of 100 rows; the rows of one chunk are this long.
fn write(fixture: &LoaderFixture, bytes: usize) {
    let mut text = format!("{}\n", REQUIRED_COLUMNS.join(","));
    for row in 0..1_000 {
        let long = row / 100 == LARGE;
        let description = if long { "x".repeat(bytes) } else { "x".to_owned() };
        writeln!(text, "{row},{description},1.50,2026-01-11 10:00:00,payment,debit").unwrap();
    }
    std::fs::write(fixture.file(), text).unwrap();
}

async fn process(
    fixture: &LoaderFixture,
    arguments: &[&str],
    served: bool,
    max_bytes: usize,
) -> (LoaderProcess, Arc<SmallMessageBroker>) {
    let mut process = fixture.process(arguments, 100, served).await;
    let broker = Arc::clone(&process.dependencies.broker);
    let small = Arc::new(SmallMessageBroker { broker, max_bytes, published: Mutex::default() });
    process.dependencies.broker = Arc::<SmallMessageBroker>::clone(&small);
    (process, small)
}

async fn load(process: &LoaderProcess) -> LoadError {
    let progress = Arc::<LoadProgress>::default();
    let error = process.load_with(&progress, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, LoadError::ChunkTooLarge { chunk: LARGE, .. }), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chunk_follows_one_that_may_be_too_large() {
    let fixture = LoaderFixture::new(0);
    write(&fixture, 2_000);
    let (process, broker) = process(&fixture, &[], true, 150_000).await;
    let error = load(&process).await;
    assert_eq!(*broker.published.lock().unwrap(), [0, 1, 2, 3, 4]);
    let (run, tally) = process.only_run().await;
    assert_eq!((run.state, run.error), (RunState::Failed, Some(error.to_string())));
    assert_eq!(run.sealed.unwrap().chunks_total, LARGE);
    assert!(tally.accounts_for(100 * LARGE), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_large_chunk_is_followed_by_the_others() {
    let fixture = LoaderFixture::new(0);
    write(&fixture, 2_000);
    let (process, broker) = process(&fixture, &[], true, MAX_MESSAGE_BYTES).await;
    let ended = process.load().await.unwrap();
    assert_eq!(ended.run.state, RunState::Complete);
    assert_eq!(broker.published.lock().unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_after_one_that_is_too_large_are_dropped() {
    let fixture = LoaderFixture::new(0);
    // The loader does not expect such a small limit: later chunks overtake.
    write(&fixture, 500);
    let (process, broker) = process(&fixture, &["--wait-timeout", "0s"], false, 50_000).await;
    let error = load(&process).await;
    assert!(broker.published.lock().unwrap().contains(&9));
    let (run, _) = process.only_run().await;
    assert_eq!((run.state, run.error.as_ref()), (RunState::Sealed, Some(&error.to_string())));
    assert_eq!(run.stop.as_ref().unwrap().kind, StopKind::Aborted);
    assert_eq!(run.sealed.unwrap().chunks_total, LARGE);

    let store = &process.dependencies.store;
    let outcomes = store.write(&[rejected_chunk(&run, LARGE + 1)], IdConflict::Fail).await.unwrap().outcomes;
    assert_eq!(outcomes, [ChunkOutcome::Dropped]);
    let missing: Vec<_> = (0..LARGE).map(|chunk| rejected_chunk(&run, chunk)).collect();
    store.write(&missing, IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&run.run_id).await.unwrap(), RunState::Failed);
    assert!(store.tally(&run.run_id).await.unwrap().accounts_for(100 * LARGE));
}
