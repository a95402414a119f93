use assay_transaction::ReasonCode;
use proptest::prelude::*;
use serde_json::json;

use super::super::native::Texts;
use super::*;

/// The answer of a file whose inputs are tested.
const ANSWER: &str = "[answer]\nprediction = \"label\"\n";

fn features(inputs: &str) -> Features {
    Features::parse(&format!("{inputs}\n{ANSWER}")).unwrap()
}

fn transaction(attributes: &str) -> EncodedTransaction {
    let json = format!(
        r#"{{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"A \"b\"","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"{attributes}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

/// A transaction with one attribute, `x`.
fn with_attribute(value: &str) -> EncodedTransaction {
    transaction(&format!(r#","attributes":{{"other":"1","x":{}}}"#, serde_json::to_string(value).unwrap()))
}

fn row(features: &Features, transaction: &EncodedTransaction) -> Vec<String> {
    features.check(transaction).unwrap();
    features.matrix(std::iter::once(transaction)).row(0).map(str::to_owned).collect()
}

#[test]
fn every_field_can_be_an_input() {
    let cases = [
        ("name = 'id'", r#""67e55044-10b1-426f-9247-bb680e5fe0c8""#),
        ("name = 'description'", r#""A \"b\"""#),
        ("name = 'amount'", "-952.40"),
        ("name = 'amount'\ntype = 'text'", r#""-952.40""#),
        ("name = 'timestamp'", r#""2023-11-28T06:35:12Z""#),
        ("name = 'timestamp.epoch'", "1701153312"),
        ("name = 'h'\nfrom = 'timestamp.hour'", "6"),
        ("name = 'h'\nfrom = 'timestamp.hour'\ntype = 'float'", "6"),
        // A Tuesday.
        ("name = 'timestamp.weekday'", "1"),
        ("name = 'merchant'\ndefault = ''", r#""""#),
        ("name = 'merchant'\ndefault = 'none'", r#""none""#),
        ("name = 'operation_type'", r#""refund""#),
        ("name = 'side'", r#""debit""#),
        ("name = 'is_debit'\nfrom = 'side'\nis = 'debit'", "1"),
        ("name = 'is_credit'\nfrom = 'side'\nis = 'credit'\ntype = 'bool'", "false"),
        ("name = 'known'\nfrom = 'merchant'\nis = 'Shop'\ntype = 'float'", "0"),
        ("name = 'x'\nfrom = 'attributes.x'", r#""7""#),
        ("name = 'x'\nfrom = 'attributes.x'\ntype = 'int'", "7"),
        ("name = 'x'\nfrom = 'attributes.y'\ntype = 'float'\ndefault = -0.5", "-0.5"),
        ("name = 'x'\nfrom = 'attributes.y'\ntype = 'float'\ndefault = 3", "3"),
        ("name = 'x'\nfrom = 'attributes.y'\ntype = 'bool'\ndefault = true", "true"),
    ];
    for (input, expected) in cases {
        assert_eq!(row(&features(&format!("[[inputs]]\n{input}")), &with_attribute("7")), [expected], "{input}");
    }
}

#[test]
fn a_value_of_another_type_is_named_without_the_value() {
    let cases = [
        ("float", "secret", Some("the input `x` is not a number")),
        ("float", "1,5", Some("the input `x` is not a number")),
        ("int", "1.5", Some("the input `x` is not a whole number")),
        ("bool", "2", Some("the input `x` is not true or false")),
        ("text", " ", Some("the input `x` is missing, and has no default")),
        ("float", "", Some("the input `x` is missing, and has no default")),
        ("float", "1.50", None),
        ("bool", "yes", None),
        ("text", "é\n", None),
    ];
    for (kind, value, problem) in cases {
        let features = features(&format!("[[inputs]]\nname = 'x'\nfrom = 'attributes.x'\ntype = '{kind}'"));
        let found = features.check(&with_attribute(value)).err().map(|problem| problem.to_string());
        assert_eq!(found.as_deref(), problem, "{kind} {value}");
    }
    let features = features("[[inputs]]\nname = 'x'\nfrom = 'attributes.x'");
    assert_eq!(features.check(&transaction("")), Err(InputProblem::Missing { input: "x".to_owned() }));
    let unreadable = serde_json::from_str(r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#).unwrap();
    assert_eq!(features.check(&unreadable), Err(InputProblem::Unreadable));
}

#[test]
fn what_was_not_checked_becomes_zeros() {
    let features = features(
        "[[inputs]]\nname = 'amount'\n[[inputs]]\nname = 'x'\nfrom = 'attributes.x'\ntype = 'float'\n\
         [[inputs]]\nname = 'y'\nfrom = 'attributes.y'\n[[inputs]]\nname = 'z'\nfrom = 'attributes.x'\ntype = 'bool'",
    );
    let rows = [transaction(""), with_attribute("1")];
    let matrix = features.matrix(rows.iter());
    assert_eq!(matrix.rows(), 2);
    assert_eq!(matrix.row(0).collect::<Vec<_>>(), ["-952.40", "0", "\"\"", "false"]);
    assert_eq!(matrix.row(1).collect::<Vec<_>>(), ["-952.40", "1", "\"\"", "true"]);
    assert_eq!(matrix.column(3).collect::<Vec<_>>(), ["false", "true"]);
}

#[test]
fn a_wrong_file_is_refused_where_it_is_wrong() {
    let answer = |answer: &str| format!("[[inputs]]\nname = 'amount'\n[answer]\n{answer}");
    let input = |input: &str| format!("[[inputs]]\n{input}\n{ANSWER}");
    let cases = [
        (String::new(), ", line 1, column 1: missing field `inputs`"),
        (format!("inputs = []\n{ANSWER}"), "there must be at least one input"),
        (input("name = 'amount'\ndefalt = 1"), ", line 3, column 1: unknown field `defalt`, expected one of `name`"),
        (
            input("name = 'amount'\nfrom = 'sum'"),
            ", line 3, column 8: no such field; there are id, description, amount,",
        ),
        (input("name = 'amount'\nfrom = 'attributes.'"), ", line 3, column 8: no such field"),
        (input("name = 'sum'"), "the input `sum` needs `from`, as it is no field of that name"),
        (input("name = ''"), "an input needs a name"),
        (
            input("name = 'amount'\ntype = 'double'"),
            ", line 3, column 8: unknown variant `double`, expected one of `float`",
        ),
        (input("name = 'amount'\ndefault = 'x'"), "the default of the input `amount` is not a number"),
        (input("name = 'amount'\ndefault = nan"), "the default of the input `amount` is not a number"),
        (
            input("name = 'h'\nfrom = 'timestamp.hour'\ndefault = 0.5"),
            "the default of the input `h` is not a whole number",
        ),
        (input("name = 'side'\nis = 'debit'\ntype = 'text'"), "must be an int, a float or a bool"),
        (input("name = 'side'\nis = 'debit'\ndefault = 1"), "needs no default"),
        (input("name = 'amount'\n[[inputs]]\nname = 'amount'"), ": there are two inputs `amount`"),
        (format!("{}[modle]\n", input("name = 'amount'")), ", line 5, column 2: unknown field `modle`"),
        ("[[inputs]]\nname = 'amount'".to_owned(), "missing field `answer`"),
        (answer("fraud_score = '/1'"), "missing field `prediction`"),
        (answer("prediction = 1"), ", line 4, column 14: invalid type: integer `1`, expected a place or a table"),
        (answer("prediction = { threshold = 0.5 }"), ", line 4, column 14: a prediction is a place"),
        (answer("prediction = { treshold = 0.5 }"), ": unknown field `treshold`"),
        (answer("prediction = { argmax = '', labels = ['a'] }"), "two or more `labels`"),
        (answer("prediction = { at = 'l', values = { a = '' } }"), "a label must have 1 to 255 characters"),
        (
            answer("prediction = { threshold = 0.5, at_least = 'a', below = 'b' }"),
            ": a `threshold` is one of the score: `answer` needs `fraud_score` too",
        ),
        (answer("prediction = 'l'\nreasons = { at = 'r', features = [] }"), "`features` names no feature"),
        (answer("prediction = 'l'\nreasons = { at = 'r' }"), ", line 5, column 11: missing field `features`"),
        (answer("prediction = 'l'\n[template]\nrows = ''"), "missing field `body`"),
    ];
    for (text, expected) in cases {
        let error = Features::parse(&text).expect_err(&text);
        assert!(error.contains(expected) && !error.contains('\n'), "{text}\n{error}");
    }
    let error = Features::read(Path::new("/nowhere.toml")).unwrap_err();
    assert_eq!(error, "cannot read /nowhere.toml (entity not found)");
}

#[test]
fn reasons_are_found_where_the_file_says() {
    let of = |reasons: &str, answer: serde_json::Value| {
        let features = Features::parse(&format!("[[inputs]]\nname = 'amount'\n{ANSWER}{reasons}")).unwrap();
        assert!(features.answer().has_reasons());
        let at = |place: &Place| answer.pointer(place.pointer()).map(std::borrow::Cow::Borrowed);
        features.answer().prediction(at, &mut Texts::default()).map(|prediction| prediction.reasons)
    };
    let part = |feature: &str, contribution| ReasonCode::Contribution { feature: feature.into(), contribution };
    let named = "reasons = { at = 'shap', features = ['amount', 'hour'] }";
    let cases = [
        ("reasons = 'why'", json!({"label": "x", "why": ["R07"]}), Ok(vec![ReasonCode::Code("R07".into())])),
        ("reasons = 'why'", json!({"label": "x"}), Ok(vec![])),
        (named, json!({"label": "x", "shap": [0.1, -0.5]}), Ok(vec![part("hour", -0.5), part("amount", 0.1)])),
        (named, json!({"label": "x", "shap": [0.1]}), Err("reasons are neither codes nor contributions")),
    ];
    for (reasons, answer, expected) in cases {
        match (of(reasons, answer.clone()), expected) {
            (Err(EntryProblem::Unusable(why)), Err(start)) => assert!(why.starts_with(start), "{why}"),
            (found, expected) => assert_eq!(found.ok(), expected.ok(), "{answer}"),
        }
    }
}

#[test]
fn the_documented_file_is_the_example() {
    let document = include_str!("../../../../../../docs/ml-api.md");
    let example = include_str!("../../../../../../examples/features/fraud.toml");
    let (_, inputs_and_answer) = example.split_once("\n\n").unwrap();
    assert!(document.contains(inputs_and_answer));
}

#[test]
fn the_digest_is_that_of_the_file() {
    let text = format!("[[inputs]]\nname = \"amount\"\n\n{ANSWER}");
    // printf '[[inputs]]\nname = "amount"\n\n[answer]\nprediction = "label"\n' | sha256sum | cut -c1-16
    assert_eq!(Features::parse(&text).unwrap().digest(), "d29d18d11a3a2b93");
    assert_ne!(Features::parse(&format!("{text}# changed")).unwrap().digest(), "d29d18d11a3a2b93");
}

proptest! {
    /// Every amount reaches the API with its own digits.
    #[test]
    fn an_amount_keeps_its_digits(whole in 0_u64..10_u64.pow(16), fraction in "([.][0-9]{1,4})?", negative in any::<bool>()) {
        let sign = if negative && (whole > 0 || fraction.bytes().any(|byte| byte > b'0')) { "-" } else { "" };
        let amount = format!("{sign}{whole}{fraction}");
        let json = transaction("").as_json().replace("-952.40", &amount);
        let written = row(&features("[[inputs]]\nname = 'amount'"), &serde_json::from_str(&json).unwrap());
        prop_assert_eq!(written, [amount]);
    }
}
