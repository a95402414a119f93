//! `assay put`: files become objects, with no other client at hand.

use std::fmt::{self, Display};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use assay_source::{Content, Put, S3Options, SourceError, SourceUrl, Sources};
use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;
use crate::output::{grouped, one_line, print_json, print_text};

/// How much of a name is shown.
const SHOWN_CHARACTERS: usize = 500;

/// Put files into a bucket, which is made where there is none
///
/// What is larger than 16 MiB goes in parts, some at a time. Exits 0 when every file is an object; 2 for wrong settings; 3 when
/// the S3 server is away; 4 when a file cannot be read or an object not be written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay put transactions.csv s3://transactions/2026/
  zcat old.csv.gz | assay put - s3://transactions/old.csv")]
pub(crate) struct PutArguments {
    /// What to put: files, or `-` for stdin
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Where to: s3://bucket/key, or a prefix such as s3://bucket/2026/, which keeps the names of the files
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

/// Puts the files, one after the other.
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

/// Which file becomes which object.
fn destinations<'a>(files: &'a [PathBuf], to: &str) -> Result<Vec<(&'a Path, SourceUrl)>, CommandError> {
    let wrong = |reason| SourceError::Url { url: to.to_owned(), reason };
    if !to.starts_with("s3://") {
        return Err(wrong("an object is put to s3://bucket/key or s3://bucket/prefix/").into());
    }
    if !to.ends_with('/') {
        let url = to.parse()?;
        return match files {
            [file] => Ok(vec![(file, url)]),
            _ => Err(wrong("several files go under a prefix, which ends with /").into()),
        };
    }
    let named = files.iter().map(|file| {
        let name = file.file_name().filter(|_| !is_stdin(file)).and_then(|name| name.to_str());
        let name = name.ok_or_else(|| wrong("what has no name cannot be put under a prefix: give it a key"))?;
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
    let Put { size, version, made_bucket } = put?;
    Ok(PutObject { file: file.display().to_string(), url: url.to_string(), size, version, made_bucket })
}

async fn open(file: &Path) -> Result<Content, CommandError> {
    let unreadable = |error: &std::io::Error| {
        let cause = error.to_string();
        SourceError::File { path: file.display().to_string(), cause }
    };
    if is_stdin(file) {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| unreadable(&error))?;
        return Ok(Content { bytes: Box::pin(tokio::fs::File::from_std(stdin.into())), size: None });
    }
    let opened = tokio::fs::File::open(file).await.map_err(|error| unreadable(&error))?;
    let metadata = opened.metadata().await.map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err(unreadable(&std::io::Error::other("it is a directory")).into());
    }
    // What is no regular file, such as a pipe, does not say how long it is.
    let size = metadata.is_file().then_some(metadata.len());
    Ok(Content { bytes: Box::pin(opened), size })
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(size: Option<u64>, url: &SourceUrl) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {wide_bar:.cyan} {bytes:>10}  {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style).with_prefix(one_line(&url.to_string(), SHOWN_CHARACTERS))
}

/// An object that was put.
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
        let bucket = if self.made_bucket { "; its bucket is new" } else { "" };
        writeln!(out, "put {url} ({} bytes{version}){bucket}", grouped(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_key_or_goes_under_a_prefix() {
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
            (&["a", "b"], "s3://drops/c", "several files go under a prefix"),
            (&["-"], "s3://drops/", "what has no name"),
            (&["a"], "/tmp/b", "an object is put to s3://bucket/key"),
            (&["a"], "s3://drops", "it names no key"),
        ];
        for (files, to, expected) in cases {
            let error = put(files, to).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
