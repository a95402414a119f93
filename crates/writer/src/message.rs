//! The messages of a writer, decoded by their type: scored chunks, scored parts of a replay, and scored live transactions.

use assay_queue::{BatchItem, Message};
use assay_transaction::{ChunkScores, ScoredChunk, ScoredLive, ScoredReplay, WireError};

#[derive(Debug)]
pub(crate) enum ScoredMessage {
    /// Rows of a source.
    Chunk(ScoredChunk),
    /// Rows that failed before.
    Replay(ScoredReplay),
    /// Live transactions, which have no row numbers yet.
    Live(ScoredLive),
}

/// Decodes a scored chunk: scores that enclose their chunk, or, from earlier versions, both in one.
pub(crate) fn scored_chunk(message: &Message) -> Result<ScoredChunk, WireError> {
    match &message.enclosed {
        Some(chunk) if message.kind == ChunkScores::MESSAGE_TYPE => {
            ChunkScores::decode(&message.body)?.with_chunk(chunk)
        }
        _ => ScoredChunk::decode(&message.body),
    }
}

/// Decodes a message. An error is the reason for a dead letter.
pub(crate) fn decode(message: &Message) -> Result<BatchItem<ScoredMessage>, String> {
    let invalid = |error: WireError| error.to_string();
    let (value, rows) = match message.kind.as_str() {
        ChunkScores::MESSAGE_TYPE | ScoredChunk::MESSAGE_TYPE => {
            let chunk = scored_chunk(message).map_err(invalid)?;
            let rows = usize::try_from(chunk.range.rows).unwrap_or(usize::MAX);
            (ScoredMessage::Chunk(chunk), rows)
        }
        ScoredReplay::MESSAGE_TYPE => {
            let part = ScoredReplay::decode(&message.body).map_err(invalid)?;
            let rows = part.predicted.len() + part.failed.len();
            (ScoredMessage::Replay(part), rows)
        }
        ScoredLive::MESSAGE_TYPE => {
            let live = ScoredLive::decode(&message.body).map_err(invalid)?;
            let rows = usize::try_from(live.rows()).unwrap_or(usize::MAX);
            (ScoredMessage::Live(live), rows)
        }
        _ => return Err(format!("its type is {}, which no writer of this version reads", message.kind_shown())),
    };
    Ok(BatchItem { value, weight: rows })
}
