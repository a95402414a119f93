use axum::Router;
use axum::http::{Method, StatusCode};
use clap::Parser;
use tokio::sync::{Barrier, oneshot};
use tokio::time::timeout;

use super::super::event_source::WorkReceipt;
use super::super::orphans::tests::dependencies;
use super::*;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    load: LoadOptions,
}

/// Reports an acknowledgement.
struct AckProbe(oneshot::Sender<()>);

#[async_trait::async_trait]
impl WorkReceipt for AckProbe {
    async fn ack(self: Box<Self>) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn objects_of_one_event_are_looked_up_concurrently() {
    // A server that answers only two requests together: sequential ones never get an answer.
    let both = Arc::new(Barrier::new(2));
    let gone = move |method: Method| {
        let both = Arc::clone(&both);
        async move {
            if method == Method::HEAD {
                both.wait().await;
            }
            (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>")
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let Program { watch, load } = Program::parse_from(["program"]);
    let dispatcher = Dispatcher {
        dependencies: dependencies(&folder, Router::new().fallback(gone)).await,
        watched: "s3://drops/in/".parse().unwrap(),
        load,
        options: watch,
        shutdown: CancellationToken::new(),
        begin_locks: BeginLocks::default(),
        copies: KnownCopies::default(),
    };
    let items = (0..4).map(|index| {
        let key = format!("in/{index}.csv");
        WorkItem::Object(ObjectEvent { bucket: "drops".to_owned(), key, size: None, version: None })
    });
    let (acknowledge, acknowledged) = oneshot::channel();
    let event = Event { items: items.collect(), receipt: Box::new(AckProbe(acknowledge)) };
    timeout(Duration::from_mins(1), dispatcher.dispatch(event)).await.expect("they are looked up");
    acknowledged.await.expect("there is nothing to do");
}

#[test]
fn a_key_that_is_too_long_is_rejected() {
    for fine in ["", "in/a.csv", &"k".repeat(1_024), &"é".repeat(512)] {
        assert_eq!(too_long(fine), None);
    }
    let problem = too_long(&format!("in/\n{}", "k".repeat(100_000))).unwrap();
    assert!(problem.starts_with("its key, `in/\\nkkk") && problem.len() < 200, "{problem}");
    assert!(too_long(&"é".repeat(513)).is_some());
}
