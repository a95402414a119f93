//! The reasons that a model gives for a score: codes, or features with what they add to it.

use assay_transaction::ReasonCode;
use serde_json::Value;

use super::native::is_storable;

/// So many are kept of a row: codes as they come, contributions by their size.
const MOST: usize = 10;

/// The reasons in an answer about one row: an array of codes (`"R07"`, `{"code": …}`) and of contributions (`{"feature": …,
/// "contribution": …}`), or of numbers that belong to `features` in their order. `None` if it is anything else.
pub(super) fn read(value: &Value, features: Option<&[String]>) -> Option<Vec<ReasonCode>> {
    let items = match value {
        Value::Null => return Some(Vec::new()),
        Value::Array(items) => items,
        _ => return None,
    };
    let mut reasons: Vec<ReasonCode> = match features {
        Some(features) if features.len() == items.len() => {
            features.iter().zip(items).map(|(feature, item)| contribution(feature, item)).collect::<Option<_>>()?
        }
        Some(_) => return None,
        None => items.iter().map(reason).collect::<Option<_>>()?,
    };
    let size = |reason: &ReasonCode| match reason {
        ReasonCode::Code(_) => None,
        ReasonCode::Contribution { contribution, .. } => Some(contribution.abs()),
    };
    if reasons.iter().all(|reason| size(reason).is_some()) {
        reasons.sort_by(|one, other| size(other).partial_cmp(&size(one)).unwrap_or(std::cmp::Ordering::Equal));
    }
    reasons.truncate(MOST);
    Some(reasons)
}

fn reason(item: &Value) -> Option<ReasonCode> {
    if let Some(code) = item.as_str().or_else(|| item.get("code")?.as_str()) {
        return is_storable(code).then(|| ReasonCode::Code(code.to_owned()));
    }
    contribution(item.get("feature")?.as_str()?, item.get("contribution")?)
}

fn contribution(feature: &str, number: &Value) -> Option<ReasonCode> {
    let contribution = number.as_f64().filter(|number| number.is_finite())?;
    is_storable(feature).then(|| ReasonCode::Contribution { feature: feature.to_owned(), contribution })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(text: &str) -> ReasonCode {
        ReasonCode::Code(text.into())
    }

    fn part(feature: &str, contribution: f64) -> ReasonCode {
        ReasonCode::Contribution { feature: feature.into(), contribution }
    }

    #[test]
    fn reasons_are_codes_or_contributions() {
        let names = ["amount".to_owned(), "hour".to_owned()];
        let cases = [
            (json!(null), None, Some(vec![])),
            (json!([]), None, Some(vec![])),
            (json!(["R07", {"code": "R01", "text": "x"}]), None, Some(vec![code("R07"), code("R01")])),
            (
                json!([{"feature": "hour", "contribution": 0.1}, {"feature": "amount", "contribution": -0.5, "value": 7}]),
                None,
                Some(vec![part("amount", -0.5), part("hour", 0.1)]),
            ),
            (json!([0.25, -1]), Some(&names[..]), Some(vec![part("hour", -1.0), part("amount", 0.25)])),
            (json!([0.25]), Some(&names[..]), None),
            (json!([0.25, "x"]), Some(&names[..]), None),
            (json!([0.25, 0.5]), None, None),
            (json!("R07"), None, None),
            (json!({"amount": 0.5}), None, None),
            (json!([["R07"]]), None, None),
            (json!([""]), None, None),
            (json!(["a\u{0}"]), None, None),
            (json!(["x".repeat(256)]), None, None),
            (json!([{"feature": "amount", "contribution": "0.5"}]), None, None),
        ];
        for (value, features, expected) in cases {
            assert_eq!(read(&value, features), expected, "{value}");
        }
    }

    #[test]
    fn the_weightiest_are_kept() {
        let parts: Vec<Value> = (0..40).map(|at| json!({"feature": format!("f{at}"), "contribution": at})).collect();
        let kept = read(&Value::from(parts), None).unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[9]), (MOST, &part("f39", 39.0), &part("f30", 30.0)));
        let codes: Vec<Value> = (0..40).map(|at| json!(format!("R{at}"))).collect();
        let kept = read(&Value::from(codes), None).unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[9]), (MOST, &code("R0"), &code("R9")));
    }
}
