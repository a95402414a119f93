//! Receiving broadcasts, the same for both brokers.
//!
//! Guarantee: a slow listener holds up no sender; it loses the oldest messages.

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{BroadcastListener, Message};

/// Messages kept for a slow listener.
pub(crate) const BACKLOG: usize = 256;

/// Receives from a channel in memory. It ends with the channel or with `closing`, which it cancels when dropped.
pub(crate) struct ChannelListener {
    pub(crate) receiver: broadcast::Receiver<Message>,
    pub(crate) closing: CancellationToken,
}

#[async_trait]
impl BroadcastListener for ChannelListener {
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
