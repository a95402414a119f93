//! Listening to what is broadcast to all processes, the same for both brokers.
//!
//! Guarantee: a listener that takes nothing costs nobody anything; it forgets the oldest of what it has not taken.

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{Listener, Message};

/// How many messages a listener remembers until they are taken.
pub(crate) const BACKLOG: usize = 256;

/// A listener of one channel in memory, which somebody fills. It ends with the channel or with `closing`, which it cancels
/// when it is dropped.
pub(crate) struct ChannelListener {
    pub(crate) receiver: broadcast::Receiver<Message>,
    pub(crate) closing: CancellationToken,
}

#[async_trait]
impl Listener for ChannelListener {
    async fn next(&mut self) -> Option<Message> {
        let next = async {
            loop {
                match self.receiver.recv().await {
                    Ok(message) => return Some(message),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        self.closing.run_until_cancelled(next).await.flatten()
    }
}

impl Drop for ChannelListener {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
