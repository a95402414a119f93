//! Large objects, read ahead in parts from a server that breaks, stalls and becomes unreachable.

use std::time::Duration;

use assay_source::{FoundSource, SourceError, SourceUrl, Sources};
use assay_transaction::Exit;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::s3::server::InProcessS3;

const MIB: usize = 1024 * 1024;

/// As in the crate.
const PART: usize = 2 * MIB;

/// Longer than any test takes.
const LONG: Duration = Duration::from_mins(2);

/// Five different parts, the last of them short.
fn content() -> Vec<u8> {
    (0..4 * PART + 1_000).map(|index| u8::try_from((index / 1_000 + index) % 251).unwrap()).collect()
}

async fn put(server: &InProcessS3, sources: &Sources, content: &[u8]) -> (SourceUrl, FoundSource) {
    let url: SourceUrl = server.put("drops", "large.csv", content).parse().unwrap();
    let found = sources.identify(&url).await.unwrap();
    (url, found)
}

async fn take(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    stream.read_exact(&mut taken).await.unwrap();
    taken
}

/// Waits for a condition.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test]
async fn two_parts_are_prefetched_only_beyond_the_head() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(LONG);
    let content = content();
    let (url, found) = put(&server, &sources, &content).await;
    let mut stream = sources.open(&url, &found.identity, 0).await.unwrap();
    let mut read = take(&mut stream, MIB / 2).await;
    assert_eq!(server.gets(), 1);
    read.extend(take(&mut stream, MIB).await);
    until("a part ahead is asked for", || server.gets() == 2).await;
    read.extend(take(&mut stream, PART - MIB * 3 / 2).await);
    assert_eq!(server.gets(), 2, "the first part is not left yet");
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == content);
    assert_eq!(server.gets(), 5);
}

#[tokio::test]
async fn broken_and_stalled_parts_resume() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(Duration::from_secs(10));
    let content = content();
    let (url, found) = put(&server, &sources, &content).await;
    for from in [0, 1, PART - 1, PART, 3 * PART + 7] {
        let before = server.gets();
        server.cut(2);
        server.stall(1);
        let mut read = Vec::new();
        let mut stream = sources.open(&url, &found.identity, from as u64).await.unwrap();
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read == content[from..], "from {from}");
        let parts = (content.len() - from).div_ceil(PART);
        assert_eq!(server.gets() - before, parts + 3, "from {from}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_retried() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(LONG);
    let content = content();
    let (url, found) = put(&server, &sources, &content).await;
    let mut stream = sources.open(&url, &found.identity, 0).await.unwrap();
    let mut read = take(&mut stream, 100).await;
    server.set_busy(true);
    let before = server.gets();
    let rest = tokio::spawn(async move {
        stream.read_to_end(&mut read).await.unwrap();
        read
    });
    until("it is asked again and again", || server.gets() > before + 12).await;
    assert!(!rest.is_finished());
    server.set_busy(false);
    assert!(rest.await.unwrap() == content);
}

#[tokio::test]
async fn a_server_that_stays_unreachable_is_an_error() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(Duration::from_millis(500));
    let content = content();
    let (url, found) = put(&server, &sources, &content).await;
    let mut stream = sources.open(&url, &found.identity, 0).await.unwrap();
    take(&mut stream, 100).await;
    server.set_busy(true);
    let later = SourceError::from(stream.read_to_end(&mut Vec::new()).await.unwrap_err());
    let Err(at_start) = sources.open(&url, &found.identity, 10).await else { panic!("it is busy") };
    let at = sources.read_at(&url, &found.identity, 10..20).await.unwrap_err();
    for error in [later, at_start, at] {
        // How far the first read came before the outage is random.
        let SourceError::Stalled { offset, .. } = error else { panic!("{error}") };
        assert!((10..=PART as u64).contains(&offset), "{offset}");
        let expected = format!(
            "reading {url} did not get past byte {offset} within SOURCE_TIMEOUT (500ms; cannot reach S3 at {} (503 SlowDown): \
             check ENDPOINT_URL): try again when S3 is healthy",
            server.endpoint()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit(), Exit::DependencyUnavailable);
        assert!(!error.is_final());
    }
}

#[tokio::test]
async fn an_object_replaced_between_two_parts_is_noticed() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(LONG);
    let content = content();
    let shorter = &content[..100];
    for other in [shorter, &vec![b'x'; content.len()]] {
        let (url, found) = put(&server, &sources, &content).await;
        let mut stream = sources.open(&url, &found.identity, 0).await.unwrap();
        take(&mut stream, MIB / 2).await;
        // The server keeps the file open that it serves as first part.
        server.put("drops", "other.csv", other);
        server.rename("drops", "other.csv", "large.csv");
        let mut rest = Vec::new();
        let error = SourceError::from(stream.read_to_end(&mut rest).await.unwrap_err());
        assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
        assert!(rest == content[MIB / 2..][..rest.len()], "nothing of the other one was given");
    }
}

#[tokio::test]
async fn a_range_is_read_exactly_or_not_at_all() {
    let server = InProcessS3::start().await;
    let sources = server.sources_within(LONG);
    let content = content();
    let (url, found) = put(&server, &sources, &content).await;
    let end = content.len();
    server.cut(1);
    for range in [0..4, 5..5, 1_000..PART + 1_000, end - 8..end] {
        let wanted = range.start as u64..range.end as u64;
        assert!(sources.read_at(&url, &found.identity, wanted).await.unwrap() == content[range.clone()], "{range:?}");
    }
    for (from, to) in [(end - 1, end + 1), (end, end + 1)] {
        let error = sources.read_at(&url, &found.identity, from as u64..to as u64).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot read the source ({url} ends before the requested range)"));
    }
    server.put("drops", "large.csv", "id\n");
    let error = sources.read_at(&url, &found.identity, 0..2).await.unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
}
