//! The messages that a predictor receives: a chunk, a part of a replay, or live transactions, by the message's type.

use std::num::NonZeroUsize;

use assay_queue::Message;
use assay_transaction::{Chunk, Lane, LiveMessage, ReplayPart, UnscoredChunk};
use tracing::field::Empty;
use tracing::{Span, error_span};

/// The prefix of the types of our messages.
const OWN_TYPE_PREFIX: &str = "assay.";

/// A decoded message.
#[derive(Debug)]
pub(crate) enum IncomingMessage {
    /// Rows of a source, for the first time.
    Chunk {
        chunk: UnscoredChunk,
        /// The message, whose body is passed on as it came.
        received: Box<Message>,
    },
    /// Rows that failed before.
    Replay(ReplayPart),
    /// Live transactions.
    Live {
        message: LiveMessage,
        /// Whether to score it in requests of its own, after a shared one failed.
        is_alone: bool,
    },
    /// Plain JSON of an external producer, not yet read.
    External(Message),
}

impl IncomingMessage {
    /// How many requests of so many transactions it needs, if all goes well; at least one.
    pub(crate) fn requests(&self, batch_size: NonZeroUsize) -> usize {
        let transactions = match self {
            Self::Chunk { chunk, .. } => chunk.unknown(),
            Self::Replay(part) => part.transactions.len(),
            Self::Live { message, .. } => message.transactions.len(),
            // The realtime lane takes each message for one.
            Self::External(_) => 1,
        };
        transactions.div_ceil(batch_size.get()).max(1)
    }

    /// The span of its work: every JSON log line within it has these fields.
    pub(crate) fn span(&self, lane: Lane) -> Span {
        let lane = lane.as_str();
        match self {
            Self::Chunk { chunk, .. } => error_span!("chunk", run_id = %chunk.id.run_id, chunk = chunk.id.chunk, lane),
            Self::Replay(part) => error_span!("replay", run_id = %part.id.run_id, lane),
            Self::Live { message, .. } => error_span!("live", run_id = %message.id.run_id(), lane),
            Self::External(_) => error_span!("live", run_id = Empty, lane),
        }
    }
}

/// Decodes a message; the error is the reason for a dead letter. On the realtime lane, a message without a type of ours is
/// plain JSON, and a chunk is forged: loaders publish on the batch lane, to an exchange that live producers have no right to.
pub(crate) fn decode(message: &Message, lane: Lane) -> Result<IncomingMessage, String> {
    let live = |live| IncomingMessage::Live { message: live, is_alone: message.attempt > 0 };
    match message.kind.as_str() {
        Chunk::MESSAGE_TYPE if lane == Lane::Realtime => {
            return Err("it is a chunk on the realtime lane, where only live transactions belong".to_owned());
        }
        Chunk::MESSAGE_TYPE => UnscoredChunk::decode_within(&message.body)
            .map(|chunk| IncomingMessage::Chunk { chunk, received: Box::new(message.clone()) }),
        ReplayPart::MESSAGE_TYPE => ReplayPart::decode(&message.body).map(IncomingMessage::Replay),
        LiveMessage::MESSAGE_TYPE => LiveMessage::decode(&message.body).map(live),
        other if lane == Lane::Realtime && !other.starts_with(OWN_TYPE_PREFIX) => {
            return Ok(IncomingMessage::External(message.clone()));
        }
        _ => {
            return Err(format!(
                "its type is {}, which this version of the predictor does not know",
                message.kind_shown()
            ));
        }
    }
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_by_the_batch_lane_only() {
        let body = r#"{"run_id":"run","chunk":0,"first_row":1,"rows":1,"transactions":[{"row":1,
            "transaction":{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}}]}"#;
        let chunk = Message::new("run/0", Chunk::MESSAGE_TYPE, &"run".parse().unwrap(), body);
        assert!(matches!(decode(&chunk, Lane::Batch), Ok(IncomingMessage::Chunk { .. })));
        let refused = decode(&chunk, Lane::Realtime).unwrap_err();
        assert!(refused.contains("a chunk on the realtime lane"), "{refused}");
    }
}
