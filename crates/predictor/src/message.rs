//! What a predictor takes from the broker: a chunk, a part of a replay, or live transactions; read by the message's type.

use assay_queue::Message;
use assay_transaction::{Chunk, Lane, LiveMessage, ReplayPart};

use crate::external::ExternalReader;

/// What the types of our messages begin with.
const OWN_TYPE_PREFIX: &str = "assay.";

/// One message's work.
#[derive(Debug)]
pub(crate) enum IncomingMessage {
    /// RowCounts of a source, for the first time.
    Chunk(Chunk),
    /// RowCounts that failed before.
    Replay(ReplayPart),
    /// Live transactions.
    Live {
        message: LiveMessage,
        /// Whether they share no request with others: they did before, and nothing came of it.
        alone: bool,
    },
}

/// Reads a message; the error is the reason for a dead letter. On the realtime lane, what has no type of ours is plain JSON.
pub(crate) fn decode(message: &Message, lane: Lane, external: &ExternalReader) -> Result<IncomingMessage, String> {
    let live = |live| IncomingMessage::Live { message: live, alone: message.attempt > 0 };
    match message.kind.as_str() {
        Chunk::MESSAGE_TYPE => Chunk::decode(&message.body).map(IncomingMessage::Chunk),
        ReplayPart::MESSAGE_TYPE => ReplayPart::decode(&message.body).map(IncomingMessage::Replay),
        LiveMessage::MESSAGE_TYPE => LiveMessage::decode(&message.body).map(live),
        other if lane == Lane::Realtime && !other.starts_with(OWN_TYPE_PREFIX) => {
            return external.read(message).map(live);
        }
        _ => return Err(format!("its type is {}, which no predictor of this version reads", message.kind_shown())),
    }
    .map_err(|error| error.to_string())
}
