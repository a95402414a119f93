//! Dead letters.

use assay_store::{DeadLetter, DeadLetterOutcome, IdConflict};

use crate::chunks::{begin, part, run_id};
use crate::database::Database;

on_both! {
    a_letter_is_recorded_once,
    letters_come_latest_first,
    an_unreadable_letter_blocks_its_run_until_resolved,
    a_resolved_letter_that_comes_again_blocks_again,
    parts_of_a_replay_are_given_up_once,
    a_letter_from_before_its_run_blocks_nothing,
}

pub(crate) fn letter() -> DeadLetter {
    DeadLetter {
        queue: "transactions.batch".into(),
        message_id: Some("a/7".into()),
        message_type: Some("assay.chunk.v1".into()),
        run_id: Some("a".into()),
        reason: "delivery_limit".into(),
        attempt: 3,
        body: b"{\"run_id\":\0\xff".to_vec(),
        outcome: DeadLetterOutcome::Unreadable,
    }
}

async fn a_letter_is_recorded_once(database: &Database) {
    let store = &*database.store;
    assert!(store.record_dead_letter(&letter()).await.unwrap());
    let again = DeadLetter { reason: "expired".into(), attempt: 4, outcome: DeadLetterOutcome::Booked, ..letter() };
    for same in [letter(), again.clone()] {
        assert!(!store.record_dead_letter(&same).await.unwrap());
    }
    let recorded = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(recorded.len(), 1);
    // As it came last.
    assert_eq!((&recorded[0].letter, recorded[0].resolved_at), (&again, None));
    let others = [
        DeadLetter { queue: "predictions.batch".into(), ..letter() },
        DeadLetter { message_id: None, ..letter() },
        DeadLetter { body: b"other".to_vec(), ..letter() },
        // The boundary between two fields counts.
        DeadLetter { queue: "transactions.batcha".into(), message_id: Some("/7".into()), ..letter() },
    ];
    for other in others {
        assert!(store.record_dead_letter(&other).await.unwrap(), "{other:?}");
    }
}

async fn letters_come_latest_first(database: &Database) {
    let store = &*database.store;
    let bare = DeadLetter { message_id: None, message_type: None, run_id: None, body: Vec::new(), ..letter() };
    let strange = DeadLetter {
        queue: "q\0".into(),
        message_id: Some("\0".into()),
        run_id: Some("no run\0 'at all'".into()),
        reason: "\0".into(),
        attempt: u32::MAX,
        outcome: DeadLetterOutcome::Known,
        ..letter()
    };
    for letter in [letter(), bare.clone(), strange] {
        assert!(store.record_dead_letter(&letter).await.unwrap());
    }
    let all = store.dead_letters(None, 10).await.unwrap();
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id && pair[0].received_at >= pair[1].received_at));
    assert_eq!((&all[1].letter, &all[2].letter), (&bare, &letter()));
    let strange = &all[0].letter;
    assert_eq!(strange.run_id.as_deref().map(|text| text.replace('\u{fffd}', "\0")).unwrap(), "no run\0 'at all'");
    assert_eq!((strange.attempt, strange.outcome), (u32::MAX, DeadLetterOutcome::Known));
    assert_eq!(store.dead_letters(Some(&run_id("a")), 10).await.unwrap(), all[2..]);
    assert_eq!(store.dead_letters(None, 1).await.unwrap(), all[..1]);
}

async fn an_unreadable_letter_blocks_its_run_until_resolved(database: &Database) {
    use DeadLetterOutcome::{Booked, Known, Refused, Unreadable};
    let store = &*database.store;
    for (number, (run, outcome)) in
        [("a", Booked), ("a", Known), ("a", Unreadable), ("a", Refused), ("b", Unreadable)].into_iter().enumerate()
    {
        let body = number.to_string().into_bytes();
        store.record_dead_letter(&DeadLetter { run_id: Some(run.into()), outcome, body, ..letter() }).await.unwrap();
    }
    let (a, b) = (run_id("a"), run_id("b"));
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 2);
    assert_eq!(store.blocking_dead_letters(&run_id("c")).await.unwrap(), 0);
    let open = store.open_dead_letters(&a).await.unwrap();
    assert_eq!(store.resolve_dead_letters(&open).await.unwrap(), 2);
    assert_eq!(store.resolve_dead_letters(&open).await.unwrap(), 0);
    assert_eq!(store.resolve_dead_letters(&[]).await.unwrap(), 0);
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 0);
    assert_eq!(store.blocking_dead_letters(&b).await.unwrap(), 1);
    let resolved = store.dead_letters(Some(&a), 10).await.unwrap();
    for record in resolved {
        let is_resolved = record.resolved_at.is_some();
        assert_eq!(is_resolved, matches!(record.letter.outcome, Unreadable | Refused), "{record:?}");
    }
}

async fn a_resolved_letter_that_comes_again_blocks_again(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    store.record_dead_letter(&letter()).await.unwrap();
    let before = store.open_dead_letters(&a).await.unwrap();
    // It comes again between listing and repair, as a republished message may die again.
    store.record_dead_letter(&letter()).await.unwrap();
    assert_eq!(store.resolve_dead_letters(&before).await.unwrap(), 0, "this one is not repaired");
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 1);

    let seen = store.open_dead_letters(&a).await.unwrap();
    assert_eq!(store.resolve_dead_letters(&seen).await.unwrap(), 1);
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 0);
    // And after the repair.
    assert!(!store.record_dead_letter(&letter()).await.unwrap());
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 1);
    let recorded = store.dead_letters(Some(&a), 10).await.unwrap();
    assert_eq!((recorded.len(), recorded[0].resolved_at), (1, None));
}

async fn parts_of_a_replay_are_given_up_once(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    begin(store, "a").await;
    // More than a list shows.
    for part in 0..1_200 {
        let queue = format!("queue {}", part % 2);
        let message_id = Some(format!("a/1/{}", part / 2));
        store.record_dead_letter(&DeadLetter { queue, message_id, ..letter() }).await.unwrap();
    }
    for other in ["a/10/1", "a/1", "a/1/", "a/1/x", "a/1/1/1", "b/1/1"] {
        store.record_dead_letter(&DeadLetter { message_id: Some(other.into()), ..letter() }).await.unwrap();
    }
    assert_eq!(store.parts_given_up(&a, 1).await.unwrap(), 600);
    assert_eq!(store.parts_given_up(&a, 10).await.unwrap(), 1);
    assert_eq!(store.parts_given_up(&a, 2).await.unwrap(), 0);
    // One that was recorded after all, and came again afterwards.
    store.write_replay(&part("a", 1, 7, &[]), IdConflict::Fail).await.unwrap();
    assert_eq!(store.parts_given_up(&a, 1).await.unwrap(), 599);
}

async fn a_letter_from_before_its_run_blocks_nothing(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    store.record_dead_letter(&letter()).await.unwrap();
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 1);
    database.execute("UPDATE dead_letters SET received_at = '2026-01-11T10:00:00.000Z'").await;
    begin(store, "a").await;
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 0);
    assert_eq!(store.open_dead_letters(&a).await.unwrap(), []);
    // The same letter once more belongs to the run.
    store.record_dead_letter(&letter()).await.unwrap();
    database.execute("UPDATE runs SET started_at = '2026-01-11T10:00:00.000Z'").await;
    assert_eq!(store.blocking_dead_letters(&a).await.unwrap(), 1);
}
