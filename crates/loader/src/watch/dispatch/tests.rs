use axum::Router;
use axum::http::{Method, StatusCode};
use clap::Parser;
use tokio::sync::{Barrier, oneshot};
use tokio::time::timeout;

use super::super::event_source::Receipt;
use super::super::orphans::tests::dependencies;
use super::*;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    load: LoadOptions,
}

/// Tells whether it was acknowledged.
struct AckProbe(oneshot::Sender<()>);

#[async_trait::async_trait]
impl Receipt for AckProbe {
    async fn ack(self: Box<Self>) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn objects_of_one_message_are_looked_at_side_by_side() {
    // A server that answers a question about an object when there is another one: one that is asked after the other is never answered.
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
    timeout(Duration::from_mins(1), dispatcher.take(event)).await.expect("they are looked at");
    acknowledged.await.expect("there is nothing to do");
}

#[test]
fn a_key_that_no_object_can_have_is_not_asked_for() {
    for fine in ["", "in/a.csv", &"k".repeat(1_024), &"é".repeat(512)] {
        assert_eq!(too_long(fine), None);
    }
    let problem = too_long(&format!("in/\n{}", "k".repeat(100_000))).unwrap();
    assert!(problem.starts_with("its key, `in/\\nkkk") && problem.len() < 200, "{problem}");
    assert!(too_long(&"é".repeat(513)).is_some());
}
