//! Objects over real sockets, with signed requests.

mod patterns;
mod put;
mod read_ahead;
mod server;

use assay_source::{FormatOptions, FoundSource, SourceError, SourceUrl, Sources};
use assay_testkit::{ClosedPort, S3Server};
use assay_transaction::{Compression, Exit, RunSettings, SourceIdentity};
use tokio::io::AsyncReadExt as _;

use self::server::{InProcessS3, sources};

const SECRET: &str = S3Server::SECRET;

async fn read(sources: &Sources, url: &str, identity: &SourceIdentity, from: u64) -> Result<Vec<u8>, SourceError> {
    let mut content = Vec::new();
    let url: SourceUrl = url.parse().unwrap();
    sources.open(&url, identity, from).await?.read_to_end(&mut content).await?;
    Ok(content)
}

async fn identify(sources: &Sources, url: &str) -> Result<FoundSource, SourceError> {
    sources.identify(&url.parse().unwrap()).await
}

async fn refusal(sources: &Sources, url: &str) -> (String, Exit) {
    let error = identify(sources, url).await.unwrap_err();
    (error.to_string(), error.exit())
}

/// Larger than a socket buffer.
fn large() -> Vec<u8> {
    (0..6_000_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[tokio::test]
async fn an_object_is_read_from_any_byte() {
    let server = InProcessS3::start().await;
    let content = large();
    let url = server.put("drops", "2026/a b+c é.csv", &content);
    let sources = server.sources(SECRET);
    let FoundSource { identity, size } = identify(&sources, &url).await.unwrap();
    assert_eq!((identity.location.as_str(), size), (url.as_str(), content.len() as u64));
    assert!(!identity.version.is_empty() && !identity.version.contains('"'), "{identity}");
    for from in [0, 1, 1_234_567, content.len() - 1, content.len()] {
        let found = read(&sources, &url, &identity, from as u64).await.unwrap();
        assert!(found == content[from..], "from {from}");
    }
}

#[tokio::test]
async fn an_empty_object_is_empty() {
    let server = InProcessS3::start().await;
    let url = server.put("drops", "empty.csv", "");
    let sources = server.sources(SECRET);
    let FoundSource { identity, size } = identify(&sources, &url).await.unwrap();
    assert_eq!(size, 0);
    assert!(read(&sources, &url, &identity, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cut_download_resumes() {
    let server = InProcessS3::start().await;
    let content = large();
    let url = server.put("drops", "a.csv", &content);
    let sources = server.sources(SECRET);
    let FoundSource { identity, .. } = identify(&sources, &url).await.unwrap();
    server.cut(2);
    assert!(read(&sources, &url, &identity, 1_000).await.unwrap() == content[1_000..]);
    assert_eq!(server.gets(), 5, "three parts, and two downloads were cut in their middle");
}

#[tokio::test]
async fn an_object_that_is_replaced_is_never_mixed() {
    let server = InProcessS3::start().await;
    let url = server.put("drops", "a.csv", large());
    let sources = server.sources(SECRET);
    let FoundSource { identity, .. } = identify(&sources, &url).await.unwrap();
    let mut stream = sources.open(&url.parse().unwrap(), &identity, 0).await.unwrap();
    stream.read_exact(&mut [0; 100]).await.unwrap();
    server.put("drops", "a.csv", "another one");
    let error = read(&sources, &url, &identity, 5).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url} was replaced while it was read: load it again for its new version"));
    assert_eq!(error.exit(), Exit::SourceUnreadable);
}

#[tokio::test]
async fn a_cut_download_of_a_replaced_object_ends() {
    let server = InProcessS3::start().await;
    let url = server.put("drops", "a.csv", large());
    let sources = server.sources(SECRET);
    let FoundSource { identity, .. } = identify(&sources, &url).await.unwrap();
    server.cut(1);
    let mut stream = sources.open(&url.parse().unwrap(), &identity, 0).await.unwrap();
    // The server keeps the open file, so another one takes its name.
    let changed = server.put("drops", "b.csv", vec![0; 6_000_000]);
    assert_ne!(changed, url);
    server.rename("drops", "b.csv", "a.csv");
    let error = SourceError::from(stream.read_to_end(&mut Vec::new()).await.unwrap_err());
    assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
}

#[tokio::test]
async fn without_etags_the_modification_time_is_the_version() {
    let server = InProcessS3::without_tags().await;
    let url = server.put("drops", "a.csv", "0123456789");
    let sources = server.sources(SECRET);
    let FoundSource { identity, .. } = identify(&sources, &url).await.unwrap();
    assert!(identity.version.starts_with("size=10 modified="), "{identity}");
    assert_eq!(read(&sources, &url, &identity, 4).await.unwrap(), b"456789");
    let (before, _) = identity.version.rsplit_once('=').unwrap();
    let older = SourceIdentity { version: format!("{before}=1000000000"), ..identity };
    let error = read(&sources, &url, &older, 0).await.unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
}

#[tokio::test]
async fn a_server_without_ranges_and_conditions_is_noticed() {
    let server = InProcessS3::simple().await;
    let url = server.put("drops", "a.csv", "0123456789");
    let sources = server.sources(SECRET);
    let FoundSource { identity, .. } = identify(&sources, &url).await.unwrap();
    let error = read(&sources, &url, &identity, 4).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {url}: the S3 server answered without the requested range"));
    server.put("drops", "a.csv", "abcdefghij");
    let error = read(&sources, &url, &identity, 0).await.unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
}

#[tokio::test]
async fn an_unreadable_object_says_what_to_fix() {
    let server = InProcessS3::start().await;
    let url = server.put("drops", "a.csv", "id\n");
    let good = server.sources(SECRET);
    let object = "no object s3://drops/none.csv: check the key in SOURCE_URL".to_owned();
    assert_eq!(refusal(&good, "s3://drops/none.csv").await, (object, Exit::SourceUnreadable));
    let bucket = "no bucket `elsewhere`: check SOURCE_URL and ENDPOINT_URL".to_owned();
    assert_eq!(refusal(&good, "s3://elsewhere/a.csv").await, (bucket, Exit::SourceUnreadable));
    for (key, secret) in [(S3Server::KEY, "wrong"), ("somebody", SECRET)] {
        let (message, exit) = refusal(&sources(&server.endpoint(), key, secret), &url).await;
        assert!(message.starts_with("access to s3://drops/a.csv is denied (403 "), "{message}");
        assert!(message.ends_with("): check KEY and SECRET, and what they may read"), "{message}");
        assert!(!message.contains(secret), "{message}");
        assert_eq!(exit, Exit::SourceUnreadable);
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_an_unreachable_dependency() {
    let closed = ClosedPort::new();
    let endpoint = format!("http://{}", closed.address());
    let (message, exit) = refusal(&sources(&endpoint, S3Server::KEY, SECRET), "s3://drops/a.csv").await;
    assert_eq!(message, format!("cannot reach S3 at {endpoint} (connection refused): check ENDPOINT_URL"));
    assert_eq!(exit, Exit::DependencyUnavailable);
    let (message, exit) =
        refusal(&sources("http://assay.invalid:9000", S3Server::KEY, SECRET), "s3://drops/a.csv").await;
    assert!(message.starts_with("cannot reach S3 at http://assay.invalid:9000 ("), "{message}");
    assert_eq!(exit, Exit::DependencyUnavailable);
}

/// Written by Python, with a folder entry.
const ARCHIVE: &[u8] = include_bytes!("transactions.zip");

#[tokio::test]
async fn an_archive_of_one_file_is_unpacked_while_it_is_read() {
    let server = InProcessS3::start().await;
    let url: SourceUrl = server.put("drops", "transactions.zip", ARCHIVE).parse().unwrap();
    let sources = server.sources(SECRET);
    let found = sources.identify(&url).await.unwrap();
    let layout = sources.inspect(&url, &found, &FormatOptions::default()).await.unwrap().layout;
    assert_eq!((layout.compression, layout.header.len()), (Compression::Zip, 6));
    let settings = RunSettings { compression: layout.compression, ..RunSettings::example() };
    let mut rows = sources.rows(&url, &found, &settings, layout.start).await.unwrap();
    let mut count = 0;
    while let Some(batch) = rows.next_batch(100).await.unwrap() {
        count += batch.len();
    }
    assert_eq!(count, 2_000);
}

#[tokio::test]
async fn objects_with_the_same_content_have_one_fingerprint() {
    let server = InProcessS3::start().await;
    let urls = [("a.csv", "id\n1\n"), ("b/a.csv", "id\n1\n"), ("c.csv", "id\n2\n")];
    let urls = urls.map(|(key, content)| server.put("drops", key, content).parse::<SourceUrl>().unwrap());
    let sources = server.sources(SECRET);
    let mut prints = Vec::new();
    for url in &urls {
        let found = sources.identify(url).await.unwrap();
        prints.push(sources.fingerprint(url, &found).await.unwrap());
        if let Some(print) = &prints[prints.len() - 1] {
            assert_eq!(*print, format!("etag:{}:5", found.identity.version));
        }
    }
    assert_eq!(prints[0], prints[1]);
    assert!(prints[0].is_none() || prints[0] != prints[2]);
    let server = InProcessS3::without_tags().await;
    let url: SourceUrl = server.put("drops", "a.csv", "id\n1\n").parse().unwrap();
    let sources = server.sources(SECRET);
    let found = sources.identify(&url).await.unwrap();
    assert_eq!(sources.fingerprint(&url, &found).await.unwrap(), None);
}
