//! The search for orphans during a listing with a backlog.

use std::fmt::Write as _;
use std::time::Duration;

use assay_http_server::{ServerLimits, serve};
use assay_queue::InProcess;
use assay_source::{S3Options, Sources};
use assay_store::{AuditContext, DatabaseOptions, NewRun};
use assay_transaction::{Namespace, RunSettings, SourceIdentity};
use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use clap::Parser;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::LeaseOwner;
use crate::watch::listing::Listing;

/// Timeout of a test that fails.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);
const OBJECTS: usize = 10_000;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    watch: WatchOptions,
}

/// A page of a large bucket, from the continuation token.
async fn list(request: Request) -> String {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let token = query.split('&').find_map(|parameter| parameter.strip_prefix("continuation-token="));
    let first: usize = token.map_or(0, |token| token.parse().unwrap());
    let next = (first + 1_000).min(OBJECTS);
    let mut objects = String::new();
    for index in first..next {
        let modified = "<LastModified>2026-01-11T10:00:00.000Z</LastModified>";
        write!(
            objects,
            "<Contents><Key>in/{index}.csv</Key><ETag>\"e{index}\"</ETag><Size>10</Size>{modified}</Contents>"
        )
        .unwrap();
    }
    let more = next < OBJECTS;
    format!(
        "<ListBucketResult><Name>drops</Name><IsTruncated>{more}</IsTruncated>\
         <NextContinuationToken>{next}</NextContinuationToken>{objects}</ListBucketResult>"
    )
}

/// Dependencies of a watch, with this router as the S3 server.
pub(in crate::watch) async fn dependencies(folder: &TempDir, router: Router) -> Arc<Dependencies> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, router, ServerLimits::default(), CancellationToken::new()));
    let s3 = S3Options {
        key: Some("key".into()),
        secret: Some("secret".into()),
        endpoint_url: Some(endpoint.into()),
        ..S3Options::default()
    };
    let url = format!("sqlite://{}", folder.path().join("assay.db").display());
    let database = DatabaseOptions::default().or_default(&url);
    assay_store::migrate(&database, TEST_TIMEOUT).await.unwrap();
    Arc::new(Dependencies {
        sources: Sources::new(&s3).unwrap(),
        store: assay_store::connect(&database, "test", TEST_TIMEOUT).await.unwrap(),
        broker: InProcess::new(10),
        startup: TEST_TIMEOUT,
        drain: TEST_TIMEOUT,
        lease_owner: LeaseOwner::new(),
        lease_timeout: TEST_TIMEOUT,
        audit: AuditContext { operator: "test".to_owned(), reason: None },
    })
}

#[tokio::test]
async fn a_backlog_of_objects_hides_no_orphan() {
    let folder = tempfile::tempdir().unwrap();
    let dependencies = dependencies(&folder, Router::new().route("/{*path}", get(list))).await;
    let watched: WatchTarget = "s3://drops/in/".parse().unwrap();
    let options = Program::parse_from(["program", "--watch-interval", "1s"]).watch;
    let mut orphans = Orphans::start(Arc::clone(&dependencies), &watched, &options);
    let mut listing = Listing::start(Arc::clone(&dependencies), watched.clone(), options);
    // From here on, nothing takes the objects that the listing finds.
    timeout(TEST_TIMEOUT, listing.next()).await.expect("an object is listed");

    let run_id: RunId = "orphaned".parse().unwrap();
    let source = SourceIdentity { location: "s3://drops/in/orphaned.csv".to_owned(), version: "1".to_owned() };
    let new = NewRun {
        run_id: run_id.clone(),
        explicit_id: false,
        source,
        settings: RunSettings::standard(Namespace::new("test")),
        force: false,
        source_bytes: None,
        fingerprint: None,
        owner: "another machine".to_owned(),
        lease: TEST_TIMEOUT,
    };
    dependencies.store.begin_run(&new).await.unwrap();
    assert!(timeout(Duration::from_millis(1), orphans.next()).await.is_err(), "it is held");
    dependencies.store.evict(&run_id, "another machine").await.unwrap();
    let event = timeout(TEST_TIMEOUT, orphans.next()).await.expect("the orphan is found");
    assert_eq!(event.items, [WorkItem::Orphan(run_id)]);
}
