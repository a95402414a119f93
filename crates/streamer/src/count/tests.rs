//! Counts with a slow or unreachable ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use assay_store::{DatabaseOptions, Numbering, Store, StoreError, UnnumberedMessage};
use assay_transaction::{LiveRun, RunId, RunState};
use async_trait::async_trait;
use futures_util::future::join_all;

use super::*;

struct FakeLedger {
    recorded: Mutex<Vec<LiveCount>>,
    millis: AtomicU64,
    is_unreachable: AtomicBool,
    /// A closed database, as a source of errors.
    closed: Arc<dyn Store>,
}

impl FakeLedger {
    async fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let database = DatabaseOptions::default().or_default(&format!("sqlite://{}/a.db", folder.path().display()));
        assay_store::migrate(&database, COUNT_TIMEOUT).await.unwrap();
        let closed = assay_store::connect(&database, "test", COUNT_TIMEOUT).await.unwrap();
        closed.close().await;
        Arc::new(Self {
            recorded: Mutex::default(),
            millis: AtomicU64::new(0),
            is_unreachable: AtomicBool::new(false),
            closed,
        })
    }

    fn recorded(&self) -> Vec<LiveCount> {
        self.recorded.lock().unwrap().clone()
    }

    /// The last count of a day.
    fn last(&self, day: Day) -> LiveCount {
        self.recorded().into_iter().rfind(|count| count.day == day).expect("the day is counted")
    }

    fn set_unreachable(&self, is_unreachable: bool) {
        self.is_unreachable.store(is_unreachable, Ordering::SeqCst);
    }
}

#[async_trait]
impl LiveLedger for FakeLedger {
    async fn number(&self, _: &[UnnumberedMessage<'_>], _: DateTime<Utc>) -> Result<Vec<Numbering>, StoreError> {
        Ok(Vec::new())
    }

    async fn keep_count(&self, count: &LiveCount) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(self.millis.load(Ordering::SeqCst))).await;
        if self.is_unreachable.load(Ordering::SeqCst) {
            return self.closed.keep_count(count).await;
        }
        self.recorded.lock().unwrap().push(count.clone());
        Ok(())
    }

    async fn live_run(&self, _: &RunId) -> Result<Option<LiveRun>, StoreError> {
        Ok(None)
    }

    async fn seal_live(&self, _: &RunId) -> Result<RunState, StoreError> {
        Ok(RunState::Loading)
    }
}

fn producer() -> Producer {
    "shop".parse().unwrap()
}

#[tokio::test]
async fn a_response_waits_for_its_count_which_several_share() {
    let ledger = FakeLedger::new().await;
    let (counter, counting) = LiveCounter::start(Arc::clone(&ledger) as _, producer());
    let first = counter.begin().await.unwrap();
    let day = first.day();
    assert_eq!(ledger.last(day).rows, 0, "the day is open before anything is published");
    first.accepted(2).await.unwrap();
    ledger.millis.store(20, Ordering::SeqCst);
    let answered = AtomicU64::new(2);
    join_all((0..50).map(async |_| {
        counter.begin().await.unwrap().accepted(3).await.unwrap();
        let answered = answered.fetch_add(3, Ordering::SeqCst) + 3;
        assert!(ledger.last(day).rows >= answered);
    }))
    .await;
    assert!(ledger.recorded().len() < 10, "{} counts for 51 messages", ledger.recorded().len());
    counter.begin().await.unwrap().doubtful(7);
    counter.finish(counting).await;
    let last = ledger.last(day);
    assert_eq!((last.messages, last.rows, last.doubtful, last.ended), (51, 152, 7, true));
    assert_eq!(counter.totals(), StreamTotals { messages: 51, rows: 152, doubtful: 7 });
    assert_eq!(counter.begin().await.err(), Some(CountError::Ending));
}

#[tokio::test]
async fn nothing_is_begun_while_the_ledger_is_unreachable() {
    let ledger = FakeLedger::new().await;
    let (counter, counting) = LiveCounter::start(Arc::clone(&ledger) as _, producer());
    ledger.set_unreachable(true);
    assert_eq!(counter.begin().await.err(), Some(CountError::Away), "not even the first one");
    ledger.set_unreachable(false);
    let under_way = loop {
        match counter.begin().await {
            Ok(under_way) => break under_way,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let day = under_way.day();
    ledger.set_unreachable(true);
    // It was confirmed: it waits for the ledger.
    let waiting = tokio::spawn(under_way.accepted(4));
    while counter.begin().await.is_ok() {
        tokio::task::yield_now().await;
    }
    ledger.set_unreachable(false);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(ledger.last(day).rows, 4);
    assert!(counter.begin().await.is_ok());
    counter.finish(counting).await;
    assert!(ledger.last(day).ended);
}

/// The clock of [`a_day_ends_once_no_message_of_it_is_pending`], in seconds since 1970.
static NOW: AtomicU64 = AtomicU64::new(86_400 * 20_000);

#[tokio::test]
async fn a_day_ends_once_no_message_of_it_is_pending() {
    fn clock() -> DateTime<Utc> {
        let seconds = NOW.load(Ordering::SeqCst);
        DateTime::from_timestamp(i64::try_from(seconds).unwrap(), 0).unwrap()
    }
    let ledger = FakeLedger::new().await;
    let (counter, counting) = LiveCounter::with_clock(Arc::clone(&ledger) as _, producer(), clock);
    let late = counter.begin().await.unwrap();
    let yesterday = late.day();
    NOW.fetch_add(86_400, Ordering::SeqCst);
    let today = counter.begin().await.unwrap();
    assert!(today.day() > yesterday);
    today.accepted(1).await.unwrap();
    assert!(!ledger.last(yesterday).ended, "a message of it is under way");
    late.accepted(1).await.unwrap();
    while !ledger.last(yesterday).ended {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (ledger.last(yesterday).rows, ledger.recorded().iter().any(|count| count.day > yesterday && count.ended)),
        (1, false)
    );
    // A clock that goes back does not reopen an ended day.
    NOW.fetch_sub(86_400, Ordering::SeqCst);
    assert!(counter.begin().await.unwrap().day() > yesterday);
    counter.finish(counting).await;
    assert!(ledger.recorded().iter().any(|count| count.day > yesterday && count.ended));
}

#[tokio::test]
async fn an_ending_process_leaves_days_with_pending_messages_open() {
    let ledger = FakeLedger::new().await;
    let (counter, counting) = LiveCounter::start(Arc::clone(&ledger) as _, producer());
    let under_way = counter.begin().await.unwrap();
    counter.finish(counting).await;
    assert!(!ledger.last(under_way.day()).ended);
}
