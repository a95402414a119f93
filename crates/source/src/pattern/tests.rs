use super::*;
use crate::S3Options;
use assay_transaction::Exit;

#[test]
fn patterns_are_distinguished_from_names() {
    let prefix = |bucket: &str, prefix: &str| PatternKind::Prefix { bucket: bucket.into(), prefix: prefix.into() };
    let keys = |bucket: &str, key: &str| PatternKind::Keys { bucket: bucket.into(), key: key.into() };
    let cases = [
        ("s3://drops/2026/a.csv", PatternKind::One("s3://drops/2026/a.csv".parse().unwrap())),
        ("s3://drops/2026/", prefix("drops", "2026/")),
        ("s3://drops/", prefix("drops", "")),
        ("s3://drops/**/*.csv.gz", keys("drops", "**/*.csv.gz")),
        ("s3://drops/20??/", keys("drops", "20??/**")),
        ("file:///tmp/*.csv", PatternKind::One(SourceUrl::File("/tmp/*.csv".into()))),
        ("data/*.csv", PatternKind::Path("data/*.csv".into())),
        ("data", PatternKind::Path("data".into())),
    ];
    for (text, kind) in cases {
        let pattern: SourcePattern = text.parse().unwrap();
        assert_eq!(pattern.kind, kind, "{text}");
        assert_eq!(pattern.to_string(), text);
    }
    for (text, reason) in [("", "it is empty"), ("s3://drops", "it names no key"), ("s3:///", "it names no bucket")] {
        let error = text.parse::<SourcePattern>().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(literal_start("2026/a*b/c"), "2026/a");
}

async fn expand(folder: &Path, pattern: &str) -> Result<Vec<String>, SourceError> {
    let sources = Sources::new(&S3Options::default()).unwrap();
    let pattern = format!("{}/{pattern}", folder.display()).parse().unwrap();
    let found = sources.expand(&pattern).await?;
    let name = |found: NamedSource| found.url.to_string()[folder.display().to_string().len() + 1..].to_owned();
    Ok(found.into_iter().map(name).collect())
}

#[tokio::test]
async fn files_are_found_by_name_directory_and_pattern() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.csv", "a.csv", "a.txt", "2026/01/c.csv", "2026/d.csv", "2026/.hidden.csv", ".git/e.csv", "x[1].csv"]
    {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "id\n").unwrap();
    }
    let cases: [(&str, &[&str]); 9] = [
        ("a.csv", &["a.csv"]),
        ("none.csv", &["none.csv"]),
        ("*.csv", &["a.csv", "b.csv", "x[1].csv"]),
        ("2026", &["2026/01/c.csv", "2026/d.csv"]),
        ("**/*.csv", &["2026/01/c.csv", "2026/d.csv", "a.csv", "b.csv", "x[1].csv"]),
        ("20*/*/?.csv", &["2026/01/c.csv"]),
        ("{a,b}.{csv,txt}", &["a.csv", "a.txt", "b.csv"]),
        ("x[1].csv", &["x[1].csv"]),
        ("x[[]1].csv", &["x[1].csv"]),
    ];
    for (pattern, expected) in cases {
        assert_eq!(expand(folder.path(), pattern).await.unwrap(), expected, "{pattern}");
    }
    for pattern in ["*.parquet", "none/*.csv", "_*.txt"] {
        let error = expand(folder.path(), pattern).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{pattern}: check the argument or SOURCE_URL")), "{error}");
        assert_eq!(error.exit(), Exit::SourceUnreadable);
    }
    let error = expand(folder.path(), "a[.csv").await.unwrap_err();
    assert!(error.to_string().contains("unclosed character class"), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
}

#[tokio::test]
async fn markers_are_skipped_unless_named() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "out/_SUCCESS",
        "out/a.csv",
        "out/date=1/part-0.csv",
        "out/date=1/.part-0.csv.crc",
        "out/date=1/_committed_1",
        "out/_temporary/0/part-0.csv",
        "out/_delta_log/0.json",
        "_raw/_a.csv",
        "_raw/b.csv",
        "marked/_SUCCESS",
        "marked/.crc",
        "a [1]/b.csv",
        "a [1]/{c}.csv",
        "100%/#.csv",
    ];
    for name in names {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "id\n").unwrap();
    }
    let cases: [(&str, &[&str]); 17] = [
        ("out", &["out/a.csv", "out/date=1/part-0.csv"]),
        ("out/", &["out/a.csv", "out/date=1/part-0.csv"]),
        ("out/**", &["out/a.csv", "out/date=1/part-0.csv"]),
        ("out/*/*", &["out/date=1/part-0.csv"]),
        ("out/_SUCCESS", &["out/_SUCCESS"]),
        ("out/_S*", &["out/_SUCCESS"]),
        ("out/*/_committed_*", &["out/date=1/_committed_1"]),
        ("out/**/.*.crc", &["out/date=1/.part-0.csv.crc"]),
        ("out/{_SUCCESS,a.csv}", &["out/_SUCCESS", "out/a.csv"]),
        ("out/_temporary", &["out/_temporary/0/part-0.csv"]),
        ("out/_temporary/*/*.csv", &["out/_temporary/0/part-0.csv"]),
        ("out/_delta*/*", &["out/_delta_log/0.json"]),
        ("_raw", &["_raw/b.csv"]),
        ("_raw/*.csv", &["_raw/b.csv"]),
        ("a [1]/*.csv", &["a [1]/b.csv", "a [1]/{c}.csv"]),
        ("a [1]/{c}.csv", &["a [1]/{c}.csv"]),
        ("100%/*", &["100%/#.csv"]),
    ];
    for (pattern, expected) in cases {
        assert_eq!(expand(folder.path(), pattern).await.unwrap(), expected, "{pattern}");
    }
    let error = expand(folder.path(), "marked").await.unwrap_err();
    let expected = "marked (2 skipped, as their names begin with `_` or `.`; name one to read it): check the argument or SOURCE_URL";
    assert!(error.to_string().ends_with(expected), "{error}");
}
