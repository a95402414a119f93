//! Drains the dead letters: rows of readable ones are recorded as failed, so that their run can be complete; every dead letter is
//! recorded for inspection.
//!
//! A dead letter is acknowledged once both are committed. Redelivered ones are recorded once.

use std::sync::Arc;

use assay_queue::{Death, DrainOutcome, Message, QueueKind, Route};
use assay_store::{
    ChunkOutcome, DeadLetter, DeadLetterOutcome, IdConflict, Numbering, Store, StoreError, UnnumberedMessage,
};
use assay_transaction::{
    Chunk, ChunkId, ChunkScores, FailureClass, IdScheme, Lane, LiveMessage, ReplayPart, RunId, ScoredChunk, ScoredLive,
    ScoredReplay, Timestamp,
};
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::message::scored_chunk;
use crate::retry::{OnRefusal, retry_store};
use crate::sweep::close_if_complete;
use crate::{WriteProgress, metrics};

#[derive(Clone)]
pub(crate) struct DeadLetterDrain {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) progress: Arc<WriteProgress>,
    pub(crate) shutdown: CancellationToken,
}

enum DeadLetterContent {
    /// Rows that may have no outcome yet.
    Chunk(Box<ScoredChunk>),
    /// Live rows that may have no outcome yet.
    Live(Box<ScoredLive>),
    /// Rows that are recorded as failed already.
    Replay,
    Unreadable,
}

impl DeadLetterContent {
    /// The scheme of the ids of its rows.
    fn ids(&self) -> Option<IdScheme> {
        match self {
            Self::Chunk(chunk) => Some(chunk.ids),
            Self::Live(live) => Some(live.ids),
            Self::Replay | Self::Unreadable => None,
        }
    }
}

impl DeadLetterDrain {
    /// Records one dead letter, and the outcome of its rows.
    pub(crate) async fn drain(&self, message: Message, death: Death) -> DrainOutcome {
        let content = read(&message, &death);
        let run_id = run_of(&message, &death, &content);
        let record = || async {
            let outcome = match &content {
                DeadLetterContent::Unreadable => DeadLetterOutcome::Unreadable,
                DeadLetterContent::Replay => DeadLetterOutcome::Known,
                // Failed rows would keep identities that no row of this database has.
                content if content.ids().is_some_and(|ids| ids != self.store.ids()) => DeadLetterOutcome::Refused,
                DeadLetterContent::Chunk(chunk) => self.record_failed(chunk).await?,
                DeadLetterContent::Live(live) => self.record_live(live).await?,
            };
            let letter = letter(&message, &death, run_id.clone(), outcome);
            let is_new = self.store.record_dead_letter(&letter).await?;
            Ok((outcome, is_new))
        };
        let Ok((outcome, is_new)) = retry_store("a dead letter", OnRefusal::Retry, &self.shutdown, record).await else {
            return DrainOutcome::NotRecorded;
        };
        if is_new {
            metrics::dead_letter(outcome);
            log_outcome(&message, &death, outcome, run_id.is_some());
        }
        if let DeadLetterContent::Chunk(chunk) = &content {
            // Live runs are closed by the sweep after their day.
            close_if_complete(&*self.store, &chunk.id.run_id, &self.progress).await;
        }
        DrainOutcome::Recorded
    }

    /// Records its rows as failed.
    async fn record_failed(&self, chunk: &ScoredChunk) -> Result<DeadLetterOutcome, StoreError> {
        // All rows fail, so ids cannot conflict.
        let chunks = std::slice::from_ref(chunk);
        let written = self.store.write(chunks, IdConflict::Fail).await?;
        metrics::wrote(chunks, &written);
        match written.outcomes.first() {
            Some(ChunkOutcome::Recorded) => {
                self.progress.add(chunk.range.rows, written.transactions);
                Ok(DeadLetterOutcome::Booked)
            }
            Some(ChunkOutcome::Refused { .. }) if !self.is_recorded(&chunk.id).await? => Ok(DeadLetterOutcome::Refused),
            _ => Ok(DeadLetterOutcome::Known),
        }
    }

    /// Assigns row numbers to a live message, unless they were refused, and records its rows.
    async fn record_live(&self, live: &ScoredLive) -> Result<DeadLetterOutcome, StoreError> {
        let arrival = UnnumberedMessage { id: &live.id, rows: live.rows() };
        match self.store.number(&[arrival], Utc::now()).await?.pop() {
            Some(Numbering::Place(place)) => self.record_failed(&live.clone().into_chunk(place)).await,
            _ => Ok(DeadLetterOutcome::Refused),
        }
    }

    async fn is_recorded(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let found = self.store.recorded_chunks(&id.run_id, id.chunk, 1).await?;
        Ok(found.first().is_some_and(|recorded| recorded.chunk == id.chunk))
    }
}

/// Decodes a dead letter of any stage.
fn read(message: &Message, death: &Death) -> DeadLetterContent {
    if is_forged(message, death) {
        return DeadLetterContent::Unreadable;
    }
    let class = FailureClass::DeadLettered;
    let lane = if death.queue.ends_with(Lane::Realtime.as_str()) { Lane::Realtime } else { Lane::Batch };
    let reason = format!("dead letter of {}: {}", death.queue, death.reason);
    let content = match message.kind.as_str() {
        Chunk::MESSAGE_TYPE => Chunk::decode(&message.body)
            .map(|chunk| ScoredChunk::all_failed(chunk, lane, Timestamp::from(Utc::now()), &class, &reason))
            .map(|chunk| DeadLetterContent::Chunk(Box::new(chunk))),
        ChunkScores::MESSAGE_TYPE | ScoredChunk::MESSAGE_TYPE => scored_chunk(message)
            .map(|chunk| DeadLetterContent::Chunk(Box::new(chunk.without_predictions(&class, &reason)))),
        LiveMessage::MESSAGE_TYPE => LiveMessage::decode(&message.body)
            .map(|live| ScoredLive::all_failed(live, Timestamp::from(Utc::now()), &class, &reason))
            .map(|live| DeadLetterContent::Live(Box::new(live))),
        ScoredLive::MESSAGE_TYPE => ScoredLive::decode(&message.body)
            .map(|live| DeadLetterContent::Live(Box::new(live.without_predictions(&class, &reason)))),
        ReplayPart::MESSAGE_TYPE => ReplayPart::decode(&message.body).map(|_| DeadLetterContent::Replay),
        ScoredReplay::MESSAGE_TYPE => ScoredReplay::decode(&message.body).map(|_| DeadLetterContent::Replay),
        _ => return DeadLetterContent::Unreadable,
    };
    content.unwrap_or(DeadLetterContent::Unreadable)
}

/// Whether it is a chunk where live producers may publish: it must not stand for the real one, whose rows it would fail.
fn is_forged(message: &Message, death: &Death) -> bool {
    let live = Route { kind: QueueKind::Transactions, lane: Lane::Realtime };
    // Of any version.
    let is_chunk = ["assay.chunk.", "assay.scored."].iter().any(|kind| message.kind.starts_with(kind));
    is_chunk && death.queue == live.to_string()
}

/// The run of a message: by its body, else its header, else the start of its id. An invalid run name is ignored: it may be too
/// long for the database to index, and the dead letter could never be recorded.
fn run_of(message: &Message, death: &Death, content: &DeadLetterContent) -> Option<String> {
    match content {
        DeadLetterContent::Chunk(chunk) => return Some(chunk.id.run_id.to_string()),
        DeadLetterContent::Live(live) => return Some(live.id.run_id().to_string()),
        DeadLetterContent::Replay | DeadLetterContent::Unreadable => {}
    }
    if is_forged(message, death) {
        // Nor may it stall a run.
        return None;
    }
    let start_of_id = message.id.split_once('/').map(|(start, _)| start);
    let named = [Some(message.run_id.as_str()), start_of_id].into_iter().flatten();
    named.filter_map(|name| name.parse::<RunId>().ok()).map(|run_id| run_id.to_string()).next()
}

fn letter(message: &Message, death: &Death, run_id: Option<String>, outcome: DeadLetterOutcome) -> DeadLetter {
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DeadLetter {
        queue: death.queue.clone(),
        message_id: named(&message.id),
        message_type: named(&message.kind),
        run_id,
        reason: death.reason.clone(),
        attempt: message.attempt,
        body: message.whole(),
        outcome,
    }
}

fn log_outcome(message: &Message, death: &Death, outcome: DeadLetterOutcome, has_run: bool) {
    let Death { queue, reason } = death;
    let consequence = match outcome {
        DeadLetterOutcome::Booked => "its rows are recorded as failed; `assay replay` sends them again",
        DeadLetterOutcome::Known => "its rows were recorded before",
        // Such as an unreadable bucket event.
        DeadLetterOutcome::Unreadable | DeadLetterOutcome::Refused if !has_run => "it belongs to no run",
        DeadLetterOutcome::Unreadable | DeadLetterOutcome::Refused => {
            "its run is stalled; `assay repair` reads the source again"
        }
    };
    warn!(message_id = message.id, "dead letter of {queue} ({reason}): {consequence}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assay_store::DatabaseOptions;

    use super::*;

    fn message(id: &str, kind: &str, body: &str) -> Message {
        Message { run_id: String::new(), ..Message::new(id, kind, &"x".parse().unwrap(), body.to_owned()) }
    }

    fn death() -> Death {
        Death { queue: "transactions.batch".to_owned(), reason: "delivery_limit".to_owned() }
    }

    #[test]
    fn the_run_is_found_in_body_header_and_id() {
        let in_header = |run_id: &str, id| Message { run_id: run_id.to_owned(), ..message(id, "what", "") };
        let cases = [
            (in_header("header", "id/3"), Some("header")),
            (in_header(&"a".repeat(10_000), "id/3"), Some("id")),
            (in_header("no run", "3"), None),
            (message("id/3", "what", ""), Some("id")),
            (message("", "what", ""), None),
        ];
        for (message, expected) in cases {
            let content = read(&message, &death());
            assert_eq!(run_of(&message, &death(), &content).as_deref(), expected, "{message:?}");
        }
    }

    #[test]
    fn every_row_of_a_readable_chunk_has_an_outcome() {
        let row = r#"{"row":1,"transaction":{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}}"#;
        let chunk = format!(r#"{{"run_id":"run","chunk":0,"first_row":1,"rows":1,"transactions":[{row}]}}"#);
        let scored = format!(
            r#"{{"run_id":"run","chunk":0,"first_row":1,"rows":1,"lane":"batch","predicted_at":"2026-01-11T10:00:00Z","predicted":[{{"entry":{row},"prediction":{{"prediction":"fraud"}}}}]}}"#
        );
        for (kind, body) in [(Chunk::MESSAGE_TYPE, &chunk), (ScoredChunk::MESSAGE_TYPE, &scored)] {
            let DeadLetterContent::Chunk(given_up) = read(&message("run/0", kind, body), &death()) else {
                panic!("{kind} is read")
            };
            assert!(given_up.accounts_for_its_rows() && given_up.predicted.is_empty());
            assert_eq!(given_up.failed[0].class, FailureClass::DeadLettered);
            assert_eq!(given_up.failed[0].reason, "dead letter of transactions.batch: delivery_limit");
        }
        let live = Death { queue: "transactions.realtime".to_owned(), ..death() };
        for kind in [Chunk::MESSAGE_TYPE, ScoredChunk::MESSAGE_TYPE] {
            let forged = message("run/0", kind, if kind == Chunk::MESSAGE_TYPE { &chunk } else { &scored });
            let content = read(&forged, &live);
            assert!(matches!(content, DeadLetterContent::Unreadable), "{kind}");
            assert_eq!(run_of(&forged, &live, &content), None, "{kind}");
        }
        assert!(matches!(read(&message("run/0", Chunk::MESSAGE_TYPE, "{"), &death()), DeadLetterContent::Unreadable));
        assert!(matches!(read(&message("run/0", "assay.chunk.v9", &chunk), &death()), DeadLetterContent::Unreadable));
    }

    #[tokio::test]
    async fn rows_of_another_scheme_of_ids_get_no_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("assay.db").display());
        let (database, timeout) = (DatabaseOptions::default().or_default(&url), Duration::from_secs(30));
        assay_store::migrate(&database, timeout).await.unwrap();
        let store = assay_store::connect(&database, "test", timeout).await.unwrap();
        let drain =
            DeadLetterDrain { store: Arc::clone(&store), progress: Arc::default(), shutdown: CancellationToken::new() };
        let digest = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let live = format!(
            r#"{{"producer":"till","day":"{}","message":"m","digest":"{digest}","transactions":[{{"row":1,"transaction":{{"id":"{digest}"}}}}]}}"#,
            Utc::now().date_naive()
        );
        for (body, expected) in [
            (live.clone(), DeadLetterOutcome::Refused),
            (live.replacen('{', r#"{"ids":8,"#, 1), DeadLetterOutcome::Booked),
        ] {
            let letter = message(expected.as_str(), LiveMessage::MESSAGE_TYPE, &body);
            assert_eq!(drain.drain(letter, death()).await, DrainOutcome::Recorded);
            let letters = store.dead_letters(None, 10).await.unwrap();
            assert!(letters.iter().any(|letter| letter.letter.outcome == expected), "{letters:?}");
            let failed = store.failed_with_id(digest.parse().unwrap()).await.unwrap();
            assert_eq!(failed.len(), usize::from(expected == DeadLetterOutcome::Booked));
        }
    }
}
