//! What a writer takes from the broker: a scored chunk, a scored part of a replay, or scored live transactions; read by the message's type.

use assay_queue::{Message, Weighed};
use assay_transaction::{ScoredChunk, ScoredLive, ScoredReplay};

/// One message's content.
#[derive(Debug)]
pub(crate) enum ScoredMessage {
    /// Rows of a source, for the first time.
    Chunk(ScoredChunk),
    /// Rows that failed before.
    Replay(ScoredReplay),
    /// Live transactions, which have no place in their run yet.
    Live(ScoredLive),
}

/// Reads a message; the error is the reason for a dead letter.
pub(crate) fn decode(message: &Message) -> Result<Weighed<ScoredMessage>, String> {
    let (scored, rows) = match message.kind.as_str() {
        ScoredChunk::MESSAGE_TYPE => {
            let chunk = ScoredChunk::decode(&message.body).map_err(|error| error.to_string())?;
            let rows = usize::try_from(chunk.range.rows).unwrap_or(usize::MAX);
            (ScoredMessage::Chunk(chunk), rows)
        }
        ScoredReplay::MESSAGE_TYPE => {
            let part = ScoredReplay::decode(&message.body).map_err(|error| error.to_string())?;
            let rows = part.predicted.len() + part.failed.len();
            (ScoredMessage::Replay(part), rows)
        }
        ScoredLive::MESSAGE_TYPE => {
            let live = ScoredLive::decode(&message.body).map_err(|error| error.to_string())?;
            let rows = usize::try_from(live.rows()).unwrap_or(usize::MAX);
            (ScoredMessage::Live(live), rows)
        }
        _ => return Err(format!("its type is {}, which no writer of this version reads", message.kind_shown())),
    };
    Ok(Weighed { value: scored, weight: rows })
}
