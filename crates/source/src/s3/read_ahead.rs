//! Streams an object and fetches the next part while the current one is processed.
//!
//! One connection has limited throughput, and none while its bytes are not read, so a large object is read in ranges of
//! [`PART_BYTES`] (a request costs a round trip). At most [`PARTS`] are in memory or in flight, 4 MiB whatever the
//! object, to keep a loader small. Three parts of 4 MiB took 15 MB more and were no faster where the rows are the
//! bottleneck. A small object is one request.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::SourceError;
use crate::s3::download::{Download, ObjectVersion};

/// Size of one range request.
const PART_BYTES: u64 = 2 * 1024 * 1024;
/// Parts in memory or in flight, including the one being read.
const PARTS: usize = 2;
/// Bytes read from the first part before others are requested: more than an inspection of the head reads.
const HEAD_BYTES: u64 = 1024 * 1024;

pub(crate) struct ReadAhead {
    object: Arc<ObjectVersion>,
    /// Size of the object.
    size: u64,
    /// The first part, read as it arrives.
    first: Option<Download>,
    /// Bytes read from it.
    read: u64,
    /// The following parts, in order.
    ahead: VecDeque<PrefetchedPart>,
    /// Start of the next part to request.
    next: u64,
}

impl ReadAhead {
    /// Requests the first part and waits for the start of its response.
    pub(crate) async fn open(object: Arc<ObjectVersion>, from: u64) -> Result<Self, SourceError> {
        let mut first = Download::new(Arc::clone(&object), from..from.saturating_add(PART_BYTES));
        let size = first.open().await?;
        let next = first.end();
        Ok(Self { object, size, first: Some(first), read: 0, ahead: VecDeque::new(), next })
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if let Some(first) = &mut self.first {
            if let Some(bytes) = first.next().await? {
                self.read += bytes.len() as u64;
                if self.read >= HEAD_BYTES {
                    self.prefetch();
                }
                return Ok(Some(bytes));
            }
            self.first = None;
        }
        loop {
            self.prefetch();
            let Some(part) = self.ahead.front_mut() else { return Ok(None) };
            if let Some(bytes) = part.next().await? {
                return Ok(Some(bytes));
            }
            self.ahead.pop_front();
        }
    }

    fn prefetch(&mut self) {
        while self.next < self.size && self.ahead.len() + usize::from(self.first.is_some()) < PARTS {
            let end = self.size.min(self.next + PART_BYTES);
            self.ahead.push_back(PrefetchedPart::start(&self.object, self.next, end, self.size));
            self.next = end;
        }
    }
}

/// A part fetched by its own task; its memory is bounded by the range.
struct PrefetchedPart {
    bytes: mpsc::UnboundedReceiver<Result<Bytes, SourceError>>,
    /// Bytes still to be read.
    left: u64,
    _task: AbortOnDropHandle<()>,
}

impl PrefetchedPart {
    fn start(object: &Arc<ObjectVersion>, from: u64, end: u64, size: u64) -> Self {
        let object = Arc::clone(object);
        let (sender, bytes) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut download = Download::new(Arc::clone(&object), from..end);
            let opened = match download.open().await {
                Ok(found) if found != size => Err(object.replaced()),
                opened => opened.map(drop),
            };
            let mut piece = opened.map(|()| None);
            loop {
                let sent = match piece {
                    Ok(Some(bytes)) => sender.send(Ok(bytes)),
                    Ok(None) => Ok(()),
                    Err(error) => {
                        // The receiver may be gone.
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
                piece = match download.next().await {
                    Ok(None) => return,
                    piece => piece,
                };
            }
        });
        Self { bytes, left: end - from, _task: AbortOnDropHandle::new(task) }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.left == 0 {
            return Ok(None);
        }
        // A part that ends early must not look like the end of the source.
        let lost = || Err(SourceError::Read { cause: "a part of it ended early".to_owned() });
        let bytes = self.bytes.recv().await.unwrap_or_else(lost)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(Some(bytes))
    }
}
