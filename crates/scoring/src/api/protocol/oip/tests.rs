use assay_transaction::Prediction;
use proptest::prelude::*;

use super::*;

const METADATA: &[u8] = include_bytes!("../captures/oip-metadata.json");
const ANSWER: &[u8] = include_bytes!("../captures/oip.json");

fn protocol(features: &str) -> OipProtocol {
    OipProtocol::new(Features::parse(features).unwrap(), "fraud", None).unwrap()
}

fn example() -> OipProtocol {
    protocol(include_str!("../../../../../../examples/features/oip.toml"))
}

/// A protocol with these inputs.
fn with_inputs(inputs: &[(&str, &str)]) -> OipProtocol {
    let input = |(name, kind): &(&str, &str)| {
        format!("[[inputs]]\nname = '{name}'\nfrom = 'attributes.{name}'\ntype = '{kind}'\n")
    };
    let inputs: String = inputs.iter().map(input).collect();
    protocol(&format!("{inputs}[answer]\nprediction = 'out'"))
}

fn rows(attributes: &[&str]) -> Vec<EncodedTransaction> {
    let row = |attributes: &&str| {
        let json = format!(
            r#"{{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"x","side":"debit","attributes":{attributes}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    attributes.iter().map(row).collect()
}

#[test]
fn what_mlserver_answered_is_read() {
    let said = |label: &str, score: f64| {
        let (prediction, model_version) = (label.into(), Some("7".into()));
        Ok(Prediction { prediction, fraud_score: Some(score), model_version, ..Prediction::default() })
    };
    let expected = vec![
        said("legitimate", 0.236_346_841_626_955_6),
        said("fraud", 0.918_310_742_678_273_4),
        said("legitimate", 0.055_574_984_912_090_47),
    ];
    assert_eq!(example().read_response(ANSWER, 3), Ok(expected));
}

#[test]
fn types_are_those_of_the_server() {
    let protocol = example();
    assert!(!protocol.is_learned());
    protocol.learn(METADATA).unwrap();
    assert!(protocol.is_learned());
    let rows = rows(&[r#"{"card_age":"12.5"}"#, r#"{"card_age":"10"}"#]);
    assert_eq!(
        protocol.write_request(rows.iter()),
        r#"{"parameters":{"content_type":"pd"},"inputs":[{"name":"amount","shape":[2,1],"datatype":"FP64","data":[-952.40,-952.40]},{"name":"hour","shape":[2,1],"datatype":"INT64","data":[6,6]},{"name":"is_debit","shape":[2,1],"datatype":"INT64","data":[1,1]},{"name":"card_age","shape":[2,1],"datatype":"FP64","data":[12.5,10]}],"outputs":[{"name":"predict"},{"name":"predict_proba"}]}"#
    );
    let single = with_inputs(&[("a", "float"), ("b", "int")]);
    single.learn(br#"{"name":"fraud","inputs":[{"name":"input-0","datatype":"FP32","shape":[-1,2]}]}"#).unwrap();
    let rows = self::rows(&[r#"{"a":"1.50","b":"2"}"#, r#"{"a":"3","b":"4"}"#]);
    assert_eq!(
        single.write_request(rows.iter()),
        r#"{"inputs":[{"name":"input-0","shape":[2,2],"datatype":"FP32","data":[1.50,2,3,4]}],"outputs":[{"name":"out"}]}"#
    );
    let undeclared = with_inputs(&[("t", "text"), ("b", "bool")]);
    undeclared.learn(br#"{"name":"fraud","platform":""}"#).unwrap();
    let rows = self::rows(&[r#"{"t":"x","b":"yes"}"#]);
    assert_eq!(
        undeclared.write_request(rows.iter()),
        r#"{"parameters":{"content_type":"pd"},"inputs":[{"name":"t","shape":[1,1],"datatype":"BYTES","data":["x"]},{"name":"b","shape":[1,1],"datatype":"BOOL","data":[true]}],"outputs":[{"name":"out"}]}"#
    );
}

#[test]
fn a_model_of_other_inputs_is_said() {
    let tensor = |name: &str, datatype: &str, shape: &str| {
        format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape}}}"#)
    };
    let column = |name: &str, datatype: &str| tensor(name, datatype, "[-1,1]");
    let (a, b) = (column("a", "FP64"), column("b", "INT64"));
    let cases = [
        (format!("{a},{b}"), None),
        (format!("{b},{a}"), None),
        (format!("{a},{}", column("b", "FP32")), None),
        (a.clone(), Some("it does not take the input `b` of ML_API_FEATURES")),
        (format!("{a},{b},{}", column("c", "FP64")), Some("it takes `c`, which is no input of ML_API_FEATURES")),
        (
            format!("{a},{}", column("b", "BYTES")),
            Some("its `b` is `BYTES`, and that of ML_API_FEATURES is of another type"),
        ),
        (
            format!("{},{b}", column("a", "INT64")),
            Some("its `a` is `INT64`, and that of ML_API_FEATURES is of another type"),
        ),
        (tensor("x", "FP64", "[-1,2]"), None),
        (tensor("x", "FP64", "[-1,-1]"), None),
        (tensor("x", "FP64", "[-1,3]"), Some("`x` takes 3 values a row, and ML_API_FEATURES has 2 inputs")),
        (
            tensor("x", "BYTES", "[-1,2]"),
            Some("`x` takes `BYTES`, and the input `a` of ML_API_FEATURES is of another type"),
        ),
    ];
    for (inputs, difference) in cases {
        let protocol = with_inputs(&[("a", "float"), ("b", "int")]);
        let result = protocol.learn(format!(r#"{{"inputs":[{inputs}]}}"#).as_bytes());
        match (result, difference) {
            (Ok(()), None) => assert!(protocol.is_learned()),
            (Err(ResponseError::Misfit(why)), Some(difference)) => {
                assert!(why.as_str().ends_with(difference) && !protocol.is_learned(), "{inputs}: {why}");
            }
            other => panic!("{inputs}: {other:?}"),
        }
    }
    for metadata in ["[]", r#"{"inputs":1}"#, "\"x\""] {
        let result = with_inputs(&[("a", "float")]).learn(metadata.as_bytes());
        assert!(matches!(result, Err(ResponseError::Misfit(_))), "{metadata}: {result:?}");
    }
    assert!(matches!(example().learn(b"<html>"), Err(ResponseError::Unreadable(_))));
}

#[test]
fn a_place_begins_with_an_output() {
    let features = Features::parse("[[inputs]]\nname = 'amount'\n[answer]\nprediction = ''").unwrap();
    let error = OipProtocol::new(features, "fraud", None).unwrap_err();
    assert!(error.ends_with("begins with the name of an output"), "{error}");
    let versioned = OipProtocol::new(
        Features::parse("[[inputs]]\nname = 'amount'\n[answer]\nprediction = 'x'").unwrap(),
        "fraud",
        Some("2"),
    );
    assert_eq!(versioned.unwrap().predict_path(), "v2/models/fraud/versions/2/infer");
}

#[test]
fn tensors_are_cut_into_rows() {
    let answer = |outputs: &str| format!(r#"{{"model_name":"m","outputs":[{outputs}]}}"#);
    let label = |text: &str| Ok(Prediction { prediction: text.into(), fraud_score: None, ..Prediction::default() });
    let read = |outputs: &str| with_inputs(&[("a", "int")]).read_response(answer(outputs).as_bytes(), 2);
    for outputs in [
        r#"{"name":"out","shape":[2],"datatype":"BYTES","data":["x","y"]}"#,
        r#"{"name":"out","shape":[2,1],"datatype":"BYTES","data":["x","y"]}"#,
        r#"{"name":"out","shape":[2,1],"datatype":"BYTES","data":[["x"],["y"]]}"#,
        r#"{"name":"other","shape":[2,0],"data":[]},{"name":"out","shape":[2],"data":["x","y"]}"#,
    ] {
        assert_eq!(read(outputs), Ok(vec![label("x"), label("y")]), "{outputs}");
    }
    let misfits = [
        ("", "expected /out about each transaction, got no outputs"),
        (r#"{"name":"up","shape":[2,3],"data":[1,2,3,4,5,6]}"#, "got the outputs `up` of 3 a row"),
        (
            r#"{"name":"out","shape":[3],"data":[1,2,3]}"#,
            "expected 2 rows in the output `out`, one for each transaction, got 3",
        ),
        (r#"{"name":"out","shape":[],"data":[1,2]}"#, "one for each transaction, got 0"),
        (
            r#"{"name":"out","shape":[2,2],"data":[1,2,3]}"#,
            "as much data in the output `out` as its shape says, got 3 values",
        ),
        (r#"{"name":"out","shape":[2,18446744073709551615],"data":[1]}"#, "got 1 values"),
        (
            r#"{"name":"out"}"#,
            "expected `outputs` with names, shapes and data, got an object with `model_name`, `outputs`",
        ),
    ];
    for (outputs, difference) in misfits {
        match read(outputs) {
            Err(ResponseError::Misfit(why)) => assert!(why.as_str().ends_with(difference), "{outputs}: {why}"),
            other => panic!("{outputs}: {other:?}"),
        }
    }
    // A row of several values is no label, but its parts may be.
    let part = protocol("[[inputs]]\nname = 'amount'\n[answer]\nprediction = '/out/1'");
    let outputs = answer(r#"{"name":"out","shape":[2,2],"data":["a","b","c","d"]}"#);
    assert_eq!(part.read_response(outputs.as_bytes(), 2), Ok(vec![label("b"), label("d")]));
}

proptest! {
    #[test]
    fn any_answer_has_a_result_for_each_row_or_none(
        shape in prop::collection::vec(0_usize..5, 0..4),
        data in "[0-9,\\[\\]x\"]{0,20}",
        asked in 1_usize..4,
    ) {
        let body = format!(r#"{{"outputs":[{{"name":"out","shape":{shape:?},"data":[{data}]}}]}}"#);
        if let Ok(rows) = with_inputs(&[("a", "int")]).read_response(body.as_bytes(), asked) {
            prop_assert_eq!(rows.len(), asked);
        }
    }
}
