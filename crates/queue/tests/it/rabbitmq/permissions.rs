//! A user that may not do everything.

use assay_queue::{BrokerOptions, connect};
use assay_testkit::servers::{Extras, RabbitMq};

use crate::fixture::{ROUTE, STARTUP, Server, message, within_a_minute};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn a_user_without_the_right_to_broadcast_is_refused_once() {
    let Some(server) = std::env::var_os("TEST_RABBITMQ_SERVER") else {
        eprintln!("skipped: no RabbitMQ is installed here, and another broker's users are not ours to create");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let node = RabbitMq::start(&directory, server.into(), &Extras::default()).await;
    let url = node.url_at(node.port());
    let owner = Server::at(url.clone(), 100);
    owner.connect().await.close().await;
    // Its user may publish to all but the control exchange.
    let grant = r#""$RABBITMQCTL" add_user limited secret && "$RABBITMQCTL" set_permissions limited '.*' '^(?!.*control).*' '.*'"#;
    node.run(grant, &[]);
    let credentials = url.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let endpoint = assay_queue::BrokerEndpoint::at(url.replace(credentials, "limited:secret"));
    let limited = BrokerOptions { endpoint, ..owner.options };
    within_a_minute(async {
        let broker = connect(&limited, "test", STARTUP).await.unwrap();
        for number in 0..5 {
            let refused = broker.broadcast(message("m")).await.unwrap_err().to_string();
            assert!(refused.contains("control"), "{refused}");
            while broker.publish(ROUTE, message(number.to_string())).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        broker.close().await;
    })
    .await;
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert_eq!(log.matches("refused for user 'limited'").count(), 1, "{log}");
}
