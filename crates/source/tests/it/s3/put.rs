//! Uploads, read back.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use assay_source::{SourceError, SourceUrl, Sources, UploadContent, UploadedObject};
use assay_transaction::Exit;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use crate::s3::SECRET;
use crate::s3::server::InProcessS3;

const MIB: usize = 1024 * 1024;

async fn put(
    sources: &Sources,
    url: &str,
    content: &[u8],
    size: Option<u64>,
) -> Result<(UploadedObject, u64), SourceError> {
    let (url, sent): (SourceUrl, _) = (url.parse().unwrap(), AtomicU64::new(0));
    let content = UploadContent { bytes: Box::pin(Cursor::new(content.to_vec())), size };
    let count = |bytes| {
        sent.fetch_add(bytes, Ordering::SeqCst);
    };
    let put = sources.put(content, &url, &count, &CancellationToken::new()).await?;
    Ok((put, sent.into_inner()))
}

#[tokio::test]
async fn an_upload_is_read_back() {
    let server = InProcessS3::start().await;
    let sources = server.sources(SECRET);
    let large: Vec<u8> = (0..33 * MIB + 7).map(|index| u8::try_from((index / 1_000) % 251).unwrap()).collect();
    let cases = [
        ("empty.csv", 0),
        ("small.csv", 10),
        ("one.csv", 16 * MIB - 1),
        ("two.csv", 16 * MIB),
        ("many.csv", large.len()),
    ];
    for (at, (key, bytes)) in cases.into_iter().enumerate() {
        for (size, prefix) in [(Some(bytes as u64), "known"), (None, "unknown")] {
            let url = format!("s3://new-{at}/{prefix}/{key}");
            let (put, sent) = put(&sources, &url, &large[..bytes], size).await.unwrap();
            assert_eq!((put.size, sent, put.made_bucket), (bytes as u64, bytes as u64, size.is_some()), "{url}");
            let url: SourceUrl = url.parse().unwrap();
            let found = sources.identify(&url).await.unwrap();
            assert_eq!(found.size, bytes as u64);
            let mut read = Vec::new();
            sources.open(&url, &found.identity, 0).await.unwrap().read_to_end(&mut read).await.unwrap();
            assert!(read == large[..bytes], "{url}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_fails_or_is_stopped_leaves_nothing() {
    let server = InProcessS3::start().await;
    let sources = server.sources(SECRET);
    server.put("drops", "a.csv", "id\n");
    server.set_busy(true);
    let error = put(&sources, "s3://drops/b.csv", &vec![0; 17 * MIB], None).await.unwrap_err();
    let expected = "cannot write s3://drops/b.csv (403 AccessDenied): check KEY and SECRET, and what they may write";
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.aborts(), 1);
    server.set_busy(false);

    let (url, shutdown) = ("s3://drops/c.csv".parse().unwrap(), CancellationToken::new());
    let stopping = shutdown.clone();
    // An endless source.
    let content = UploadContent { bytes: Box::pin(tokio::io::repeat(b'x')), size: None };
    let stop = move |_| stopping.cancel();
    let error = sources.put(content, &url, &stop, &shutdown).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped before s3://drops/c.csv was uploaded: nothing of it remains");
    assert_eq!(error.exit(), Exit::DependencyUnavailable);
    assert_eq!(server.aborts(), 2);
    for key in ["b.csv", "c.csv"] {
        let url = format!("s3://drops/{key}").parse().unwrap();
        assert!(matches!(sources.identify(&url).await, Err(SourceError::NoObject { .. })), "{key}");
    }
}
