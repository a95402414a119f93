//! What a user names as a source.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::SourceError;

/// `s3://bucket/key`, `file:///path`, or a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceUrl {
    /// An object.
    S3 {
        /// Its bucket.
        bucket: String,
        /// Its key, exactly as S3 knows it: nothing in it is escaped.
        key: String,
    },
    /// A local file.
    File(PathBuf),
}

impl SourceUrl {
    /// What ids are unique in unless `ID_NAMESPACE` says otherwise: `bucket/key`, or the name of the file.
    pub fn default_namespace(&self) -> String {
        match self {
            Self::S3 { bucket, key } => format!("{bucket}/{key}"),
            Self::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        }
    }
}

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
                let url = url::Url::parse(text).map_err(|_| wrong("it is no URL"))?;
                url.to_file_path().map(Self::File).map_err(|()| wrong("it names no local path"))
            }
            Some((scheme, _)) if is_scheme(scheme) => Err(wrong("its scheme is not supported")),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Whether what stands before `://` is a scheme, and not the start of an odd path.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
            Self::File(path) => path.display().fmt(formatter),
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
            ("examples/a.csv", SourceUrl::File("examples/a.csv".into()), "a.csv"),
            ("/tmp/é.csv", SourceUrl::File("/tmp/é.csv".into()), "é.csv"),
            ("odd name://x.csv", SourceUrl::File("odd name://x.csv".into()), "x.csv"),
        ];
        for (text, expected, namespace) in cases {
            let url: SourceUrl = text.parse().unwrap();
            assert_eq!(url, expected, "{text}");
            assert_eq!(url.to_string(), text);
            assert_eq!(url.default_namespace(), namespace);
        }
        assert_eq!("file:///tmp/a%20b.csv".parse::<SourceUrl>().unwrap(), SourceUrl::File("/tmp/a b.csv".into()));
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
                format!("`{text}` is no source ({reason}): SOURCE_URL is s3://bucket/key or the path of a file")
            );
        }
    }
}
