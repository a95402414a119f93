//! One or several sources named by the user: a source, all under a prefix or in a directory, or all that match a
//! pattern.
//!
//! In a pattern `*` and `?` match anything but `/`, `**` any directories, `[ab]` one character and `{a,b}` a choice. A
//! source whose name is literally the pattern is the only match. [Markers](marker) are skipped unless a part of the
//! pattern names them.

pub(crate) mod marker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::TryStreamExt as _;
use globset::{GlobBuilder, GlobMatcher};

use crate::error::io_cause;
use crate::pattern::marker::{is_marked, is_marker};
use crate::{ListedObject, SourceError, SourceUrl, Sources};

/// Names one or several sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePattern {
    text: String,
    kind: PatternKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternKind {
    One(SourceUrl),
    /// All objects under a prefix.
    Prefix {
        bucket: String,
        prefix: String,
    },
    /// Objects that match a pattern, unless one has exactly this key.
    Keys {
        bucket: String,
        key: String,
    },
    /// A file, a directory, or files that match a pattern.
    Path(PathBuf),
}

/// A source that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// Its address.
    pub url: SourceUrl,
    /// Its version, if a listing shows it.
    pub version: Option<String>,
}

impl From<SourceUrl> for NamedSource {
    fn from(url: SourceUrl) -> Self {
        Self { url, version: None }
    }
}

impl SourcePattern {
    /// The source, if the pattern can only name one.
    pub fn as_one(&self) -> Option<&SourceUrl> {
        match &self.kind {
            PatternKind::One(url) => Some(url),
            _ => None,
        }
    }
}

impl FromStr for SourcePattern {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let is_prefix = text.starts_with("s3://") && text.ends_with('/');
        // A prefix has no key: parse it with one.
        let url: SourceUrl = if is_prefix { format!("{text}.").parse()? } else { text.parse()? };
        let kind = match url {
            SourceUrl::S3 { bucket, key } if is_prefix => {
                let prefix = key[..key.len() - 1].to_owned();
                if has_wildcards(&prefix) {
                    PatternKind::Keys { bucket, key: prefix + "**" }
                } else {
                    PatternKind::Prefix { bucket, prefix }
                }
            }
            SourceUrl::S3 { bucket, key } if has_wildcards(&key) => PatternKind::Keys { bucket, key },
            SourceUrl::File(path) if !text.starts_with("file://") => PatternKind::Path(path),
            url => PatternKind::One(url),
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
    /// The sources that match, ordered by key or path. No match is an error, but a plain name is returned whether it
    /// exists or not.
    pub async fn expand(&self, pattern: &SourcePattern) -> Result<Vec<NamedSource>, SourceError> {
        let found = match &pattern.kind {
            PatternKind::One(url) => vec![url.clone().into()].into(),
            PatternKind::Prefix { bucket, prefix } => {
                self.matching(bucket, prefix, |key| Some(!is_marker(prefix, key))).await?
            }
            PatternKind::Keys { bucket, key } => {
                let url = SourceUrl::S3 { bucket: bucket.clone(), key: key.clone() };
                match self.identify(&url).await {
                    Ok(found) => vec![NamedSource { url, version: Some(found.identity.version) }].into(),
                    // Some servers reject such a key; without the right to list, a missing key is answered with
                    // "denied".
                    Err(SourceError::NoObject { .. } | SourceError::Denied { .. } | SourceError::Refused { .. }) => {
                        let glob = PathGlob::new(&pattern.text, folder(literal_start(key)), key)?;
                        self.matching(bucket, literal_start(key), |key| glob.is_wanted(key)).await?
                    }
                    Err(error) => return Err(error),
                }
            }
            PatternKind::Path(path) => {
                let (text, path) = (pattern.text.clone(), path.clone());
                let finding = tokio::task::spawn_blocking(move || files(&text, &path)).await;
                finding.map_err(|error| SourceError::Read { cause: error.to_string() })??
            }
        };
        if found.named.is_empty() {
            return Err(SourceError::NothingFound { pattern: pattern.text.clone(), markers: found.markers });
        }
        Ok(found.named)
    }

    /// Objects under a prefix. `is_wanted` returns none for a key that does not match, false for a marker.
    async fn matching(
        &self,
        bucket: &str,
        prefix: &str,
        is_wanted: impl Fn(&str) -> Option<bool>,
    ) -> Result<PatternMatches, SourceError> {
        let (mut found, mut listing) = (PatternMatches::default(), self.list(bucket, prefix));
        while let Some(ListedObject { url, version, size }) = listing.try_next().await? {
            let SourceUrl::S3 { key, .. } = &url else { continue };
            // Some clients put empty objects in place of directories.
            let is_directory = size == 0 && key.ends_with('/');
            match is_wanted(key) {
                Some(true) if !is_directory => found.named.push(NamedSource { url, version }),
                Some(false) => found.markers += 1,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The matches of a pattern.
#[derive(Default)]
struct PatternMatches {
    named: Vec<NamedSource>,
    /// Markers that were skipped.
    markers: u64,
}

impl From<Vec<NamedSource>> for PatternMatches {
    fn from(named: Vec<NamedSource>) -> Self {
        Self { named, markers: 0 }
    }
}

fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The part before the first wildcard.
fn literal_start(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    &pattern[..end]
}

/// The folder of a path, including its `/`.
fn folder(path: &str) -> &str {
    &path[..path.rfind('/').map_or(0, |slash| slash + 1)]
}

/// A pattern of paths in one folder.
struct PathGlob {
    whole: GlobMatcher,
    /// Length of the folder.
    base: usize,
    /// Parts of the pattern that name markers.
    marker_parts: Vec<GlobMatcher>,
}

impl PathGlob {
    /// A pattern that begins with a literal folder.
    fn new(text: &str, base: &str, pattern: &str) -> Result<Self, SourceError> {
        let rest = &pattern[base.len()..];
        let wrong =
            |error: globset::Error| SourceError::Pattern { pattern: text.to_owned(), cause: error.kind().to_string() };
        let whole = compile(&format!("{}{rest}", globset::escape(base))).map_err(wrong)?;
        // Also among alternatives, as in `{_a,b}`.
        let names_markers = |part: &&str| is_marked(part.trim_start_matches(['{', '[']));
        let marker_parts = rest.split('/').filter(names_markers).filter_map(|part| compile(part).ok()).collect();
        Ok(Self { whole, base: base.len(), marker_parts })
    }

    /// None if a path does not match; false if it is a marker that the pattern does not name.
    fn is_wanted(&self, path: &str) -> Option<bool> {
        self.whole.is_match(path).then(|| !path[self.base..].split('/').any(|name| self.skips(name)))
    }

    fn skips(&self, name: &str) -> bool {
        is_marked(name) && !self.marker_parts.iter().any(|part| part.is_match(name))
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

/// The local files that a path names.
fn files(text: &str, path: &Path) -> Result<PatternMatches, SourceError> {
    let mut walk = DirectoryWalk::default();
    match (std::fs::metadata(path), path.to_str()) {
        (Ok(metadata), _) if metadata.is_dir() => walk.folder(path, usize::MAX, None)?,
        (Err(_), Some(pattern)) if has_wildcards(pattern) => {
            let base = existing_folder(pattern);
            let glob = PathGlob::new(text, base, pattern)?;
            let rest = &pattern[base.len()..];
            let depth = if rest.contains("**") { usize::MAX } else { rest.matches('/').count() };
            if base.is_empty() || Path::new(base).is_dir() {
                walk.folder(Path::new(base), depth, Some(&glob))?;
            }
        }
        _ => walk.found.push(path.to_owned()),
    }
    walk.found.sort();
    let named = walk.found.into_iter().map(|path| SourceUrl::File(path).into()).collect();
    Ok(PatternMatches { named, markers: walk.markers })
}

/// The folder at the start of a pattern: without wildcards, or existing under this very name.
fn existing_folder(pattern: &str) -> &str {
    let ends = pattern.rmatch_indices('/').map(|(slash, _)| &pattern[..=slash]);
    let certain = folder(literal_start(pattern));
    ends.take_while(|start| start.len() > certain.len()).find(|start| Path::new(start).is_dir()).unwrap_or(certain)
}

/// Files found in a directory tree.
#[derive(Default)]
struct DirectoryWalk {
    found: Vec<PathBuf>,
    markers: u64,
}

impl DirectoryWalk {
    /// Adds the files of a directory tree down to a depth, or those that match a pattern. Skips markers, and links to
    /// directories, as they may form a circle.
    fn folder(&mut self, directory: &Path, depth: usize, glob: Option<&PathGlob>) -> Result<(), SourceError> {
        let is_here = directory.as_os_str().is_empty();
        let listed = if is_here { Path::new(".") } else { directory };
        let unreadable =
            |error: std::io::Error| SourceError::File { path: listed.display().to_string(), cause: io_cause(&error) };
        for entry in std::fs::read_dir(listed).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let path = directory.join(&name);
            // A name that is not UTF-8 is found here and rejected later.
            let name = name.to_string_lossy();
            if glob.map_or_else(|| is_marked(&name), |glob| glob.skips(&name)) {
                self.markers += u64::from(glob.is_none_or(|glob| glob.whole.is_match(&path)));
                continue;
            }
            if entry.file_type().map_err(unreadable)?.is_dir() {
                if depth > 0 {
                    self.folder(&path, depth - 1, glob)?;
                }
            } else if glob.is_none_or(|glob| glob.whole.is_match(&path)) && path.is_file() {
                self.found.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
