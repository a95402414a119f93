//! What the programs expose: liveness, readiness with its reason, and metrics.

use assay_tests::{ClosedPort, DEADLINE, Program, Rows, Running, Script, Stack, get_text, row};
use tokio::time::{sleep, timeout};

/// What a program shows, read again and again until it is as it should be.
pub(crate) async fn until(address: &str, path: &str, what: &str, is_so: impl Fn(u16, &str) -> bool) -> String {
    let mut last = String::new();
    let looking = async {
        loop {
            if let Ok((status, text)) = get_text(address, path).await {
                if is_so(status, &text) {
                    return text;
                }
                last = format!("{status} {text}");
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seen = timeout(DEADLINE, looking).await.ok();
    seen.unwrap_or_else(|| panic!("{path} of {address} never told {what}; at last:\n{last}"))
}

async fn until_ready(address: &str) {
    until(address, "/health/ready", "that it is ready", |status, _| status == 200).await;
}

/// The value of a metric with exactly these labels, as they are written.
pub(crate) fn value(metrics: &str, name: &str) -> u64 {
    let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

/// Starts a program that shows itself, and tells where.
pub(crate) async fn shown(program: Program) -> (Running, String) {
    let mut running = program.env("METRICS_ADDR", "127.0.0.1:0").start();
    let address = running.address_after("health and metrics are at http://").await;
    (running, address)
}

#[tokio::test]
async fn every_stage_counts_what_it_has_done() {
    let stack = Stack::new(Script::Score).await;
    let invalid = |file: Rows, number| file.with(&row(number).replace(",-", ",minus "));
    stack.s3.put("drops", "in/a.csv", (951..=1_000).fold(Rows::valid(950), invalid));
    let (_predictor, predictor) = shown(stack.predictor()).await;
    let (_writer, writer) = shown(stack.writer()).await;
    let (_loader, loader) = shown(stack.watcher()).await;
    stack.database.until_finished().await;

    let counted = until(&writer, "/metrics", "the rows", |_, text| {
        text.contains("assay_writer_rows_total{outcome=\"predicted\"} 950")
    })
    .await;
    for (name, expected) in [
        ("assay_writer_rows_total{outcome=\"invalid\"}", 50),
        ("assay_writer_rows_total{outcome=\"failed\"}", 0),
        ("assay_writer_rows_total{outcome=\"duplicate\"}", 0),
        ("assay_writer_invalid_rows_total{reason=\"amount_format\"}", 50),
        ("assay_writer_failed_rows_total{class=\"rejected\"}", 0),
        ("assay_writer_chunks_total{lane=\"batch\",outcome=\"recorded\"}", 10),
        ("assay_queue_wait_seconds_count{queue=\"predictions.batch\"}", 10),
        ("assay_dependency_up{dependency=\"postgresql\"}", 1),
        ("assay_dependency_up{dependency=\"rabbitmq\"}", 1),
    ] {
        assert_eq!(value(&counted, name), expected, "{name}");
    }
    assert!(value(&counted, "assay_writer_write_duration_seconds_count") >= 1);
    assert!(value(&counted, "process_resident_memory_bytes") > 1_000_000);
    assert!(counted.contains("assay_build_info{version=\""), "{counted}");
    until(&writer, "/metrics", "the depth of the queues", |_, text| {
        text.contains("assay_queue_messages{queue=\"transactions.batch\"} 0")
    })
    .await;

    let counted = until(&predictor, "/metrics", "the rows", |_, text| {
        text.contains("assay_predictor_rows_total{lane=\"batch\",outcome=\"predicted\"} 950")
    })
    .await;
    for (name, expected) in [
        ("assay_predictor_rows_total{lane=\"batch\",outcome=\"invalid\"}", 50),
        ("assay_predictor_chunks_total{lane=\"batch\"}", 10),
        ("assay_queue_wait_seconds_count{queue=\"transactions.batch\"}", 10),
        ("assay_predictor_api_requests_total{outcome=\"success\"}", 10),
        ("assay_predictor_api_requests_total{outcome=\"suspect\"}", 0),
        ("assay_predictor_api_request_duration_seconds_count{lane=\"batch\"}", 10),
        ("assay_predictor_api_requests_in_flight{lane=\"batch\"}", 0),
        ("assay_predictor_circuit_open", 0),
        ("assay_queue_retries_total{queue=\"transactions.batch\"}", 0),
    ] {
        assert_eq!(value(&counted, name), expected, "{name}");
    }
    let limit = value(&counted, "assay_predictor_api_requests_limit");
    assert!((1..=5).contains(&limit), "{limit} requests at a time");

    let (_, counted) = get_text(&loader, "/metrics").await.unwrap();
    for (name, expected) in [
        ("assay_loader_rows_total{outcome=\"valid\"}", 950),
        ("assay_loader_rows_total{outcome=\"invalid\"}", 50),
        ("assay_loader_invalid_rows_total{reason=\"amount_format\"}", 50),
        ("assay_loader_published_rows_total", 1_000),
        ("assay_loader_chunks_total", 10),
        ("assay_loader_loads_total{outcome=\"loaded\"}", 1),
        ("assay_loader_loads_total{outcome=\"taken_over\"}", 0),
        ("assay_queue_publishing_blocked", 0),
        ("assay_loader_loads_in_progress", 0),
    ] {
        assert_eq!(value(&counted, name), expected, "{name}");
    }
}

#[tokio::test]
async fn unfinished_runs_are_counted_by_what_they_wait_for() {
    let stack = Stack::new(Script::Score).await;
    // One is half read, and its loader is gone.
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(500));
    let loader = stack.loader(&object).with_small_queues().start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 21)").await;
    loader.terminate();
    loader.end().await.expect_exit(3);
    // Of another one a chunk is an unreadable dead letter, and the others wait.
    let object = stack.s3.put("transactions", "b.csv", Rows::valid(10).unlike(1));
    stack.broker.purge("transactions.batch").await;
    stack.loader(&object).with_small_queues().env("BATCH_RUN_ID", "stalled").run().await.expect_exit(0);
    let letter = "INSERT INTO dead_letters (queue, message_id, run_id, reason, attempt, body, outcome)
        VALUES ('transactions.batch', 'stalled/0', 'stalled', 'not a readable assay.chunk.v1', 0, '', 'unreadable')";
    stack.database.execute(letter).await;

    let (_writer, writer) = shown(stack.writer().with_small_queues()).await;
    let counted = until(&writer, "/metrics", "the open runs", |_, text| text.contains("assay_writer_open_runs{")).await;
    for (state, expected) in [("loading", 0), ("abandoned", 1), ("sealed", 0), ("stalled", 1)] {
        let name = format!("assay_writer_open_runs{{state=\"{state}\"}}");
        assert_eq!(value(&counted, &name), expected, "{name}");
    }
}

#[tokio::test]
async fn a_predictor_is_not_ready_while_its_ml_api_is_unreachable() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(500));
    let (_predictor, predictor) = shown(stack.predictor()).await;
    let _writer = stack.writer().start();
    until_ready(&predictor).await;
    stack.ml_api.set(Script::Away);
    stack.loader(&object).run().await.expect_exit(0);
    let reasons =
        until(&predictor, "/health/ready", "that it cannot work", |status, text| status == 503 && text.contains("503"))
            .await;
    assert!(reasons.starts_with("ml_api: the ML API is unavailable ("), "{reasons}");
    // It is alive, and must not be restarted.
    assert_eq!(get_text(&predictor, "/health/live").await.unwrap(), (200, "alive\n".to_owned()));
    let (_, counted) = get_text(&predictor, "/metrics").await.unwrap();
    assert_eq!(value(&counted, "assay_predictor_circuit_open"), 1);
    assert!(value(&counted, "assay_predictor_api_requests_total{outcome=\"unavailable\"}") >= 1);

    let asking = stack.assay(["health"]).env("METRICS_ADDR", &predictor).run().await;
    assert!(asking.expect_exit(3).stdout.starts_with("ml_api: the ML API is unavailable"), "{}", asking.stdout);

    stack.ml_api.set(Script::Score);
    until_ready(&predictor).await;
    let asked = stack.assay(["health", &format!("http://{predictor}/health/ready")]).run().await;
    assert_eq!(asked.expect_exit(0).stdout, "ready\n");
    stack.database.until_finished().await;
}

#[tokio::test]
async fn a_waiting_program_is_alive_and_not_ready() {
    let stack = Stack::new(Script::Score).await;
    let closed_port = ClosedPort::new();
    let url = format!("amqp://guest:guest@{}", closed_port.address());
    let (writer, address) = shown(stack.writer().env("AMQP_URL", url).env("STARTUP_TIMEOUT", "1h")).await;
    let reasons = until(&address, "/health/ready", "that it starts", |status, _| status == 503).await;
    assert_eq!(reasons, "starting: waiting for dependencies\n");
    assert_eq!(get_text(&address, "/health/live").await.unwrap().0, 200);
    writer.terminate();
    writer.end().await.expect_exit(0);
}

#[tokio::test]
async fn an_address_in_use_is_a_wrong_setting() {
    let stack = Stack::new(Script::Score).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = stack.writer().env("METRICS_ADDR", &address).run().await;
    ended.expect_one_clear_line(2, &["METRICS_ADDR", &address]);
    let ended = stack.assay(["health"]).run().await;
    ended.expect_one_clear_line(2, &["METRICS_ADDR"]);
}

#[tokio::test]
async fn every_metric_is_in_the_documentation() {
    let documented = include_str!("../../docs/observability.md");
    let stack = Stack::new(Script::Score).await;
    stack.s3.put("drops", "in/a.csv", Rows::valid(10));
    let streamer = stack.known_to(Program::new("streamer")).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0");
    let programs = [stack.predictor(), stack.writer(), stack.watcher(), streamer];
    let mut running = Vec::new();
    for program in programs {
        running.push(shown(program).await);
    }
    stack.database.until_finished().await;
    for (_, address) in &running {
        until_ready(address).await;
        let (_, metrics) = get_text(address, "/metrics").await.unwrap();
        let names: Vec<_> =
            metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(names.contains(&"assay_build_info") && names.contains(&"process_resident_memory_bytes"), "{metrics}");
        for name in names.iter().filter(|name| name.starts_with("assay_")) {
            assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/observability.md");
            assert!(metrics.contains(&format!("# HELP {name} ")), "{name} does not say what it is");
        }
    }
}
