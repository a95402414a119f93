//! What a user names as sources: one of them, all under a prefix or in a directory, or all that match a pattern.
//!
//! In a pattern `*` and `?` stand for what has no `/` in it, `**` for any directories, `[ab]` for a character and `{a,b}`
//! for a choice. What literally bears the name of a pattern is meant by it, and nothing else.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::TryStreamExt as _;
use globset::{GlobBuilder, GlobMatcher};

use crate::error::io_cause;
use crate::{Listed, SourceError, SourceUrl, Sources};

/// Names one source, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePattern {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    One(SourceUrl),
    /// Every object under a prefix.
    Prefix {
        bucket: String,
        prefix: String,
    },
    /// Objects by a pattern, unless one has this very key.
    Keys {
        bucket: String,
        key: String,
    },
    /// A file, a directory, or files by a pattern.
    Path(PathBuf),
}

/// A source that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where it is.
    pub url: SourceUrl,
    /// Which version of it a listing shows, where there was one that does.
    pub version: Option<String>,
}

impl From<SourceUrl> for Named {
    fn from(url: SourceUrl) -> Self {
        Self { url, version: None }
    }
}

impl SourcePattern {
    /// The source that it names, where it can name no other.
    pub fn as_one(&self) -> Option<&SourceUrl> {
        match &self.kind {
            Kind::One(url) => Some(url),
            _ => None,
        }
    }
}

impl FromStr for SourcePattern {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let is_prefix = text.starts_with("s3://") && text.ends_with('/');
        // What has no key is a prefix all the same.
        let url: SourceUrl = if is_prefix { format!("{text}.").parse()? } else { text.parse()? };
        let kind = match url {
            SourceUrl::S3 { bucket, key } if is_prefix => {
                let prefix = key[..key.len() - 1].to_owned();
                if has_wildcards(&prefix) {
                    Kind::Keys { bucket, key: prefix + "**" }
                } else {
                    Kind::Prefix { bucket, prefix }
                }
            }
            SourceUrl::S3 { bucket, key } if has_wildcards(&key) => Kind::Keys { bucket, key },
            SourceUrl::File(path) if !text.starts_with("file://") => Kind::Path(path),
            url => Kind::One(url),
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Sources {
    /// The sources that a pattern names, in the order of their keys or paths. None is an error, but for a name that is no
    /// pattern: it is given as it is, whether there is such a source or not.
    pub async fn expand(&self, pattern: &SourcePattern) -> Result<Vec<Named>, SourceError> {
        let found = match &pattern.kind {
            Kind::One(url) => vec![url.clone().into()],
            Kind::Prefix { bucket, prefix } => self.matching(bucket, prefix, |_| true).await?,
            Kind::Keys { bucket, key } => {
                let url = SourceUrl::S3 { bucket: bucket.clone(), key: key.clone() };
                match self.identify(&url).await {
                    Ok(found) => vec![Named { url, version: Some(found.identity.version) }],
                    // Some servers refuse to look for such a key, and who may not list is told so of a missing one.
                    Err(SourceError::NoObject { .. } | SourceError::Denied { .. } | SourceError::Refused { .. }) => {
                        let matcher = matcher(&pattern.text, key)?;
                        self.matching(bucket, literal_start(key), |key| matcher.is_match(key)).await?
                    }
                    Err(error) => return Err(error),
                }
            }
            Kind::Path(path) => {
                let (text, path) = (pattern.text.clone(), path.clone());
                let finding = tokio::task::spawn_blocking(move || files(&text, &path)).await;
                finding.map_err(|error| SourceError::Read { cause: error.to_string() })??
            }
        };
        if found.is_empty() {
            return Err(SourceError::NothingFound { pattern: pattern.text.clone() });
        }
        Ok(found)
    }

    async fn matching(
        &self,
        bucket: &str,
        prefix: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Named>, SourceError> {
        let (mut found, mut listing) = (Vec::new(), self.list(bucket, prefix));
        while let Some(Listed { url, version, size }) = listing.try_next().await? {
            let SourceUrl::S3 { key, .. } = &url else { continue };
            // Some clients put empty objects where a file system has directories.
            let is_directory = size == 0 && key.ends_with('/');
            if !is_directory && is_wanted(key) {
                found.push(Named { url, version });
            }
        }
        Ok(found)
    }
}

fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// What stands before the first wildcard.
fn literal_start(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    &pattern[..end]
}

fn matcher(text: &str, pattern: &str) -> Result<GlobMatcher, SourceError> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let wrong =
        |error: globset::Error| SourceError::Pattern { pattern: text.to_owned(), cause: error.kind().to_string() };
    Ok(glob.map_err(wrong)?.compile_matcher())
}

/// The local files that a path names.
fn files(text: &str, path: &Path) -> Result<Vec<Named>, SourceError> {
    let mut found = Vec::new();
    match (std::fs::metadata(path), path.to_str()) {
        (Ok(metadata), _) if metadata.is_dir() => walk(path, usize::MAX, &|_| true, &mut found)?,
        (Err(_), Some(pattern)) if has_wildcards(pattern) => {
            let matcher = matcher(text, pattern)?;
            let start = literal_start(pattern);
            let (base, rest) = pattern.split_at(start.rfind('/').map_or(0, |slash| slash + 1));
            let depth = if rest.contains("**") { usize::MAX } else { rest.matches('/').count() };
            if base.is_empty() || Path::new(base).is_dir() {
                walk(Path::new(base), depth, &|path| matcher.is_match(path), &mut found)?;
            }
        }
        _ => found.push(path.to_owned()),
    }
    found.sort();
    Ok(found.into_iter().map(|path| SourceUrl::File(path).into()).collect())
}

/// Adds the files of a directory, and of those in it down to a depth. Hidden ones are passed over, and links to directories,
/// as they may lead in a circle.
fn walk(
    directory: &Path,
    depth: usize,
    is_wanted: &dyn Fn(&Path) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), SourceError> {
    let is_here = directory.as_os_str().is_empty();
    let listed = if is_here { Path::new(".") } else { directory };
    let unreadable =
        |error: std::io::Error| SourceError::File { path: listed.display().to_string(), cause: io_cause(&error) };
    for entry in std::fs::read_dir(listed).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if is_hidden(&name) {
            continue;
        }
        let path = directory.join(name);
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, is_wanted, found)?;
            }
        } else if is_wanted(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::S3Options;
    use assay_transaction::Exit;

    #[test]
    fn tells_patterns_from_names() {
        let prefix = |bucket: &str, prefix: &str| Kind::Prefix { bucket: bucket.into(), prefix: prefix.into() };
        let keys = |bucket: &str, key: &str| Kind::Keys { bucket: bucket.into(), key: key.into() };
        let cases = [
            ("s3://drops/2026/a.csv", Kind::One("s3://drops/2026/a.csv".parse().unwrap())),
            ("s3://drops/2026/", prefix("drops", "2026/")),
            ("s3://drops/", prefix("drops", "")),
            ("s3://drops/**/*.csv.gz", keys("drops", "**/*.csv.gz")),
            ("s3://drops/20??/", keys("drops", "20??/**")),
            ("file:///tmp/*.csv", Kind::One(SourceUrl::File("/tmp/*.csv".into()))),
            ("data/*.csv", Kind::Path("data/*.csv".into())),
            ("data", Kind::Path("data".into())),
        ];
        for (text, kind) in cases {
            let pattern: SourcePattern = text.parse().unwrap();
            assert_eq!(pattern.kind, kind, "{text}");
            assert_eq!(pattern.to_string(), text);
        }
        for (text, reason) in [("", "it is empty"), ("s3://drops", "it names no key"), ("s3:///", "it names no bucket")]
        {
            let error = text.parse::<SourcePattern>().unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(literal_start("2026/a*b/c"), "2026/a");
    }

    async fn expand(folder: &Path, pattern: &str) -> Result<Vec<String>, SourceError> {
        let sources = Sources::new(&S3Options::default()).unwrap();
        let pattern = format!("{}/{pattern}", folder.display()).parse().unwrap();
        let found = sources.expand(&pattern).await?;
        let name = |found: Named| found.url.to_string()[folder.display().to_string().len() + 1..].to_owned();
        Ok(found.into_iter().map(name).collect())
    }

    #[tokio::test]
    async fn files_are_found_by_name_directory_and_pattern() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["b.csv", "a.csv", "a.txt", "2026/01/c.csv", "2026/d.csv", "2026/.hidden.csv", ".git/e.csv", "x[1].csv"]
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
        for pattern in ["*.parquet", "none/*.csv"] {
            let error = expand(folder.path(), pattern).await.unwrap_err();
            assert!(error.to_string().contains(&format!("{pattern}: check SOURCE_URL")), "{error}");
            assert_eq!(error.exit(), Exit::SourceUnreadable);
        }
        let error = expand(folder.path(), "a[.csv").await.unwrap_err();
        assert!(error.to_string().contains("unclosed character class"), "{error}");
        assert_eq!(error.exit(), Exit::Usage);
    }
}
