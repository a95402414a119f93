//! The address of one source.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use assay_transaction::SourceIdentity;

use crate::SourceError;

/// `s3://bucket/key`, `file:///path`, a path, or `-` for stdin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceUrl {
    /// An object.
    S3 {
        /// Its bucket.
        bucket: String,
        /// Its key exactly as in S3, unescaped.
        key: String,
    },
    /// A local file, or a named pipe.
    File(PathBuf),
    /// An open file descriptor: 0 for stdin, another for a shell's `<(…)`.
    Descriptor(u32),
}

/// Folders whose entries are descriptors.
const DESCRIPTORS: [&str; 2] = ["/dev/fd/", "/proc/self/fd/"];

impl SourceUrl {
    /// The namespace of ids unless `ID_NAMESPACE` is set: `bucket/key`, the absolute path of the file, or `stdin` for
    /// every descriptor, as their numbers mean nothing.
    pub fn default_namespace(&self) -> String {
        match self {
            Self::S3 { bucket, key } => format!("{bucket}/{key}"),
            Self::File(path) => absolute_path(path),
            Self::Descriptor(_) => STDIN.to_owned(),
        }
    }

    /// The address of a run's source, to read it again. Input from a pipe is gone.
    pub fn of(source: &SourceIdentity) -> Result<Self, SourceError> {
        let SourceIdentity { location, .. } = source;
        if source.piped_sha256().is_some() {
            return Err(SourceError::PipeConsumed { location: location.clone() });
        }
        location.parse()
    }
}

/// The canonical path of a file, so that each spelling names the same source; otherwise the absolute path.
pub(crate) fn absolute_path(path: &Path) -> String {
    let absolute = path.canonicalize().or_else(|_| std::path::absolute(path));
    absolute.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// The name of stdin.
pub(crate) const STDIN: &str = "stdin";

impl FromStr for SourceUrl {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |reason| SourceError::Url { url: text.to_owned(), reason };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        match text.split_once("://") {
            Some(("s3", object)) => {
                let (bucket, key) = object.split_once('/').ok_or_else(|| wrong("it names no key"))?;
                if bucket.is_empty() || bucket.chars().any(char::is_whitespace) {
                    return Err(wrong("it names no bucket"));
                }
                if key.is_empty() {
                    return Err(wrong("it names no key"));
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            Some(("file", _)) => {
                let url = url::Url::parse(text).map_err(|_| wrong("it is not a URL"))?;
                url.to_file_path().map(Self::File).map_err(|()| wrong("it names no local path"))
            }
            Some((scheme, _)) if is_scheme(scheme) => Err(wrong("its scheme is not supported")),
            _ => Ok(descriptor(text).map_or_else(|| Self::File(text.into()), Self::Descriptor)),
        }
    }
}

/// The descriptor that a path names. A file called `-` is `./-`.
fn descriptor(text: &str) -> Option<u32> {
    if matches!(text, "-" | "/dev/stdin") {
        return Some(0);
    }
    DESCRIPTORS.iter().find_map(|folder| text.strip_prefix(folder)?.parse().ok())
}

/// Whether the text before `://` is a scheme, and not the start of an odd path.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
            Self::File(path) => path.display().fmt(formatter),
            Self::Descriptor(0) => formatter.write_str(STDIN),
            Self::Descriptor(number) => write!(formatter, "/dev/fd/{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::Exit;

    #[test]
    fn reads_objects_and_paths() {
        let s3 = |bucket: &str, key: &str| SourceUrl::S3 { bucket: bucket.into(), key: key.into() };
        let cases = [
            ("s3://drops/2026/a b+c%20.csv", s3("drops", "2026/a b+c%20.csv"), "drops/2026/a b+c%20.csv"),
            ("s3://drops//a?b#c", s3("drops", "/a?b#c"), "drops//a?b#c"),
            ("/nowhere/a.csv", SourceUrl::File("/nowhere/a.csv".into()), "/nowhere/a.csv"),
            ("/nowhere/é.csv", SourceUrl::File("/nowhere/é.csv".into()), "/nowhere/é.csv"),
            ("/dev/fd/63", SourceUrl::Descriptor(63), "stdin"),
            ("/dev/fd/x", SourceUrl::File("/dev/fd/x".into()), "/dev/fd/x"),
        ];
        for (text, expected, namespace) in cases {
            let url: SourceUrl = text.parse().unwrap();
            assert_eq!(url, expected, "{text}");
            assert_eq!(url.to_string(), text);
            assert_eq!(url.default_namespace(), namespace);
        }
        for text in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
            let url: SourceUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url), ("stdin", SourceUrl::Descriptor(0)), "{text}");
        }
        for name in ["odd name://x.csv", "./-", "stdin", "50%25 report #2.csv", "{final}.csv", "export[1].csv"] {
            assert_eq!(name.parse::<SourceUrl>().unwrap(), SourceUrl::File(name.into()));
        }
        assert_eq!("file:///tmp/a%20b.csv".parse::<SourceUrl>().unwrap(), SourceUrl::File("/tmp/a b.csv".into()));
    }

    #[test]
    fn a_file_has_one_namespace_however_its_path_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "id\n").unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/a.csv"), "id\n").unwrap();
        let namespace = |name: &str| SourceUrl::File(folder.path().join(name)).default_namespace();
        let expected = path.canonicalize().unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            [namespace("a.csv"), namespace("./a.csv"), namespace("b/../a.csv")],
            [(); 3].map(|()| expected.clone())
        );
        assert_ne!(namespace("b/a.csv"), expected);
    }

    #[test]
    fn the_content_of_a_pipe_has_no_address() {
        let of = |location: &str, version: &str| {
            SourceUrl::of(&SourceIdentity { location: location.to_owned(), version: version.to_owned() })
        };
        assert_eq!(of("/tmp/a.csv", "size=1 modified=2").unwrap(), SourceUrl::File("/tmp/a.csv".into()));
        assert!(matches!(of("s3://drops/a.csv", "sha256=00"), Ok(SourceUrl::S3 { .. })));
        for location in ["stdin", "/tmp/fifo"] {
            let error = of(location, "sha256=00").unwrap_err();
            assert!(error.to_string().contains(&format!("{location} cannot be read again")), "{error}");
            assert_eq!(error.exit(), Exit::SourceUnreadable);
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_url() {
        let cases = [
            ("", "it is empty"),
            ("s3://", "it names no key"),
            ("s3://drops", "it names no key"),
            ("s3://drops/", "it names no key"),
            ("s3:///a.csv", "it names no bucket"),
            ("gs://drops/a.csv", "its scheme is not supported"),
            ("https://drops/a.csv", "its scheme is not supported"),
            ("file://elsewhere/a.csv", "it names no local path"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<SourceUrl>().unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{text}");
            assert_eq!(
                error.to_string(),
                format!("`{text}` is not a source ({reason}): SOURCE_URL is s3://bucket/key or the path of a file")
            );
        }
    }
}
