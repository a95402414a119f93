//! Foreign messages: random bytes, and valid messages that were changed. None makes a decoder panic, and a readable one
//! is encoded again as it was.
//!
//! `corpus/` holds messages by expected result: `read-…` are readable, `refused-…` are not. Failures found by
//! properties are kept next to this file and tried first.

mod corpus;
mod mutation;
mod valid;

use assay_transaction::{
    Chunk, ChunkScores, EncodedTransaction, Lane, Prediction, ScoredChunk, UnscoredChunk, WireError,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::mutation::{Mutation, mutate};

/// Most bytes of the reason for an unreadable message, which is logged and sent in a header.
const LONGEST_REASON: usize = 300;

fn many() -> ProptestConfig {
    let kept = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases: 4096, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

/// A readable message: it is encoded as it was, and passes its first uses.
fn check_chunk(chunk: &Chunk) {
    let body = chunk.encode().unwrap();
    let again = Chunk::decode(&body).unwrap();
    assert_eq!(&again, chunk);
    assert_eq!(again.encode().unwrap(), body);
    for entry in &chunk.transactions {
        check_transaction(&entry.transaction);
    }
}

fn check_scored(chunk: &ScoredChunk) {
    let body = chunk.encode().unwrap();
    let again = ScoredChunk::decode(&body).unwrap();
    assert_eq!(&again, chunk);
    assert_eq!(again.encode().unwrap(), body);
    assert_eq!(again.accounts_for_its_rows(), chunk.accounts_for_its_rows());
    for predicted in &chunk.predicted {
        check_transaction(&predicted.entry.transaction);
    }
}

/// For any JSON, the id matches the decoded one, and encoding again gives the same transaction.
fn check_transaction(encoded: &EncodedTransaction) {
    let decoded = encoded.decode();
    let id = encoded.id();
    for error in [decoded.as_ref().err(), id.as_ref().err()].into_iter().flatten() {
        check_reason(error);
    }
    if let Ok(transaction) = decoded {
        assert_eq!(transaction.id, id.unwrap());
        assert_eq!(EncodedTransaction::new(&transaction).unwrap().decode().unwrap(), transaction);
    }
}

fn check_reason(error: &WireError) {
    let reason = error.to_string();
    assert!(reason.len() <= LONGEST_REASON && !reason.contains(['\n', '\0']), "{} bytes: {reason:.300}", reason.len());
}

/// Decodes bytes as the scores of a chunk.
fn read_scores(head: &[u8], chunk: &[u8]) {
    let scored = ChunkScores::decode(head).and_then(|scores| scores.with_chunk(&bytes::Bytes::copy_from_slice(chunk)));
    match scored {
        Ok(scored) => check_scored(&scored),
        Err(error) => check_reason(&error),
    }
}

/// Decodes bytes as each message.
fn read(body: &[u8]) {
    read_scores(body, body);
    match Chunk::decode(body) {
        Ok(chunk) => check_chunk(&chunk),
        Err(error) => check_reason(&error),
    }
    match ScoredChunk::decode(body) {
        Ok(chunk) => check_scored(&chunk),
        Err(error) => check_reason(&error),
    }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&body);
    }

    #[test]
    fn any_json_like_text_is_read_or_refused(
        body in r#"([{}\[\],:"]|"(run_id|chunk|first_row|rows|transactions|predicted|a)"|-?[0-9]{1,20}|null|true|1e999|"\\ud800"|"\\u0000"|\\){0,40}"#,
    ) {
        read(body.as_bytes());
    }

    #[test]
    fn encoded_messages_decode(chunk in valid::chunk(), scored in valid::scored()) {
        check_chunk(&chunk);
        check_scored(&scored);
    }

    #[test]
    fn a_changed_message_is_read_or_refused(
        chunk in valid::chunk(),
        scored in valid::scored(),
        mutations in prop::collection::vec(any::<Mutation>(), 1..6),
    ) {
        read(&mutate(chunk.encode().unwrap(), &mutations));
        read(&mutate(scored.encode().unwrap(), &mutations));
        let body = bytes::Bytes::from(chunk.encode().unwrap());
        let unscored = UnscoredChunk::decode_within(&body).unwrap();
        let prediction = Prediction { prediction: "fraud".into(), fraud_score: Some(0.5), ..Prediction::default() };
        let outcomes = unscored.to_score().iter().map(|_| Ok(prediction.clone())).collect();
        let at = chrono::Utc::now().into();
        let scores = ChunkScores::new(&unscored, Lane::Batch, at, outcomes).encode().unwrap();
        read_scores(&mutate(scores, &mutations), &body);
    }

    #[test]
    fn a_replaced_field_is_read_or_refused(
        scored in valid::scored(),
        at in any::<prop::sample::Index>(),
        by in prop::sample::select(mutation::VALUES),
    ) {
        let text = String::from_utf8(scored.encode().unwrap()).unwrap();
        read(mutation::replace_value(&text, at, by).as_bytes());
    }
}

/// Nesting that would overflow a stack, wherever a message accepts any JSON.
#[test]
fn deep_nesting_is_read_or_refused() {
    for depth in [100, 127, 128, 129, 10_000, 2_000_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            read(deep.as_bytes());
            read(open.repeat(depth).as_bytes());
            let messages = [
                format!(r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":1,"new":{deep},"transactions":[]}}"#),
                format!(
                    r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":1,"transactions":[{{"row":1,"new":{deep},"transaction":{{}}}}]}}"#
                ),
                format!(
                    r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":1,"transactions":[{{"row":1,"transaction":{deep}}}]}}"#
                ),
                format!(
                    r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":1,"transactions":[{{"row":1,"transaction":{{"id":{deep}}}}}]}}"#
                ),
                format!(r#"{{"run_id":{deep}}}"#),
            ];
            for message in messages {
                read(message.as_bytes());
            }
        }
    }
}

/// The reason goes to the log and into a header of the dead letter, and messages hold personal data.
#[test]
fn a_reason_is_short_and_quotes_nothing() {
    let secret = "4111 1111 1111 1111 ";
    let long = secret.repeat(50_000);
    let refused = [
        format!(r#"{{"run_id":"{long}","chunk":0,"first_row":1,"rows":0,"transactions":[]}}"#),
        format!(r#"{{"run_id":"a","chunk":"{long}","first_row":1,"rows":0,"transactions":[]}}"#),
        format!(r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":0,"transactions":"{long}"}}"#),
        format!(r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":0,"transactions":[],"rejected":"{secret}"}}"#),
        format!(
            r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":0,"transactions":[],"rejected":[{{"row":1,"line":1,"reason":"x","message":"x","raw":{{"{long}":"x"}}}}]}}"#
        ),
        format!("\"{long}\""),
        format!("{{\"{long}"),
    ];
    for body in refused {
        let error = Chunk::decode(body.as_bytes()).unwrap_err();
        check_reason(&error);
        assert!(!error.to_string().contains("4111"), "{error}");
    }
    let lane = format!(
        r#"{{"run_id":"a","chunk":0,"first_row":1,"rows":0,"lane":"{long}","predicted_at":"2026-01-01T00:00:00Z","predicted":[]}}"#
    );
    let error = ScoredChunk::decode(lane.as_bytes()).unwrap_err();
    check_reason(&error);
    assert!(!error.to_string().contains("4111"), "{error}");
    let transaction: EncodedTransaction = serde_json::from_str(&format!(r#"{{"id":"{long}"}}"#)).unwrap();
    for error in [transaction.id().unwrap_err(), transaction.decode().unwrap_err()] {
        check_reason(&error);
        assert!(!error.to_string().contains("4111"), "{error}");
    }
}
