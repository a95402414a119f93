//! Malformed responses: each row gets a prediction or a reason, whatever the others get.
//!
//! `tests/corpus` contains responses about two rows, [`FIRST`] and [`SECOND`]; [`EXPECTED`] lists the results.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

use super::*;

const FIRST: Uuid = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
const SECOND: Uuid = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c9);

/// A label, or a part of the reason why there is none.
type ExpectedResult = Result<&'static str, &'static str>;

const ABSENT: ExpectedResult = Err(MISSING);
const NO_SCORE: ExpectedResult = Err("not a number from 0 to 1");
const NO_LABEL: ExpectedResult = Err("not a label");

/// The results of the two rows; none if the file is no response.
const EXPECTED: &[(&str, Option<[ExpectedResult; 2]>)] = &[
    ("plain.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("the-other-way-round.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("ids-in-other-forms.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("escaped.json", Some([Ok("fraud"), Ok("légal 💸")])),
    ("one-missing.json", Some([ABSENT, Ok("legitimate")])),
    ("no-entries.json", Some([ABSENT, ABSENT])),
    ("ids-of-others.json", Some([ABSENT, ABSENT])),
    ("an-id-twice.json", Some([Err("twice"), Ok("legitimate")])),
    ("an-id-three-times.json", Some([Err("twice"), Ok("legitimate")])),
    ("the-field-of-an-id-twice.json", Some([ABSENT, Ok("legitimate")])),
    ("ids-that-are-none.json", Some([ABSENT, Ok("legitimate")])),
    ("more-than-was-asked-for.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("strangers-between.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("score-beyond-one.json", Some([NO_SCORE, Ok("legitimate")])),
    ("score-below-zero.json", Some([NO_SCORE, Ok("legitimate")])),
    ("score-as-text.json", Some([NO_SCORE, Ok("legitimate")])),
    ("score-nan.json", Some([NO_SCORE, Ok("legitimate")])),
    ("score-infinite.json", Some([NO_SCORE, NO_SCORE])),
    ("score-of-many-digits.json", Some([Ok("fraud"), NO_SCORE])),
    ("score-nested.json", Some([NO_SCORE, Ok("legitimate")])),
    ("label-empty.json", Some([NO_LABEL, Ok("legitimate")])),
    ("label-nul.json", Some([NO_LABEL, Ok("legitimate")])),
    ("label-lone-surrogate.json", Some([NO_LABEL, Ok("legitimate")])),
    ("label-too-long.json", Some([NO_LABEL, Ok("legitimate")])),
    ("label-of-255-characters.json", Some([Ok(""), Ok("legitimate")])),
    ("label-nan.json", Some([NO_LABEL, Ok("NaN")])),
    ("no-label.json", Some([Err("no prediction"), Ok("legitimate")])),
    ("version-nested.json", Some([Err("model version"), Ok("legitimate")])),
    ("deep-inside-an-entry.json", Some([Ok("fraud"), Ok("legitimate")])),
    ("entries-that-are-none.json", Some([ABSENT, Ok("legitimate")])),
    ("entries-that-are-lists.json", Some([ABSENT, Ok("legitimate")])),
    ("nothing.json", None),
    ("null.json", None),
    ("an-object.json", None),
    ("wrapped-in-an-object.json", None),
    ("cut-off.json", None),
    ("followed-by-more.json", None),
    ("trailing-comma.json", None),
    ("byte-order-mark.json", None),
    ("utf16.json", None),
    ("not-utf8.json", None),
    ("html.json", None),
    ("json-lines.json", None),
    ("python-repr.json", None),
    ("gzip.json", None),
    ("nan-and-cut-off.json", None),
];

#[test]
fn the_corpus_is_read_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (name, expected) in EXPECTED {
        let body = std::fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        match (read_response(&body, &[FIRST, SECOND]), expected) {
            (Err(_), None) => {}
            (Ok(found), Some(expected)) => {
                assert_eq!(found.len(), 2);
                for (found, expected) in found.into_iter().zip(expected) {
                    match (found, expected) {
                        (Ok(found), Ok(label)) => assert!(found.prediction.contains(label), "{name}: {found:?}"),
                        (Err(why), Err(words)) => assert!(why.as_str().contains(words), "{name}: {why}"),
                        (found, _) => panic!("{name}: {found:?}, not {expected:?}"),
                    }
                }
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), EXPECTED.len(), "each file of the corpus is listed here");
}

fn entry(id: Uuid) -> String {
    format!(r#"{{"transaction_id":"{id}","prediction":"fraud","fraud_score":0.97,"model_version":"v1"}}"#)
}

/// Whether a row has the result of [`entry`].
fn unharmed(answer: &RowResult) -> bool {
    answer.as_ref().is_ok_and(|answer| &*answer.prediction == "fraud" && answer.fraud_score == Some(0.97))
}

fn in_bounds(answer: &RowResult) -> bool {
    answer.as_ref().map_or(true, |said| {
        let length = said.prediction.chars().count();
        (1..=MAX_TEXT).contains(&length)
            && !said.prediction.contains('\0')
            && said.fraud_score.is_none_or(|score| (0.0..=1.0).contains(&score))
            && said.model_version.as_ref().is_none_or(|version| (1..=MAX_TEXT).contains(&version.chars().count()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8192,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_a_response_or_an_error(body in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(found) = read_response(&body, &[FIRST, SECOND]) {
            prop_assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn a_changed_response_is_read_within_its_bounds(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec((any::<Index>(), 0..40_usize), 0..2),
        put in prop::collection::vec((any::<Index>(), prop::sample::select(&[
            "NaN", "Infinity", "-Infinity", "\"", "\\", "[", "]", "{", "}", ",", ":", "\\ud800", "\0", "1e999", "-",
            "\"transaction_id\":", "é",
        ][..])), 0..4),
    ) {
        let asked: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        let mut body = format!("[{}]", asked.iter().copied().map(entry).collect::<Vec<_>>().join(",")).into_bytes();
        for (at, bits) in flips {
            let at = at.index(body.len());
            body[at] ^= bits;
        }
        for (at, length) in cuts {
            let at = at.index(body.len());
            body.drain(at..body.len().min(at + length));
        }
        for (at, piece) in put {
            let at = at.index(body.len());
            body.splice(at..at, piece.bytes());
        }
        if let Ok(found) = read_response(&body, &asked) {
            prop_assert_eq!(found.len(), asked.len());
            prop_assert!(found.iter().all(in_bounds), "{found:?}");
        }
    }

    /// One entry is spoiled in any way that leaves the response an array: the others are unharmed.
    #[test]
    fn a_spoiled_entry_costs_its_row_only(
        spoiled in 0..5_usize,
        by in prop_oneof![
            prop::sample::select(&[
                "null", "7", "\"x\"", "[]", "{}", "NaN", "-Infinity", "[[[[]]]]", "1e999",
                r#"{"transaction_id":null}"#, r#"{"transaction_id":"00000000-0000-0000-0000-0000000000ff"}"#,
                r#"{"prediction":"fraud"}"#, r#"{"transaction_id":NaN,"prediction":Infinity}"#,
            ][..]).prop_map(str::to_owned),
            (prop::sample::select(&["prediction", "fraud_score", "model_version", "label", "score", "x"][..]),
             prop::sample::select(&["NaN", "-1", "1e999", "\"\\ud800\"", "\"\\u0000\"", "[{}]", "{\"a\":NaN}", "null", "true"][..]))
                .prop_map(|(field, value)| format!(r#"{{"transaction_id":"ID","{field}":{value}}}"#)),
        ],
        order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let asked: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        let item = |at: usize| if at == spoiled { by.replace("ID", &asked[at].to_string()) } else { entry(asked[at]) };
        let body = format!("[{}]", order.map(item).join(","));
        let found = read_response(body.as_bytes(), &asked).unwrap();
        for (at, answer) in found.iter().enumerate() {
            prop_assert!(in_bounds(answer), "{answer:?}");
            prop_assert!(at == spoiled || unharmed(answer), "{at}: {answer:?} of {body}");
        }
    }
}

/// As long as a response may be, and expensive to read.
#[test]
fn the_longest_responses_are_read_quickly() {
    let longest = max_response_bytes(100);
    let asked: Vec<Uuid> = (0..100).map(Uuid::from_u128).collect();
    let fill = |start: &str, piece: &str, end: &str| {
        let pieces = (longest - start.len() - end.len()) / piece.len();
        format!("{start}{}{end}", piece.repeat(pieces))
    };
    let bodies = [
        fill("[", "[", ""),
        fill("[", "0,", "0]"),
        fill("[", "{},", "0]"),
        fill("[\"", "\\\"", "\"]"),
        fill("[\"", "\\u0000", "\"]"),
        fill("[", "NaN,", "0]"),
        fill("[", "-", "]"),
        fill("[", "N", "]"),
        fill("[", "\"", "]"),
        fill("[{\"transaction_id\":\"", "x", "\"}]"),
        fill("[", r#"{"transaction_id":"00000000-0000-0000-0000-000000000001"},"#, "0]"),
        fill("[", r#"{"transaction_id":"00000000-0000-0000-0000-0000000000ff"},"#, "0]"),
        fill(r#"[{"transaction_id":"00000000-0000-0000-0000-000000000001","prediction":"#, "[", "NaN}]"),
        fill(r#"[{"transaction_id":"00000000-0000-0000-0000-000000000001","x":"#, "{\"a\":", "}]"),
        fill(r#"[{"transaction_id":"00000000-0000-0000-0000-000000000001","fraud_score":0."#, "1", "}]"),
        fill(r#"[{"transaction_id":"00000000-0000-0000-0000-000000000001","fraud_score":"#, "9", "e-1}]"),
    ];
    for body in bodies {
        assert!(body.len() <= longest);
        let began = Instant::now();
        if let Ok(found) = read_response(body.as_bytes(), &asked) {
            assert!(found.len() == asked.len() && found.iter().all(in_bounds));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} for {body:.60}…", began.elapsed());
    }
}
