//! What comes through a pipe: stdin, a named pipe, or what a shell's `<(…)` gives. A load reads its source more than once,
//! and goes on where another has stopped, so that all of it is written to a file first, which has no name and is gone with
//! the process, however that ends. Its version is a hash of it: the same content piped again is the same source.
//!
//! A pipe is read by a thread of its own, which no shutdown waits for, as nobody knows whether anything more ever comes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use assay_transaction::SourceIdentity;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::stream;
use tokio::sync::oneshot;
use tokio_util::io::StreamReader;

use crate::error::{DIED, io_cause};
use crate::fingerprint::{BLOCK_BYTES, ProgressHasher};
use crate::url::{STDIN, absolute_path};
use crate::{ByteStream, Found, SourceError, SourceUrl};

/// What the source of a descriptor other than stdin is called: the number of it says nothing.
const PIPE: &str = "pipe";
/// What is read of a file at a time.
const READ_BYTES: u64 = 256 * 1024;

/// The pipes of a process, each read once.
#[derive(Default)]
pub(crate) struct PipeSpool {
    spooled: Mutex<HashMap<SourceUrl, Spooling>>,
}

/// What is known of a pipe once it is read to its end. It is asked for by many, and cannot be read again.
type Spooling = Shared<BoxFuture<'static, Result<Arc<SpooledPipe>, SpoolError>>>;

/// What came through a pipe.
struct SpooledPipe {
    file: File,
    found: Found,
}

/// Why a pipe could not be read, or what it gave not be kept.
#[derive(Debug, Clone)]
struct SpoolError {
    location: String,
    cause: String,
    /// Where it was to be kept, if that is what went wrong.
    folder: Option<String>,
}

impl From<SpoolError> for SourceError {
    fn from(SpoolError { location, cause, folder }: SpoolError) -> Self {
        match folder {
            Some(folder) => Self::NotSpooled { location, folder, cause },
            None => Self::File { path: location, cause },
        }
    }
}

impl PipeSpool {
    /// Reads a pipe to its end, unless that was done before.
    pub(crate) async fn identify(&self, url: &SourceUrl) -> Result<Found, SourceError> {
        Ok(self.spool(url).await?.found.clone())
    }

    /// Streams what came through it from an offset on.
    pub(crate) async fn open(
        &self,
        url: &SourceUrl,
        identity: &SourceIdentity,
        from: u64,
    ) -> Result<ByteStream, SourceError> {
        let spool = self.version(url, identity).await?;
        let blocks = stream::try_unfold((spool, from), |(spool, from)| async move {
            let until = spool.found.size.min(from.saturating_add(READ_BYTES));
            if from >= until {
                return Ok(None);
            }
            let block = Arc::clone(&spool).read(from..until).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Some((block, (spool, until))))
        });
        Ok(Box::pin(StreamReader::new(Box::pin(blocks))))
    }

    /// Reads exactly a range of it.
    pub(crate) async fn read_at(
        &self,
        url: &SourceUrl,
        identity: &SourceIdentity,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        self.version(url, identity).await?.read(range).await
    }

    async fn version(&self, url: &SourceUrl, identity: &SourceIdentity) -> Result<Arc<SpooledPipe>, SourceError> {
        let spool = self.spool(url).await?;
        if spool.found.identity == *identity {
            Ok(spool)
        } else {
            Err(SourceError::PipeConsumed { location: identity.location.clone() })
        }
    }

    async fn spool(&self, url: &SourceUrl) -> Result<Arc<SpooledPipe>, SourceError> {
        let spooling = {
            let mut spooled = self.spooled.lock().unwrap_or_else(PoisonError::into_inner);
            spooled.entry(url.clone()).or_insert_with(|| start(url.clone())).clone()
        };
        Ok(spooling.await?)
    }
}

impl SpooledPipe {
    async fn read(self: Arc<Self>, range: Range<u64>) -> Result<Bytes, SourceError> {
        let reading = tokio::task::spawn_blocking(move || {
            let wanted = range.end.saturating_sub(range.start);
            if range.end > self.found.size {
                return Err(SourceError::ends_before_range(&self.found.identity.location));
            }
            let mut block = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX)];
            self.file.read_exact_at(&mut block, range.start)?;
            Ok(block.into())
        });
        reading.await.map_err(|_| SourceError::Read { cause: DIED.to_owned() })?
    }
}

/// Starts to read a pipe.
fn start(url: SourceUrl) -> Spooling {
    let (tell, told) = oneshot::channel();
    let location = location(&url);
    let lost =
        SpoolError { location: location.clone(), cause: "the thread that reads it has ended".to_owned(), folder: None };
    let reading = std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        // Nobody waits any more: the process ends.
        let _ = tell.send(spool_to_file(&url, &location).map(Arc::new));
    });
    let failed = reading.err().map(|error| SpoolError { cause: error.to_string(), ..lost.clone() });
    async move {
        match failed {
            Some(failed) => Err(failed),
            None => told.await.unwrap_or(Err(lost)),
        }
    }
    .boxed()
    .shared()
}

/// What the ledger calls it.
fn location(url: &SourceUrl) -> String {
    match url {
        SourceUrl::Descriptor(0) => STDIN.to_owned(),
        SourceUrl::Descriptor(_) => PIPE.to_owned(),
        SourceUrl::File(path) => absolute_path(path),
        SourceUrl::S3 { .. } => url.to_string(),
    }
}

/// Reads a pipe to its end into a file that has no name.
fn spool_to_file(url: &SourceUrl, location: &str) -> Result<SpooledPipe, SpoolError> {
    let unreadable =
        |error: io::Error| SpoolError { location: location.to_owned(), cause: io_cause(&error), folder: None };
    let folder = std::env::temp_dir();
    let not_spooled = |error: io::Error| SpoolError {
        location: location.to_owned(),
        cause: io_cause(&error),
        folder: Some(folder.display().to_string()),
    };
    let mut pipe = open(url).map_err(unreadable)?;
    let mut file = tempfile::tempfile_in(&folder).map_err(not_spooled)?;
    let mut hashing = ProgressHasher::new(format!("keeping what {location} gives in a file in {}", folder.display()));
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = match pipe.read(&mut block) {
            Ok(0) => break,
            Ok(read) => &block[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        file.write_all(read).map_err(not_spooled)?;
        hashing.update(read);
    }
    let size = hashing.bytes();
    let identity = SourceIdentity::piped(location.to_owned(), &hashing.finish());
    Ok(SpooledPipe { file, found: Found { identity, size } })
}

/// Opens a pipe, which for a named one waits for somebody who writes.
fn open(url: &SourceUrl) -> io::Result<File> {
    match url {
        SourceUrl::Descriptor(0) => Ok(io::stdin().as_fd().try_clone_to_owned()?.into()),
        SourceUrl::Descriptor(number) => File::open(format!("/dev/fd/{number}")),
        SourceUrl::File(path) => File::open(path),
        SourceUrl::S3 { .. } => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::{S3Options, Sources};

    /// A pipe that has been given a text, as a descriptor of this process.
    fn piped(text: &str) -> (SourceUrl, io::PipeReader) {
        let (reader, mut writer) = io::pipe().unwrap();
        let text = text.to_owned();
        std::thread::spawn(move || writer.write_all(text.as_bytes()));
        (format!("/dev/fd/{}", reader.as_raw_fd()).parse().unwrap(), reader)
    }

    fn sources() -> Sources {
        Sources::new(&S3Options::default()).unwrap()
    }

    async fn read(sources: &Sources, url: &SourceUrl, found: &Found, from: u64) -> String {
        let mut text = String::new();
        sources.open(url, &found.identity, from).await.unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn what_comes_through_a_pipe_is_kept_and_read_as_often_as_is_asked() {
        let text = "0123456789".repeat(100_000);
        let (url, _open) = piped(&text);
        let sources = sources();
        let found = sources.identify(&url).await.unwrap();
        assert_eq!((found.size, found.identity.location.as_str()), (1_000_000, "pipe"));
        assert_eq!(sources.clone().identify(&url).await.unwrap(), found);
        for from in [0, 7, 300_000, 999_999, 1_000_000, 1_000_001] {
            let expected = text.get(usize::try_from(from).unwrap()..).unwrap_or_default();
            assert!(read(&sources, &url, &found, from).await == expected, "{from}");
        }
        assert_eq!(sources.read_at(&url, &found.identity, 999_990..1_000_000).await.unwrap(), "0123456789");
        assert!(sources.read_at(&url, &found.identity, 999_999..1_000_001).await.is_err());
        // The same content is the same source, and what a file of it would be a copy of.
        let (again, _open) = piped(&text);
        assert_eq!(sources.identify(&again).await.unwrap(), found);
        let print = sources.fingerprint(&url, &found).await.unwrap().unwrap();
        assert_eq!(Some(print.as_str()), found.identity.version.replace('=', ":").get(..));
        let (other, _open) = piped("x");
        assert_ne!(sources.identify(&other).await.unwrap().identity, found.identity);
    }

    #[tokio::test]
    async fn a_version_that_came_through_before_is_gone() {
        let (url, _open) = piped("id\n");
        let sources = sources();
        sources.identify(&url).await.unwrap();
        let other = SourceIdentity::piped("pipe".to_owned(), "00");
        let error = sources.open(&url, &other, 0).await.err().unwrap();
        assert!(error.to_string().starts_with("what came through pipe cannot be read again"), "{error}");
    }

    #[tokio::test]
    async fn a_pipe_that_cannot_be_opened_says_why_each_time() {
        let url: SourceUrl = "/dev/fd/4294967295".parse().unwrap();
        let sources = sources();
        for _ in 0..2 {
            let error = sources.identify(&url).await.unwrap_err();
            assert_eq!(error.to_string(), "cannot read pipe (it does not exist): check the argument or SOURCE_URL");
        }
    }

    #[tokio::test]
    async fn a_named_pipe_is_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drop.fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let writing = path.clone();
        let writer = std::thread::spawn(move || std::fs::write(writing, "id\n1\n"));
        let (sources, url) = (sources(), SourceUrl::File(path.clone()));
        let found = sources.identify(&url).await.unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(found.identity.location, path.canonicalize().unwrap().to_str().unwrap());
        assert_eq!((found.size, read(&sources, &url, &found, 3).await.as_str()), (5, "1\n"));
        assert_eq!(url.default_namespace(), found.identity.location);
    }
}
