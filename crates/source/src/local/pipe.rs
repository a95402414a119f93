//! Pipes: stdin, named pipes, and a shell's `<(…)`. A load reads its source more than once and resumes, so a pipe is
//! first spooled to an unnamed file, which disappears with the process. Its version is a hash: the same content piped
//! again is the same source.
//!
//! A thread of its own reads the pipe; a shutdown does not wait for it, as a pipe may never end.

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
use crate::{ByteStream, FoundSource, SourceError, SourceUrl};

/// The location of a descriptor other than stdin; its number means nothing.
const PIPE: &str = "pipe";
/// Bytes read from the file at a time.
const READ_BYTES: u64 = 256 * 1024;

/// The pipes of a process, each read once.
#[derive(Default)]
pub(crate) struct PipeSpool {
    spooled: Mutex<HashMap<SourceUrl, Spooling>>,
}

/// A pipe being read, or read to its end. It is shared, as a pipe cannot be read again.
type Spooling = Shared<BoxFuture<'static, Result<Arc<SpooledPipe>, SpoolError>>>;

/// The content of a pipe, in a file.
struct SpooledPipe {
    file: File,
    found: FoundSource,
}

/// Why a pipe could not be read or spooled.
#[derive(Debug, Clone)]
struct SpoolError {
    location: String,
    cause: String,
    /// The folder of the file, if writing failed.
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
    /// Reads a pipe to its end, unless that has been done.
    pub(crate) async fn identify(&self, url: &SourceUrl) -> Result<FoundSource, SourceError> {
        Ok(self.spool(url).await?.found.clone())
    }

    /// Streams its content from an offset.
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

    /// Reads a range of it completely.
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

/// Starts reading a pipe.
fn start(url: SourceUrl) -> Spooling {
    let (sender, receiver) = oneshot::channel();
    let location = location(&url);
    let lost = SpoolError { location: location.clone(), cause: "the reading thread ended".to_owned(), folder: None };
    let reading = std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        // No receiver is left if the process ends.
        let _ = sender.send(spool_to_file(&url, &location).map(Arc::new));
    });
    let failed = reading.err().map(|error| SpoolError { cause: error.to_string(), ..lost.clone() });
    async move {
        match failed {
            Some(failed) => Err(failed),
            None => receiver.await.unwrap_or(Err(lost)),
        }
    }
    .boxed()
    .shared()
}

/// Its location in the ledger.
fn location(url: &SourceUrl) -> String {
    match url {
        SourceUrl::Descriptor(0) => STDIN.to_owned(),
        SourceUrl::Descriptor(_) => PIPE.to_owned(),
        SourceUrl::File(path) => absolute_path(path),
        SourceUrl::S3 { .. } => url.to_string(),
    }
}

/// Reads a pipe to its end into an unnamed file.
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
    let mut hashing = ProgressHasher::new(format!("spooling {location} to a file in {}", folder.display()));
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
    Ok(SpooledPipe { file, found: FoundSource { identity, size } })
}

/// Opens a pipe; a named one waits for a writer.
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

    /// A descriptor of a pipe that holds this text.
    fn piped(text: &str) -> (SourceUrl, io::PipeReader) {
        let (reader, mut writer) = io::pipe().unwrap();
        let text = text.to_owned();
        std::thread::spawn(move || writer.write_all(text.as_bytes()));
        (format!("/dev/fd/{}", reader.as_raw_fd()).parse().unwrap(), reader)
    }

    fn sources() -> Sources {
        Sources::new(&S3Options::default()).unwrap()
    }

    async fn read(sources: &Sources, url: &SourceUrl, found: &FoundSource, from: u64) -> String {
        let mut text = String::new();
        sources.open(url, &found.identity, from).await.unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_content_of_a_pipe_can_be_read_repeatedly() {
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
        // The same content is the same source, and a file with it would be a copy.
        let (again, _open) = piped(&text);
        assert_eq!(sources.identify(&again).await.unwrap(), found);
        let print = sources.fingerprint(&url, &found).await.unwrap().unwrap();
        assert_eq!(Some(print.as_str()), found.identity.version.replace('=', ":").get(..));
        let (other, _open) = piped("x");
        assert_ne!(sources.identify(&other).await.unwrap().identity, found.identity);
    }

    #[tokio::test]
    async fn an_earlier_version_of_a_pipe_is_gone() {
        let (url, _open) = piped("id\n");
        let sources = sources();
        sources.identify(&url).await.unwrap();
        let other = SourceIdentity::piped("pipe".to_owned(), "00");
        let error = sources.open(&url, &other, 0).await.err().unwrap();
        assert!(error.to_string().starts_with("pipe cannot be read again"), "{error}");
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
