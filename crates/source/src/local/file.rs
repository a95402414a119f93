//! Local files: the version is the size and the modification time.

use std::fs::Metadata;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::UNIX_EPOCH;

use assay_transaction::SourceIdentity;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, ReadBuf};

use crate::error::io_cause;
use crate::{ByteStream, FoundSource, SourceError};

/// Finds a file. Its location is the canonical path, so that each spelling names the same source.
pub(crate) async fn identify(path: &Path) -> Result<FoundSource, SourceError> {
    let unreadable = |cause: String| SourceError::File { path: path.display().to_string(), cause };
    let canonical = tokio::fs::canonicalize(path).await.map_err(|error| unreadable(io_cause(&error)))?;
    let metadata = tokio::fs::metadata(&canonical).await.map_err(|error| unreadable(io_cause(&error)))?;
    if metadata.is_dir() {
        return Err(unreadable("it is a directory".to_owned()));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    let location = canonical.to_str().ok_or_else(|| unreadable("its path is not UTF-8".to_owned()))?.to_owned();
    let version = version(&metadata).map_err(|error| unreadable(io_cause(&error)))?;
    Ok(FoundSource { identity: SourceIdentity { location, version }, size: metadata.len() })
}

/// Whether the path is a named pipe.
pub(crate) async fn is_pipe(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Opens an identified version of a file.
pub(crate) async fn open(identity: &SourceIdentity, from: u64) -> Result<ByteStream, SourceError> {
    Ok(Box::pin(open_watched(identity, from).await?))
}

async fn open_watched(identity: &SourceIdentity, from: u64) -> Result<WatchedFile, SourceError> {
    let unreadable = |error: io::Error| SourceError::File { path: identity.location.clone(), cause: io_cause(&error) };
    let opened = tokio::fs::File::open(&identity.location).await.map_err(unreadable)?.into_std().await;
    let watched = opened.try_clone().map_err(unreadable)?;
    let mut file = tokio::fs::File::from_std(opened);
    file.seek(SeekFrom::Start(from)).await.map_err(unreadable)?;
    let watched = WatchedFile { file, watched, identity: identity.clone() };
    watched.check()?;
    Ok(watched)
}

/// Reads a range of an identified version completely.
pub(crate) async fn read_at(identity: &SourceIdentity, range: Range<u64>) -> Result<Bytes, SourceError> {
    let mut file = open_watched(identity, range.start).await?;
    let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut read = BytesMut::with_capacity(wanted);
    while read.len() < wanted {
        let missing = (wanted - read.len()) as u64;
        if (&mut file).take(missing).read_buf(&mut read).await? == 0 {
            return Err(SourceError::ends_before_range(&identity.location));
        }
    }
    file.check()?;
    Ok(read.freeze())
}

/// A file that must not change while it is read.
struct WatchedFile {
    file: tokio::fs::File,
    watched: std::fs::File,
    identity: SourceIdentity,
}

impl WatchedFile {
    /// Checks the open file itself: a file renamed over it does not change what is read.
    fn check(&self) -> Result<(), SourceError> {
        let unchanged =
            self.watched.metadata().and_then(|now| version(&now)).is_ok_and(|now| now == self.identity.version);
        if unchanged { Ok(()) } else { Err(SourceError::Replaced { location: self.identity.location.clone() }) }
    }
}

impl AsyncRead for WatchedFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.file).poll_read(context, buffer))?;
        if buffer.filled().len() == before {
            self.check().map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn version(metadata: &Metadata) -> io::Result<String> {
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok(format!("size={} modified={modified}", metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::Exit;
    use std::io::Write as _;

    async fn read(identity: &SourceIdentity, from: u64) -> Result<String, SourceError> {
        let mut text = String::new();
        open(identity, from).await?.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn reads_one_version_from_any_offset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "0123456789").unwrap();
        let found = identify(&folder.path().join("./a.csv")).await.unwrap();
        assert_eq!(found, identify(&path).await.unwrap());
        assert_eq!(found.size, 10);
        assert_eq!(read(&found.identity, 0).await.unwrap(), "0123456789");
        assert_eq!(read(&found.identity, 7).await.unwrap(), "789");
        assert_eq!(read(&found.identity, 10).await.unwrap(), "");
        assert_eq!(read_at(&found.identity, 2..5).await.unwrap(), "234");
        assert_eq!(read_at(&found.identity, 7..10).await.unwrap(), "789");
        let error = read_at(&found.identity, 7..11).await.unwrap_err().to_string();
        assert!(error.ends_with("a.csv ends before the requested range)"), "{error}");
    }

    #[tokio::test]
    async fn notices_a_change_before_and_during_the_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "0123456789").unwrap();
        let identity = identify(&path).await.unwrap().identity;
        let mut stream = open(&identity, 0).await.unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let during = SourceError::from(stream.read_to_end(&mut Vec::new()).await.unwrap_err());
        let before = read(&identity, 0).await.unwrap_err();
        let at = read_at(&identity, 0..3).await.unwrap_err();
        for error in [before, during, at] {
            assert!(error.to_string().contains("was replaced while it was read"), "{error}");
            assert_eq!(error.exit(), Exit::SourceUnreadable);
        }
    }

    #[tokio::test]
    async fn says_why_a_file_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let cases =
            [(folder.path().join("none.csv"), "it does not exist"), (folder.path().to_owned(), "it is a directory")];
        for (path, cause) in cases {
            let error = identify(&path).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot read {} ({cause}): check the argument or SOURCE_URL", path.display())
            );
            assert_eq!(error.exit(), Exit::SourceUnreadable);
        }
    }
}
