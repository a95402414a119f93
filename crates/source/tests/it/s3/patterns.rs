//! Objects by prefix and pattern.

use assay_source::{NamedSource, SourceError, Sources};
use assay_transaction::Exit;
use futures_util::TryStreamExt as _;

use crate::s3::SECRET;
use crate::s3::server::InProcessS3;

async fn expand(sources: &Sources, pattern: &str) -> Result<Vec<String>, SourceError> {
    let found = sources.expand(&pattern.parse().unwrap()).await?;
    Ok(found.into_iter().map(|NamedSource { url, .. }| url.to_string()).collect())
}

#[tokio::test]
async fn objects_are_found_by_prefix_and_pattern() {
    let server = InProcessS3::start().await;
    for key in ["2026/01/a.csv.gz", "2026/01/b.csv", "2026/02/c.csv.gz", "2026/d.csv.gz", "2027/e.csv.gz", "x[1].csv"] {
        server.put("drops", key, "id\n");
    }
    let sources = server.sources(SECRET);
    let cases: [(&str, &[&str]); 9] = [
        ("2026/01/b.csv", &["2026/01/b.csv"]),
        ("none.csv", &["none.csv"]),
        ("2026/", &["2026/01/a.csv.gz", "2026/01/b.csv", "2026/02/c.csv.gz", "2026/d.csv.gz"]),
        ("2026/**/*.csv.gz", &["2026/01/a.csv.gz", "2026/02/c.csv.gz", "2026/d.csv.gz"]),
        ("2026/*/*.csv.gz", &["2026/01/a.csv.gz", "2026/02/c.csv.gz"]),
        ("202?/*.gz", &["2026/d.csv.gz", "2027/e.csv.gz"]),
        ("*/{01,02}/", &["2026/01/a.csv.gz", "2026/01/b.csv", "2026/02/c.csv.gz"]),
        // An object with this very name.
        ("x[1].csv", &["x[1].csv"]),
        ("x[[]*", &["x[1].csv"]),
    ];
    for (pattern, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|key| format!("s3://drops/{key}")).collect();
        assert_eq!(expand(&sources, &format!("s3://drops/{pattern}")).await.unwrap(), expected, "{pattern}");
    }
    assert_eq!(expand(&sources, "s3://drops/").await.unwrap().len(), 6);
    for pattern in ["s3://drops/2025/", "s3://drops/*.parquet"] {
        let error = expand(&sources, pattern).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no source matches {pattern}: check the argument or SOURCE_URL"));
        assert_eq!(error.exit(), Exit::SourceUnreadable);
    }
    let error = expand(&sources, "s3://elsewhere/*").await.unwrap_err();
    assert_eq!(error.to_string(), "no bucket `elsewhere`: check SOURCE_URL and ENDPOINT_URL");
    let error = expand(&sources, "s3://drops/{a").await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage, "{error}");
}

#[tokio::test]
async fn markers_are_skipped_unless_named() {
    let server = InProcessS3::start().await;
    let keys = [
        "out/_SUCCESS",
        "out/date=1/part-0.csv",
        "out/date=1/.part-0.csv.crc",
        "out/date=1/_committed_1",
        "out/_temporary/0/part-0.csv",
        "_raw/a.csv",
        "_raw/_b.csv",
        "marked/_SUCCESS",
    ];
    for key in keys {
        server.put("drops", key, "id\n");
    }
    let sources = server.sources(SECRET);
    let cases: [(&str, &[&str]); 10] = [
        ("out/", &["out/date=1/part-0.csv"]),
        ("", &["out/date=1/part-0.csv"]),
        ("**", &["out/date=1/part-0.csv"]),
        ("out/**/*.csv", &["out/date=1/part-0.csv"]),
        ("out/_SUCCESS", &["out/_SUCCESS"]),
        ("out/_*", &["out/_SUCCESS"]),
        ("out/_temporary/", &["out/_temporary/0/part-0.csv"]),
        ("out/*/.*", &["out/date=1/.part-0.csv.crc"]),
        ("_raw/", &["_raw/a.csv"]),
        ("_raw/*.csv", &["_raw/a.csv"]),
    ];
    for (pattern, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|key| format!("s3://drops/{key}")).collect();
        assert_eq!(expand(&sources, &format!("s3://drops/{pattern}")).await.unwrap(), expected, "{pattern}");
    }
    let error = expand(&sources, "s3://drops/marked/").await.unwrap_err().to_string();
    assert!(error.starts_with("no source matches s3://drops/marked/ (1 skipped"), "{error}");
}

#[tokio::test]
async fn odd_keys_are_listed_as_they_are() {
    let server = InProcessS3::start().await;
    let odd = ["a b+c%20.csv", "é&=?.csv", "new\nline.csv", "\u{1}.csv"];
    let mut put: Vec<_> = odd.iter().map(|key| server.put("drops", &format!("odd/{key}"), "id\n")).collect();
    put.sort();
    let sources = server.sources(SECRET);
    let mut found = expand(&sources, "s3://drops/odd/").await.unwrap();
    found.sort();
    assert_eq!(found, put);
    for url in found {
        sources.identify(&url.parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_truncated_listing_is_an_error() {
    let server = InProcessS3::start().await;
    server.put("drops", "a.csv", "id\n");
    server.cut_listings();
    let sources = server.sources(SECRET);
    let error = sources.list("drops", "").try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().ends_with("a truncated listing without a continuation token"), "{error}");
}
