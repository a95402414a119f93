//! What a predictor takes from the broker: a chunk, or a part of a replay; read by the message's type.

use assay_queue::Message;
use assay_transaction::{Chunk, ReplayPart};

/// One message's work.
#[derive(Debug)]
pub(crate) enum Task {
    /// Rows of a source, for the first time.
    Chunk(Chunk),
    /// Rows that failed before.
    Replay(ReplayPart),
}

/// Reads a message; the error is the reason for a dead letter.
pub(crate) fn decode(message: &Message) -> Result<Task, String> {
    match message.kind.as_str() {
        Chunk::MESSAGE_TYPE => Chunk::decode(&message.body).map(Task::Chunk),
        ReplayPart::MESSAGE_TYPE => ReplayPart::decode(&message.body).map(Task::Replay),
        other => return Err(format!("its type is `{other}`, which no predictor of this version reads")),
    }
    .map_err(|error| error.to_string())
}
