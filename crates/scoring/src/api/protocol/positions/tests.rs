use assay_transaction::Prediction;
use proptest::prelude::*;

use super::super::features::Features;
use super::*;

fn spec(answer: &str) -> Features {
    Features::parse(&format!("[[inputs]]\nname = 'amount'\n[answer]\n{answer}")).unwrap()
}

fn read(entries: &Entries, answer: &str, body: &str, asked: usize) -> Result<Vec<RowResult>, ResponseError> {
    entries.read(body.as_bytes(), asked, spec(answer).answer())
}

fn predictions() -> Entries {
    Entries::Rows(Place::named("predictions"))
}

#[expect(clippy::unnecessary_wraps, reason = "as the readers return it")]
fn said(text: &str, fraud_score: Option<f64>) -> RowResult {
    Ok(Prediction { prediction: text.into(), fraud_score, ..Prediction::default() })
}

fn failed(why: &'static str) -> RowResult {
    Err(why.into())
}

const THRESHOLD: &str =
    "prediction = { threshold = 0.5, at_least = 'fraud', below = 'legitimate' }\nfraud_score = '/1'";

#[test]
fn what_mlflow_answered_is_read() {
    let captured = include_str!("../captures/mlflow.json");
    let expected = [
        said("legitimate", Some(0.236_346_841_626_955_6)),
        said("fraud", Some(0.918_310_742_678_273_4)),
        said("legitimate", Some(0.055_574_984_912_090_47)),
    ];
    assert_eq!(read(&predictions(), THRESHOLD, captured, 3), Ok(expected.to_vec()));
    let argmax = "prediction = { argmax = '', labels = ['legitimate', 'fraud'] }\nfraud_score = '/1'";
    assert_eq!(read(&predictions(), argmax, captured, 3), Ok(expected.to_vec()));
    let instances = include_str!("../captures/mlflow-instances.json");
    assert_eq!(read(&predictions(), THRESHOLD, instances, 3), Ok(expected.to_vec()));
}

#[test]
fn an_entry_is_read_as_the_file_says() {
    let values = "prediction = { at = '', values = { '0' = 'legitimate', '1' = 'fraud' } }";
    let no_label = "prediction is not a label";
    let no_score = "score is not a number";
    let cases = [
        ("prediction = ''", "\"fraud\"", said("fraud", None)),
        ("prediction = ''", "1", said("1", None)),
        ("prediction = ''", "true", said("true", None)),
        ("prediction = ''", "\"\"", failed(no_label)),
        ("prediction = ''", "null", failed(no_label)),
        ("prediction = ''", "NaN", failed(no_label)),
        (values, "1", said("fraud", None)),
        (values, "2", failed("prediction is none of the values that ML_API_FEATURES lists")),
        ("prediction = 'a/b'", r#"{"a/b":"x"}"#, said("x", None)),
        ("prediction = '/a/b'", r#"{"a":{"b":"x"}}"#, said("x", None)),
        ("prediction = 'l'\nfraud_score = 's'", r#"{"l":"x","s":1}"#, said("x", Some(1.0))),
        ("prediction = 'l'\nfraud_score = 's'", r#"{"l":"x","s":1.5}"#, said("x", Some(1.5))),
        ("prediction = 'l'\nfraud_score = 's'", r#"{"l":"x","s":"0.5"}"#, said("x", Some(0.5))),
        ("prediction = 'l'\nfraud_score = 's'", r#"{"l":"x","s":"high"}"#, failed(no_score)),
        ("prediction = 'l'\nfraud_score = 's'", r#"{"l":"x","s":null}"#, failed(no_score)),
        (THRESHOLD, "[0.5,0.5]", said("fraud", Some(0.5))),
        (THRESHOLD, "[0.5,0.4999]", said("legitimate", Some(0.4999))),
        ("prediction = { argmax = '', labels = ['a', 'b'] }", "[0.5,0.5]", said("a", None)),
        ("prediction = { argmax = '', labels = ['a', 'b'] }", "[-1,5]", said("b", None)),
        (
            "prediction = { argmax = '', labels = ['a', 'b'] }",
            "[1]",
            failed("there are not as many scores as labels in ML_API_FEATURES"),
        ),
        ("prediction = { argmax = '', labels = ['a', 'b'] }", "[1,null]", failed(no_label)),
    ];
    for (answer, entry, expected) in cases {
        let body = format!(r#"{{"predictions":[{entry}]}}"#);
        assert_eq!(read(&predictions(), answer, &body, 1), Ok(vec![expected]), "{answer} {entry}");
    }
    let version = "prediction = 'l'\nmodel_version = 'v'";
    let body = r#"{"predictions":[{"l":"x","v":7}]}"#;
    let expected = Prediction {
        prediction: "x".into(),
        fraud_score: None,
        model_version: Some("7".into()),
        ..Prediction::default()
    };
    assert_eq!(read(&predictions(), version, body, 1), Ok(vec![Ok(expected)]));
}

#[test]
fn another_form_is_said_in_kinds_and_keys() {
    let score = "prediction = 'label'\nfraud_score = 'score'";
    let cases = [
        (score, r#"{"error":"secret"}"#, "expected an array at /predictions, got an object with `error`"),
        (score, "[]", "expected an array at /predictions, got an array of 0"),
        (score, "{}", "got an empty object"),
        (score, "\"secret\"", "got a text"),
        (score, r#"{"predictions":{"a":1}}"#, "expected an array at /predictions, got an object with `predictions`"),
        (score, r#"{"predictions":[]}"#, "expected 2 entries, one for each transaction, got 0"),
        (score, r#"{"predictions":[1,2,3]}"#, "expected 2 entries, one for each transaction, got 3"),
        (score, r#"{"predictions":[1,2]}"#, "expected /score about each transaction, got a number"),
        (
            score,
            r#"{"predictions":[{"score":0.5,"label2":1},{"score":0.5}]}"#,
            "expected /label about each transaction, got an object with `label2`, `score`",
        ),
        (score, r#"{"predictions":[[0.5],[0.5]]}"#, "expected /score about each transaction, got an array of 1"),
        // A value may be a key.
        (score, r#"{"4111111111111111":1,"Jane Doe":2}"#, "got an object with another key, another key"),
    ];
    for (answer, body, expected) in cases {
        match read(&predictions(), answer, body, 2) {
            Err(ResponseError::Misfit(why)) => assert!(why.as_str().ends_with(expected), "{body}: {why}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn one_entry_of_another_form_costs_its_own_row() {
    let body = r#"{"predictions":[{"label":"x"},{"error":"no"}]}"#;
    let expected = vec![said("x", None), failed(LACKING)];
    assert_eq!(read(&predictions(), "prediction = 'label'", body, 2), Ok(expected));
}

#[test]
fn an_answer_may_be_in_columns() {
    let answer = "prediction = '/out/labels'\nfraud_score = 'scores'";
    let body = r#"{"out":{"labels":["a","b"]},"scores":[0.1,0.2]}"#;
    assert_eq!(read(&Entries::Columns, answer, body, 2), Ok(vec![said("a", Some(0.1)), said("b", Some(0.2))]));
    let cases = [
        (r#"{"out":{},"scores":[1,1]}"#, "expected an array at /out/labels, got an object with `out`, `scores`"),
        (
            r#"{"out":{"labels":["a"]},"scores":[1,1]}"#,
            "expected 2 values at /out/labels, one for each transaction, got 1",
        ),
    ];
    for (body, expected) in cases {
        match read(&Entries::Columns, answer, body, 2) {
            Err(ResponseError::Misfit(why)) => assert!(why.as_str().ends_with(expected), "{body}: {why}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_json_is_unreadable() {
    for body in [&b""[..], b"<html>", b"{\"predictions\":[", b"\xff", b"{} {}", b"nan"] {
        let result = predictions().read(body, 1, spec("prediction = ''").answer());
        assert!(matches!(result, Err(ResponseError::Unreadable(_))), "{result:?}");
    }
    let deep = format!(r#"{{"predictions":[{}1{}]}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(read(&predictions(), "prediction = ''", &deep, 1), Ok(vec![failed("prediction is not a label")]));
}

proptest! {
    #[test]
    fn any_text_has_a_result_for_each_row_or_none(
        text in r#"(\{"predictions":)?[\[\]{}",:NaI0-9.e a-]{0,40}\}?"#,
        asked in 1_usize..4,
    ) {
        for (entries, answer) in [(predictions(), "prediction = ''"), (predictions(), THRESHOLD), (Entries::Columns, "prediction = 'a'")] {
            if let Ok(rows) = read(&entries, answer, &text, asked) {
                prop_assert_eq!(rows.len(), asked);
            }
        }
    }
}
