//! `assay put`: uploads files to a bucket, without another client.

use std::fmt::{self, Display};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use assay_source::{S3Options, SourceError, SourceUrl, Sources, UploadContent, UploadedObject};
use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;
use crate::output::{grouped, one_line, print_json, print_text};

/// Longest name that is shown.
const SHOWN_CHARACTERS: usize = 500;

/// Upload files to a bucket, which is created if it is missing
///
/// Files over 16 MiB are uploaded in parallel parts. Exits 0 when every file is uploaded; 2 for invalid settings; 3 when the
/// S3 server is unreachable; 4 when a file cannot be read or an object cannot be written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay put transactions.csv s3://transactions/2026/
  zcat old.csv.gz | assay put - s3://transactions/old.csv")]
pub(crate) struct PutArguments {
    /// The files, or `-` for stdin
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The target: s3://bucket/key, or a prefix such as s3://bucket/2026/, which keeps the names of the files
    #[arg(value_name = "S3_URL")]
    to: String,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Uploads the files in order.
pub(crate) async fn put(arguments: &PutArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let pairs = destinations(&arguments.files, &arguments.to)?;
    let sources = Sources::new(&arguments.s3)?;
    let mut lines = Vec::with_capacity(pairs.len());
    for (file, url) in pairs {
        let line = put_one(&sources, file, url, shutdown).await?;
        if !arguments.json {
            print_text(&line)?;
        }
        lines.push(line);
    }
    if arguments.json {
        print_json(&lines)?;
    }
    Ok(Exit::Done)
}

/// The target of each file.
fn destinations<'a>(files: &'a [PathBuf], to: &str) -> Result<Vec<(&'a Path, SourceUrl)>, CommandError> {
    let wrong = |reason| SourceError::Url { url: to.to_owned(), reason };
    if !to.starts_with("s3://") {
        return Err(wrong("the target has to be s3://bucket/key or s3://bucket/prefix/").into());
    }
    if !to.ends_with('/') {
        let url = to.parse()?;
        return match files {
            [file] => Ok(vec![(file, url)]),
            _ => Err(wrong("several files need a prefix, which ends with /").into()),
        };
    }
    let named = files.iter().map(|file| {
        let name = file.file_name().filter(|_| !is_stdin(file)).and_then(|name| name.to_str());
        let name = name.ok_or_else(|| wrong("a source without a name needs a key, not a prefix"))?;
        Ok((file.as_path(), format!("{to}{name}").parse()?))
    });
    named.collect()
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

async fn put_one(
    sources: &Sources,
    file: &Path,
    url: SourceUrl,
    shutdown: &CancellationToken,
) -> Result<PutObject, CommandError> {
    let content = open(file).await?;
    let bar = progress_bar(content.size, &url);
    let put = sources.put(content, &url, &|bytes| bar.inc(bytes), shutdown).await;
    bar.finish_and_clear();
    let UploadedObject { size, version, made_bucket } = put?;
    Ok(PutObject { file: file.display().to_string(), url: url.to_string(), size, version, made_bucket })
}

async fn open(file: &Path) -> Result<UploadContent, CommandError> {
    let unreadable = |error: &std::io::Error| {
        let cause = error.to_string();
        SourceError::File { path: file.display().to_string(), cause }
    };
    if is_stdin(file) {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| unreadable(&error))?;
        return Ok(UploadContent { bytes: Box::pin(tokio::fs::File::from_std(stdin.into())), size: None });
    }
    let opened = tokio::fs::File::open(file).await.map_err(|error| unreadable(&error))?;
    let metadata = opened.metadata().await.map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err(unreadable(&std::io::Error::other("it is a directory")).into());
    }
    // Only a regular file has a known size.
    let size = metadata.is_file().then_some(metadata.len());
    Ok(UploadContent { bytes: Box::pin(opened), size })
}

/// A bar on a terminal, else a hidden one.
fn progress_bar(size: Option<u64>, url: &SourceUrl) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes:>10}  {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style).with_prefix(one_line(&url.to_string(), SHOWN_CHARACTERS))
}

/// An uploaded object.
#[derive(Debug, Serialize)]
struct PutObject {
    file: String,
    url: String,
    size: u64,
    version: Option<String>,
    made_bucket: bool,
}

impl Display for PutObject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = one_line(&self.url, SHOWN_CHARACTERS);
        let version = self.version.as_ref().map_or_else(String::new, |version| format!(", ETag {version}"));
        let bucket = if self.made_bucket { "; created its bucket" } else { "" };
        writeln!(out, "put {url} ({} bytes{version}){bucket}", grouped(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_key_or_a_prefix() {
        let put = |files: &[&str], to: &str| {
            let files: Vec<_> = files.iter().map(PathBuf::from).collect();
            let pairs = destinations(&files, to).map_err(|error| error.to_string())?;
            Ok::<_, String>(pairs.into_iter().map(|(_, url)| url.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(put(&["in/a.csv"], "s3://drops/b.csv").unwrap(), ["s3://drops/b.csv"]);
        assert_eq!(put(&["in/a.csv", "b.csv"], "s3://drops/").unwrap(), ["s3://drops/a.csv", "s3://drops/b.csv"]);
        assert_eq!(put(&["in/a.csv"], "s3://drops/2026/").unwrap(), ["s3://drops/2026/a.csv"]);
        assert_eq!(put(&["-"], "s3://drops/b.csv").unwrap(), ["s3://drops/b.csv"]);
        let cases: [(&[&str], &str, &str); 4] = [
            (&["a", "b"], "s3://drops/c", "several files need a prefix"),
            (&["-"], "s3://drops/", "a source without a name"),
            (&["a"], "/tmp/b", "the target has to be s3://bucket/key"),
            (&["a"], "s3://drops", "it names no key"),
        ];
        for (files, to, expected) in cases {
            let error = put(files, to).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn its_json_is_pinned() {
        let put = PutObject {
            file: "transactions.csv".into(),
            url: "s3://drops/transactions.csv".into(),
            size: 1_048_576,
            version: Some("\"etag\"".into()),
            made_bucket: true,
        };
        crate::output::pin_json("put", &[put]);
    }
}
