//! Traces: what an OTLP receiver gets of a load, of live transactions and of a replay. Needs programs that are built with `otlp`;
//! `scripts/test-traces` builds and runs both.

mod collector;

use std::collections::BTreeSet;

use assay_tests::{ClosedPort, Program, Rows, Running, Script, Stack, law, post_with, row};
use serde_json::json;

use self::collector::{Collector, SeenSpan};
use crate::live::streamer::transaction;
use crate::metrics_and_health::{shown, until, value};

/// Pieces of the rows and of the secrets that are used here.
const CONTENT: [&str; 7] = ["Card payment", "Shop", "card_payment", "refuse me", "secret", "Café", "till-7-"];

/// The spans of this name.
fn named<'a>(spans: &'a [SeenSpan], name: &str) -> Vec<&'a SeenSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The span that is the parent of this one.
fn parent<'a>(spans: &'a [SeenSpan], of: &SeenSpan) -> &'a SeenSpan {
    let parents: Vec<_> = spans.iter().filter(|span| span.id == of.parent).collect();
    let [parent] = parents[..] else { panic!("{} has {} parents: {of:?}", of.name, parents.len()) };
    assert_eq!(parent.trace, of.trace, "{of:?}");
    parent
}

/// Ends programs, so that they send what is left.
async fn end<const N: usize>(programs: [Running; N]) -> String {
    let mut logs = String::new();
    for program in programs {
        program.terminate();
        let ended = program.end().await;
        ended.expect_exit(0);
        logs.push_str(&ended.stderr);
    }
    logs
}

fn is_silent(spans: &[SeenSpan], logs: &str) {
    let said = format!("{spans:?}{logs}");
    for piece in CONTENT {
        assert!(!said.contains(piece), "`{piece}` stands in a span or a log: {said}");
    }
}

#[tokio::test]
async fn one_trace_leads_from_an_object_to_its_commits() {
    let (stack, collector) = (Stack::new(Script::Score).await, Collector::start().await);
    let object = stack.s3.put("transactions", "january.csv", Rows::valid(250));
    let json = |program: Program| collector.known_to(program).env("LOG_FORMAT", "json").env("LOG_LEVEL", "debug");
    let stages = [json(stack.predictor()).start(), json(stack.writer()).start()];
    let load = json(stack.loader(&object)).arg("--wait").env("CHUNK_ROWS", "100").env("BATCH_RUN_ID", "january");
    let loaded = load.run().await;
    loaded.expect_exit(0);
    let logs = end(stages).await + &loaded.stderr;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 250);

    let spans = collector.seen();
    is_silent(&spans, &logs);
    let [load] = named(&spans, "load")[..] else { panic!("{spans:?}") };
    assert_eq!(
        (load.service.as_str(), load.parent.as_str(), load.attribute("assay.run_id")),
        ("assay-loader", "", "january")
    );
    let others: Vec<_> = spans.iter().filter(|span| span.trace != load.trace || span.has_failed).collect();
    assert!(others.is_empty(), "{others:?}");

    // Each chunk goes its way, and a span says which chunk it is.
    let way = [
        ("publish transactions.batch", "assay-loader", "load"),
        ("process transactions.batch", "assay-predictor", "publish transactions.batch"),
        ("publish predictions.batch", "assay-predictor", "process transactions.batch"),
        ("process predictions.batch", "assay-writer", "publish predictions.batch"),
    ];
    for (name, service, before) in way {
        let found = named(&spans, name);
        let mut chunks: Vec<_> = found.iter().map(|span| span.attribute("messaging.message.id")).collect();
        chunks.sort_unstable();
        assert_eq!(chunks, ["january/0", "january/1", "january/2"], "{name}");
        for span in found {
            let operation = name.split(' ').next().unwrap();
            assert_eq!((span.service.as_str(), parent(&spans, span).name.as_str()), (service, before));
            assert_eq!(span.attribute("messaging.system"), "rabbitmq");
            assert_eq!(span.attribute("messaging.operation.name"), operation);
            assert_eq!(format!("{operation} {}", span.attribute("messaging.destination.name")), name);
            assert_eq!(format!("january/{}", span.attribute("assay.chunk")), span.attribute("messaging.message.id"));
            if before != "load" {
                assert_eq!(parent(&spans, span).attribute("assay.chunk"), span.attribute("assay.chunk"));
            }
        }
    }
    for request in named(&spans, "POST") {
        assert_eq!(parent(&spans, request).name, "process transactions.batch");
        let said =
            ["http.request.method", "server.address", "http.response.status_code"].map(|name| request.attribute(name));
        assert_eq!(said, ["POST", "127.0.0.1", "200"]);
    }
    assert_eq!(named(&spans, "POST").len(), stack.ml_api.requests());

    // A commit is linked to all of its messages, and each to it.
    let commits = named(&spans, "commit predictions.batch");
    let linked: BTreeSet<_> = commits.iter().flat_map(|commit| &commit.links).collect();
    let published: BTreeSet<_> = named(&spans, "publish predictions.batch").iter().map(|span| &span.id).collect();
    assert_eq!(linked, published);
    let messages: usize =
        commits.iter().map(|commit| commit.attribute("messaging.batch.message_count").parse::<usize>().unwrap()).sum();
    assert_eq!(messages, 3);
    for processed in named(&spans, "process predictions.batch") {
        assert!(
            commits.iter().any(|commit| processed.links == std::slice::from_ref(&commit.id)
                && commit.links.contains(&processed.parent))
        );
    }
    let written = named(&spans, "BATCH INSERT");
    assert_eq!(written.len(), commits.len());
    for write in written {
        assert_eq!(parent(&spans, write).name, "commit predictions.batch");
        assert_eq!(write.attribute("db.system.name"), "postgresql");
    }

    // Log lines and spans meet.
    let about: Vec<serde_json::Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_chunks: Vec<_> = about.iter().filter(|line| line.get("chunk").is_some()).collect();
    assert!(of_chunks.len() >= 3, "{logs}");
    for line in of_chunks {
        assert_eq!(line["trace_id"], json!(load.trace), "{line}");
        let span = spans.iter().find(|span| json!(span.id) == line["span_id"]);
        assert!(span.is_some(), "{line}");
    }
}

#[tokio::test]
async fn a_live_transaction_continues_the_trace_of_its_client() {
    let (stack, collector) = (Stack::new(Script::Score).await, Collector::start().await);
    let stages = [collector.known_to(stack.predictor()).start(), collector.known_to(stack.writer()).start()];
    let streamer = stack.known_to(Program::new("streamer")).arg("serve").env("STREAMER_ADDR", "127.0.0.1:0");
    let mut streamer = collector.known_to(streamer).start();
    let address = streamer.address_after("are accepted at http://").await;
    let (recorded, unrecorded) = ("a".repeat(32), "b".repeat(32));
    for (traceparent, id) in [
        (format!("00-{recorded}-00000000000000c1-01"), "till-7-1"),
        (format!("00-{unrecorded}-00000000000000c2-00"), "till-7-2"),
        ("4111111111111111".to_owned(), "till-7-3"),
    ] {
        let header = format!("\r\ntraceparent: {traceparent}");
        let answer = post_with(&address, "/transactions?wait=10s", &header, &transaction(id)).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    stack.database.until("SELECT count(*) = 3 FROM transactions").await;
    let [predictor, writer] = stages;
    let logs = end([streamer, predictor, writer]).await;

    let spans = collector.seen();
    is_silent(&spans, &logs);
    assert!(
        spans.iter().all(|span| span.trace != unrecorded && span.attribute("messaging.message.id").is_empty()),
        "{spans:?}"
    );
    let requests = named(&spans, "POST /transactions");
    let [first, second] = requests[..] else { panic!("{requests:?}") };
    assert_eq!((first.trace == recorded, first.parent.as_str()), (true, "00000000000000c1"));
    assert_eq!(
        (second.trace == recorded, second.parent.as_str(), second.attribute("http.response.status_code")),
        (false, "", "202")
    );
    for request in requests {
        let of_trace: Vec<SeenSpan> = spans.iter().filter(|span| span.trace == request.trace).cloned().collect();
        let way = [
            ("publish transactions.realtime", "POST /transactions"),
            ("process transactions.realtime", "publish transactions.realtime"),
            ("micro-batch", "process transactions.realtime"),
            ("POST", "micro-batch"),
            ("publish predictions.realtime", "process transactions.realtime"),
            ("process predictions.realtime", "publish predictions.realtime"),
            ("commit predictions.realtime", "publish predictions.realtime"),
            ("BATCH INSERT", "commit predictions.realtime"),
        ];
        for (name, before) in way {
            let [span] = named(&of_trace, name)[..] else { panic!("{name}: {of_trace:?}") };
            let parent = parent(&of_trace, span);
            assert_eq!(parent.name, before);
            if matches!(name, "micro-batch" | "commit predictions.realtime") {
                assert_eq!(span.links, std::slice::from_ref(&parent.id), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_replay_is_a_trace_of_its_own() {
    let (stack, collector) = (Stack::new(Script::Refuse).await, Collector::start().await);
    let rows = Rows::valid(20).with(&row(21).replace("Card payment 21", "refuse me"));
    let object = stack.s3.put("transactions", "january.csv", &rows);
    let stages = [collector.known_to(stack.predictor()).start(), collector.known_to(stack.writer()).start()];
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "january").run().await.expect_exit(1);
    stack.ml_api.set(Script::Score);
    let replayed = collector.known_to(stack.assay(["replay", "january", "--wait"])).run().await;
    replayed.expect_exit(0);
    let logs = end(stages).await + &replayed.stderr;

    let spans = collector.seen();
    is_silent(&spans, &logs);
    let [replay] = named(&spans, "replay")[..] else { panic!("{spans:?}") };
    let of_trace: Vec<SeenSpan> = spans.iter().filter(|span| span.trace == replay.trace).cloned().collect();
    let [commit] = named(&of_trace, "commit predictions.batch")[..] else { panic!("{of_trace:?}") };
    let published = parent(&of_trace, commit);
    assert_eq!((replay.service.as_str(), published.name.as_str()), ("assay", "publish predictions.batch"));
    assert_eq!(parent(&of_trace, parent(&of_trace, parent(&of_trace, published))).id, replay.id);
    // Bisection asked for the row at fault alone.
    let refused: Vec<_> = named(&spans, "POST").into_iter().filter(|request| request.has_failed).collect();
    assert!(!refused.is_empty());
    for request in refused {
        assert_eq!(
            (request.attribute("error.type"), request.attribute("http.response.status_code")),
            ("status", "422")
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_alone() {
    let stack = Stack::new(Script::Score).await;
    let closed = ClosedPort::new();
    let to_nowhere =
        |program: Program| program.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", closed.address()));
    let object = stack.s3.put("transactions", "january.csv", Rows::valid(50));
    let (predictor, address) = shown(to_nowhere(stack.predictor())).await;
    let writer = to_nowhere(stack.writer()).start();
    let loaded = to_nowhere(stack.loader(&object)).arg("--wait").run().await;
    loaded.expect_exit(0).expect_says("spans are dropped").expect_silent_about(&closed.address());
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 50);
    // One of the message, one of the request, one of the result.
    let is_counted = |_, metrics: &str| value(metrics, "assay_traces_spans_dropped_total") >= 3;
    until(&address, "/metrics", "that spans were dropped", is_counted).await;
    end([predictor, writer]).await;
}

#[tokio::test]
async fn a_wrong_setting_is_refused_without_its_secret() {
    for (name, wrong) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318/secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ] {
        let program = Program::new("ml-api").env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        program.env(name, wrong).run().await.expect_one_clear_line(2, &[name]).expect_silent_about("secret");
    }
}
