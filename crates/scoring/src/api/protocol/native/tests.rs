//! What is read of a response, and what is sent.

use proptest::prelude::*;

use super::*;

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

fn label(text: &str) -> Prediction {
    Prediction { prediction: text.into(), fraud_score: None, ..Prediction::default() }
}

#[test]
fn the_body_consists_of_the_transactions_own_bytes() {
    let transaction = |json: &str| serde_json::from_str::<EncodedTransaction>(json).unwrap();
    let two = [transaction(r#"{"id":"x",  "amount":-952.40}"#), transaction(r#"{"amount":9999999999999999.9999}"#)];
    let body = write_request(two.iter());
    assert_eq!(body, r#"[{"id":"x",  "amount":-952.40},{"amount":9999999999999999.9999}]"#);
}

#[test]
fn one_entry_is_read() {
    let said = |text: &str, fraud_score, model_version: Option<&str>| {
        Ok(Prediction {
            prediction: text.into(),
            fraud_score,
            model_version: model_version.map(Into::into),
            ..Prediction::default()
        })
    };
    let refused = |why: &'static str| Err(why.into());
    let (no_score, no_label, missing) = (refused(NO_SCORE), refused(NO_LABEL), refused(MISSING));
    let long = format!(r#""prediction":"{}""#, "x".repeat(MAX_TEXT + 1));
    let cases: &[(&str, RowResult)] = &[
        (r#""prediction":"fraud","fraud_score":0.97,"model_version":"v1""#, said("fraud", Some(0.97), Some("v1"))),
        (r#""category":"Rent""#, said("Rent", None, None)),
        (r#""label":"ok","probability":1"#, said("ok", Some(1.0), None)),
        (r#""label":"ok","confidence_score":0"#, said("ok", Some(0.0), None)),
        (r#""label":"ok","score":-0.0"#, said("ok", Some(0.0), None)),
        (r#""label":"ok","score":null,"model_version":null"#, said("ok", None, None)),
        // The contract's own names win over the others.
        (r#""label":"b","category":"c","prediction":"a","score":0.1,"fraud_score":0.2"#, said("a", Some(0.2), None)),
        (r#""prediction":1"#, said("1", None, None)),
        (r#""prediction":-1.50"#, said("-1.50", None, None)),
        (r#""prediction":true,"model_version":7"#, said("true", None, Some("7"))),
        (r#""prediction":"a\u00e9\n","extra":{"deep":[1,{}]}"#, said("aé\n", None, None)),
        // Which numbers are scores is not decided here.
        (r#""prediction":"a","fraud_score":97"#, said("a", Some(97.0), None)),
        (r#""prediction":"a","fraud_score":-4.5"#, said("a", Some(-4.5), None)),
        (r#""prediction":"a","fraud_score":"0.97""#, said("a", Some(0.97), None)),
        (r#""prediction":"a","fraud_score":"-1.5E-1""#, said("a", Some(-0.15), None)),
        (r#""prediction":"a","fraud_score":1e999"#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"1e999""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":" 0.5""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"0.5 ""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"0,5""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"50%""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":".5""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"NaN""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":"""#, no_score.clone()),
        (r#""prediction":"a","fraud_score":true"#, no_score.clone()),
        (r#""prediction":"a","fraud_score":NaN"#, no_score.clone()),
        (r#""prediction":"a","fraud_score":-Infinity"#, no_score),
        (r#""prediction":NaN"#, no_label.clone()),
        (r#""prediction":"""#, no_label.clone()),
        (r#""prediction":"a\u0000b""#, no_label.clone()),
        (r#""prediction":["a"]"#, no_label.clone()),
        (r#""prediction":{"a":1}"#, no_label.clone()),
        (&long, no_label),
        (r#""prediction":null"#, refused(NO_PREDICTION)),
        (r#""other":1"#, refused(NO_PREDICTION)),
        (r#""prediction":"a","model_version":[]"#, refused(NO_VERSION)),
        (r#""prediction":"a","prediction":"b""#, missing.clone()),
        (r#""transaction_id":7,"prediction":"a""#, missing),
    ];
    for (fields, expected) in cases {
        // The other row's entry must not suffer.
        let body = format!(
            r#"[{{"transaction_id":"{A}",{fields}}},{{"transaction_id":"{B}","prediction":"NaN \" Infinity"}}]"#
        );
        let answers = read_response(body.as_bytes(), &[A, B], Matching::Id).unwrap();
        assert_eq!(answers, [expected.clone(), Ok(label("NaN \" Infinity"))], "{fields}");
    }
}

#[test]
fn entries_are_matched_by_id_in_any_order() {
    let entry = |id: Uuid, text: &str| format!(r#"{{"transaction_id":"{id}","label":"{text}"}}"#);
    let (a, b, stranger) = (entry(A, "a"), entry(B, "b"), entry(Uuid::from_u128(7), "x"));
    let upper = a.replace(&A.to_string(), &A.simple().to_string().to_uppercase());
    let no_ids = "no entry of the response has an id";
    let strangers = "the response has only ids that were not asked for";
    let (both, lacks) = ([Ok(label("a")), Ok(label("b"))], Err(MISSING.into()));
    let cases = [
        (format!("[{a},{b}]"), both.clone()),
        (format!(" [{b}, {a}] "), both.clone()),
        (format!("[{stranger},7,null,[],\"x\",{b},{upper}]"), both),
        (format!("[{b}]"), [lacks.clone(), Ok(label("b"))]),
        (format!("[{stranger}]"), [Err(strangers.into()), Err(strangers.into())]),
        (r#"[{"error":"model not loaded"}]"#.to_owned(), [Err(no_ids.into()), Err(no_ids.into())]),
        (format!("[{a},{b},{a}]"), [Err("id is in the response twice".into()), Ok(label("b"))]),
        ("[]".to_owned(), [lacks.clone(), lacks]),
    ];
    for (body, expected) in cases {
        assert_eq!(read_response(body.as_bytes(), &[A, B], Matching::Id).unwrap(), expected, "{body}");
    }
}

#[test]
fn other_forms_of_a_response_are_read() {
    let version = |text: &str| Ok(Prediction { model_version: Some(text.into()), ..label("x") });
    let entry = |name: &str, id: Uuid, more: &str| format!(r#"{{"{name}":"{id}","label":"x"{more}}}"#);
    let (a, b) = (entry("id", A, ""), entry("transaction_id", B, ""));
    let own = entry("id", B, r#","model_version":"own""#);
    let cases = [
        (format!("[{a},{b}]"), [Ok(label("x")), Ok(label("x"))]),
        // The name that we ask by wins.
        (format!(r#"[{a},{{"id":"{A}","transaction_id":"{B}","label":"x"}}]"#), [Ok(label("x")), Ok(label("x"))]),
        (format!(r#"[{a},{{"id":7,"transaction_id":"{B}","label":"x"}}]"#), [Ok(label("x")), Ok(label("x"))]),
        (format!(r#"{{"predictions":[{a},{b}]}}"#), [Ok(label("x")), Ok(label("x"))]),
        (format!(r#"{{"model_version":"7","predictions":[{b},{a}],"count":2}}"#), [version("7"), version("7")]),
        (format!(r#"{{"items":[{a},{own}],"model_version":7}}"#), [version("7"), version("own")]),
        (format!(r#"{{"items":[{a},{b}],"model_version":null}}"#), [Ok(label("x")), Ok(label("x"))]),
        (format!(r#"{{"items":[{a},NaN],"drift":NaN}}"#), [Ok(label("x")), Err(MISSING.into())]),
        (r#"{"predictions":[]}"#.to_owned(), [Err(MISSING.into()), Err(MISSING.into())]),
    ];
    for (body, expected) in cases {
        assert_eq!(read_response(body.as_bytes(), &[A, B], Matching::Id), Ok(expected.into()), "{body}");
    }
    let nested = format!(r#"{{"items":[{a},{b}],"model_version":{{"name":"7"}}}}"#);
    assert_eq!(read_response(nested.as_bytes(), &[A, B], Matching::Id), Err(NO_VERSION.into()));
}

#[test]
fn predictions_without_ids_are_matched_by_position_if_that_is_declared() {
    let (x, y) = (r#"{"label":"x","score":0.5}"#, r#"{"label":"y\n"}"#);
    let named = format!(r#"{{"id":"{A}","label":"x"}}"#);
    let scored = Ok(Prediction { fraud_score: Some(0.5), ..label("x") });
    let unreadable = |why: &'static str| ResponseError::Unreadable(why.into());
    let cases = [
        (format!("[{x},{y}]"), Ok([scored.clone(), Ok(label("y\n"))])),
        (format!(r#"{{"predictions":[{x},{x}]}}"#), Ok([scored.clone(), scored.clone()])),
        (format!("[{x},null]"), Ok([scored, Err(MISSING.into())])),
        (format!("[{x}]"), Err(unreadable("1 predictions for 2 transactions, and no ids"))),
        (format!("[{x},{x},{x}]"), Err(unreadable("3 predictions for 2 transactions, and no ids"))),
        ("[]".to_owned(), Err(unreadable("0 predictions for 2 transactions, and no ids"))),
    ];
    for (body, expected) in cases {
        let found = read_response(body.as_bytes(), &[A, B], Matching::Position);
        assert_eq!(found, expected.map(Vec::from), "{body}");
    }
    let remedy = |body: String, matching| match read_response(body.as_bytes(), &[A, B], matching) {
        Err(ResponseError::Undeclared { remedy, .. }) => Some(remedy.to_string()),
        _ => None,
    };
    let by_position = remedy(format!("[{x},{named}]"), Matching::Position);
    assert_eq!(by_position.as_deref(), Some("set ML_API_MATCH=id"));
    let by_id = remedy(format!("[{x},{y}]"), Matching::Id).unwrap();
    assert!(by_id.ends_with("set ML_API_MATCH=position"), "{by_id}");
    // Nothing shows that these are in the order of the transactions.
    for body in [format!("[{x}]"), format!("[{x},{{}}]"), format!("[{x},{named}]"), "[]".to_owned()] {
        assert_eq!(remedy(body.clone(), Matching::Id), None, "{body}");
    }
}

#[test]
fn anything_but_an_array_is_an_error() {
    for body in [
        &b""[..],
        b"{}",
        b"{\"error\":\"no\"}",
        b"null",
        b"<html>",
        b"[",
        b"[1,]",
        b"[{}",
        b"[NaN",
        b"\"Infinity",
        b"[\xff]",
    ] {
        assert!(read_response(body, &[A], Matching::Id).is_err(), "{body:?}");
    }
}

/// JSON of any shape, with the names of the protocol where a key is due.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        Just(A.to_string().into()),
    ];
    let key = prop_oneof![
        Just("transaction_id".to_owned()),
        Just("prediction".to_owned()),
        Just("fraud_score".to_owned()),
        Just("model_version".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            proptest::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_response(&body, &[A, B], Matching::Id);
    }

    #[test]
    fn no_text_causes_a_panic(body in r#"[\[\]{}",:\\NaInfity0-9.eé -]{0,60}"#) {
        let _ = read_response(body.as_bytes(), &[A, B], Matching::Id);
    }

    #[test]
    fn any_json_is_read_within_its_bounds(items in proptest::collection::vec(any_json(), 0..6)) {
        let body = serde_json::to_vec(&items).unwrap();
        let Ok(answers) = read_response(&body, &[A, B], Matching::Id) else { return Ok(()) };
        prop_assert_eq!(answers.len(), 2);
        for said in answers.into_iter().flatten() {
            prop_assert!(!said.prediction.is_empty() && said.prediction.chars().count() <= MAX_TEXT);
            prop_assert!(said.fraud_score.is_none_or(f64::is_finite));
        }
    }

    #[test]
    fn every_row_is_found_in_any_order(
        ids in proptest::collection::hash_set(any::<u128>(), 0..40).prop_map(Vec::from_iter),
        shuffled_by in any::<u64>(),
    ) {
        let asked: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(*id)).collect();
        let mut answered = asked.clone();
        answered.sort_by_key(|id| id.as_u64_pair().0 ^ shuffled_by);
        let items: Vec<String> =
            answered.iter().map(|id| format!(r#"{{"transaction_id":"{id}","label":"{id}"}}"#)).collect();
        let answers = read_response(format!("[{}]", items.join(",")).as_bytes(), &asked, Matching::Id).unwrap();
        for (id, answer) in asked.iter().zip(answers) {
            prop_assert_eq!(answer, Ok(label(&id.to_string())));
        }
    }
}

#[test]
fn reasons_are_read_if_they_are_wanted() {
    let body = format!(
        r#"[{{"transaction_id":"{A}","prediction":"x","reasons":["R07",{{"code":"R\u0031"}}]}},{{"transaction_id":"{B}","prediction":"x","reasons":{{"amount":1}}}}]"#
    );
    let ignored = read_response(body.as_bytes(), &[A, B], Matching::Id);
    assert_eq!(ignored, Ok(vec![Ok(label("x")), Ok(label("x"))]));
    let wanted = ReadOptions { matching: Matching::Id, with_reasons: true };
    let reasons = ["R07", "R1"].map(|code| ReasonCode::Code(code.into())).to_vec();
    let expected = vec![Ok(Prediction { reasons, ..label("x") }), Err(NO_REASONS.into())];
    assert_eq!(read_response(body.as_bytes(), &[A, B], wanted).as_ref(), Ok(&expected));
    let wrapped = format!(r#"{{"predictions":{body},"model_version":null}}"#);
    assert_eq!(read_response(wrapped.as_bytes(), &[A, B], wanted), Ok(expected));
}
