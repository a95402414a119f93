//! The notice to predictors of how the ids of the database become identities, `assay.identities.v1`.

use serde::{Deserialize, Serialize};

use super::message;
use crate::IdScheme;

/// The scheme of ids of the writers' database, repeated while they run: predictors have no database, and must identify the
/// transactions of external producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitiesNotice {
    /// The scheme.
    pub ids: IdScheme,
}

message!(IdentitiesNotice, "assay.identities.v1");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{
        Chunk, ChunkId, FailureClass, Lane, LiveId, LiveMessage, LivePlacement, ReplayId, ReplayPart, RowRange,
        ScoredChunk, ScoredLive, Timestamp,
    };

    #[test]
    fn a_notice_is_pinned() {
        let notice = IdentitiesNotice { ids: IdScheme::V8 };
        let body = notice.encode().unwrap();
        assert_eq!(body, br#"{"ids":8}"#);
        assert_eq!(IdentitiesNotice::decode(&body).unwrap(), notice);
        for unknown in ["{}", r#"{"ids":7}"#] {
            assert!(IdentitiesNotice::decode(unknown.as_bytes()).is_err());
        }
    }

    #[test]
    fn every_message_names_the_scheme_of_its_ids() {
        let chunk = Chunk {
            id: ChunkId { run_id: "run".parse().unwrap(), chunk: 0 },
            range: RowRange { first_row: 1, rows: 1 },
            ids: IdScheme::V8,
            transactions: vec![entry(1)],
            rejected: Vec::new(),
            known: Vec::new(),
        };
        let day = "2026-01-11".parse().unwrap();
        let id = LiveId::new("shop".parse().unwrap(), day, "m-1".into(), b"body", true);
        let live = LiveMessage { id, ids: IdScheme::V8, transactions: vec![entry(1)], rejected: Vec::new() };
        let id = ReplayId { run_id: "run".parse().unwrap(), replay: 1, part: 0 };
        let replay = ReplayPart { id, ids: IdScheme::V8, transactions: vec![entry(1)] };
        let (at, class) = (Timestamp::from(chrono::DateTime::UNIX_EPOCH), FailureClass::Cancelled);
        let scored = ScoredChunk::all_failed(chunk.clone(), Lane::Batch, at, &class, "");
        let scored_live = ScoredLive::all_failed(live.clone(), at, &class, "");
        macro_rules! named {
            ($($message:expr => $kind:ident),*) => {$(
                let body = String::from_utf8($message.encode().unwrap()).unwrap();
                assert!(body.contains(r#","ids":8,"#), "{body}");
                assert_eq!($kind::decode(body.as_bytes()).unwrap().ids, IdScheme::V8);
                let earlier = body.replace(r#","ids":8"#, "");
                assert_eq!($kind::decode(earlier.as_bytes()).unwrap().ids, IdScheme::V5);
            )*};
        }
        named!(chunk => Chunk, live => LiveMessage, replay => ReplayPart, scored => ScoredChunk, scored_live => ScoredLive);
        let place = LivePlacement { id: ChunkId { run_id: "run".parse().unwrap(), chunk: 0 }, first_row: 1 };
        assert_eq!(scored_live.into_chunk(place).ids, IdScheme::V8);
    }
}
