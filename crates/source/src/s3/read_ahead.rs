//! An object as a stream, with the next parts of it on their way while the one before is worked on.
//!
//! One connection to S3 gives what one connection gives, and nothing while its bytes are not taken; so a large object comes
//! in ranges, some at a time. They are [`PART_BYTES`] each, as a request costs a round trip, and no more than [`PARTS`] are
//! in memory or on their way, as a loader is to stay small: 4 MiB, whatever the object. Three of 4 MiB took 15 MB more of a
//! loader, and were no faster where the rows behind them are the slower part. A small object is one request.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::SourceError;
use crate::s3::download::{Download, ObjectVersion};

/// How much is asked for at a time.
const PART_BYTES: u64 = 2 * 1024 * 1024;
/// How many parts are in memory or on their way, the one that is being taken among them.
const PARTS: usize = 2;
/// How much of the first part is taken before others are asked for: more than whoever looks at the head of a source takes.
const HEAD_BYTES: u64 = 1024 * 1024;

/// See the module.
pub(crate) struct ReadAhead {
    object: Arc<ObjectVersion>,
    /// How many bytes the object has.
    size: u64,
    /// The first part, which is taken as it comes.
    first: Option<Download>,
    /// How much was taken of it.
    taken: u64,
    /// The parts behind it, in order.
    ahead: VecDeque<PrefetchedPart>,
    /// Where the next part begins that was not asked for.
    next: u64,
}

impl ReadAhead {
    /// Asks for the first part, and waits for the start of its answer.
    pub(crate) async fn open(object: Arc<ObjectVersion>, from: u64) -> Result<Self, SourceError> {
        let mut first = Download::new(Arc::clone(&object), from..from.saturating_add(PART_BYTES));
        let size = first.open().await?;
        let next = first.end();
        Ok(Self { object, size, first: Some(first), taken: 0, ahead: VecDeque::new(), next })
    }

    /// The next bytes, none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if let Some(first) = &mut self.first {
            if let Some(bytes) = first.next().await? {
                self.taken += bytes.len() as u64;
                if self.taken >= HEAD_BYTES {
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

/// A part that is fetched by a task of its own. What it holds is bounded by what was asked for.
struct PrefetchedPart {
    bytes: mpsc::UnboundedReceiver<Result<Bytes, SourceError>>,
    /// How many bytes are still to be taken.
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
                        // Where nobody listens, nobody misses it.
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
        // A part that ends too early must not look like the end of the source.
        let lost = || Err(SourceError::Read { cause: "a part of it ended unexpectedly".to_owned() });
        let bytes = self.bytes.recv().await.unwrap_or_else(lost)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(Some(bytes))
    }
}
