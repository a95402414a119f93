//! The messages of a writer, decoded by their type: scored chunks, scored parts of a replay, and scored live transactions.

use assay_queue::{BatchItem, Message};
use assay_transaction::{ChunkScores, IdScheme, ScoredChunk, ScoredLive, ScoredReplay, WireError};

use crate::identities::foreign_scheme;

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

impl ScoredMessage {
    /// The scheme of its ids.
    fn ids(&self) -> IdScheme {
        match self {
            Self::Chunk(ScoredChunk { ids, .. })
            | Self::Replay(ScoredReplay { ids, .. })
            | Self::Live(ScoredLive { ids, .. }) => *ids,
        }
    }
}

/// Decodes a message for a database of this scheme of ids. An error is the reason for a dead letter.
pub(crate) fn decode(message: &Message, ours: IdScheme) -> Result<BatchItem<ScoredMessage>, String> {
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
    match value.ids() {
        ids if ids == ours => Ok(BatchItem { value, weight: rows }),
        other => Err(foreign_scheme(other, ours)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORED: &str = r#"{"run_id":"r","chunk":0,"first_row":1,"rows":0,"lane":"batch","predicted_at":"2026-01-11T10:00:00Z","predicted":[]}"#;
    const REPLAYED: &str =
        r#"{"run_id":"r","replay":1,"part":0,"lane":"batch","predicted_at":"2026-01-11T10:00:00Z","predicted":[]}"#;
    const LIVE: &str = r#"{"producer":"till","day":"2026-01-11","message":"m","digest":"67e55044-10b1-426f-9247-bb680e5fe0c8","predicted_at":"2026-01-11T10:00:00Z","rejected":[{"row":1,"line":1,"reason":"id_empty","message":"","raw":{"text":""}}]}"#;

    #[test]
    fn a_message_of_another_scheme_of_ids_is_refused() {
        for (kind, body) in [
            (ScoredChunk::MESSAGE_TYPE, SCORED),
            (ScoredReplay::MESSAGE_TYPE, REPLAYED),
            (ScoredLive::MESSAGE_TYPE, LIVE),
        ] {
            let message = |body: String| Message::new("m", kind, &"r".parse().unwrap(), body);
            // None is named: the first.
            let first = message(body.to_owned());
            let second = message(body.replacen('{', r#"{"ids":8,"#, 1));
            assert!(decode(&first, IdScheme::V5).is_ok() && decode(&second, IdScheme::V8).is_ok(), "{kind}");
            for (message, ours, words) in [
                (&first, IdScheme::V8, "scheme 5, and those of this database scheme 8"),
                (&second, IdScheme::V5, "scheme 8, and"),
            ] {
                let reason = decode(message, ours).unwrap_err();
                assert!(reason.contains(words) && reason.contains("update the program"), "{kind}: {reason}");
            }
        }
    }
}
