//! What may be shown of an error of the ML API: which fields it refuses and of which type the errors are, and nothing else.
//!
//! What it says besides (messages, inputs, contexts) may repeat the transactions, and never gets into a log or a reason. A name must
//! look like one, and be the name of a field of the request or not occur in it; of a message, only the former is shown.

use std::cell::Cell;

use serde_json::{Map, Value};

use crate::reason::Reason;

/// The names under which an object in place of predictions says that it is an error.
pub(super) const ERROR_KEYS: [&str; 9] =
    ["error", "errors", "detail", "details", "exception", "error_message", "error_code", "message", "msg"];
/// Where an error lists the fields at fault.
const LISTS: [&str; 4] = ["detail", "details", "errors", "error"];
/// Where an item of such a list names its field.
const LOCATIONS: [&str; 5] = ["loc", "field", "param", "pointer", "path"];
/// Where an item, or the error itself, names its type.
const TYPES: [&str; 5] = ["type", "error_type", "code", "error_code", "errorCode"];

/// Where an error is told in words; of these, only names of fields of the request are shown.
const WORDS: [&str; 5] = ["detail", "error", "message", "msg", "title"];
/// How many words of each are read.
const MAX_WORDS: usize = 40;
/// A message with more names of fields repeats a transaction, and tells nothing.
const MAX_NAMED: usize = 2;

/// Longest detail, so that a reason with it has at most 200 characters.
const MAX_DETAIL: usize = 100;
/// Longest name that is shown.
const MAX_NAME: usize = 64;
/// More digits in a row may be the number of a card or an account.
const MAX_DIGITS: usize = 6;
/// How deep lists are followed.
const MAX_DEPTH: usize = 6;
/// How many names are looked up in a request: a long error about a long request must not take long to read.
const MAX_LOOKUPS: u32 = 200;

/// Whether a JSON value says anything.
pub(super) fn is_said(json: &str) -> bool {
    !matches!(json, "null" | "false" | "0" | "\"\"" | "[]" | "{}")
}

/// The fields and types that the body of an error names, such as `body.merchant: string_type`, once each.
pub(super) fn detail(body: &[u8], request: &[u8]) -> Option<Reason> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let request = std::str::from_utf8(request).ok()?.to_ascii_lowercase();
    let mut complaints = Complaints { request, shown: Vec::new(), lookups: Cell::new(0) };
    complaints.collect(&value, &[], 0);
    let mut text = String::new();
    for complaint in complaints.shown {
        let separator = if text.is_empty() { "" } else { ", " };
        if text.len() + separator.len() + complaint.len() > MAX_DETAIL {
            break;
        }
        text.push_str(separator);
        text.push_str(&complaint);
    }
    (!text.is_empty()).then(|| text.into())
}

/// A message about a response with every name in it hidden that may be a value of the request: some APIs use values as keys.
pub(crate) fn without_values(message: &str, request: &[u8]) -> String {
    let request = String::from_utf8_lossy(request).to_ascii_lowercase();
    let complaints = Complaints { request, shown: Vec::new(), lookups: Cell::new(0) };
    let mut parts = message.split('`');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    while let Some(name) = parts.next() {
        if complaints.may_show(name) {
            shown.extend(["`", name, "`"]);
        } else {
            shown.push_str("another key");
        }
        shown.push_str(parts.next().unwrap_or_default());
    }
    shown
}

/// What is shown of an error, as it is found.
struct Complaints {
    /// The request, in lower case.
    request: String,
    shown: Vec<String>,
    /// How often a name was looked up in the request.
    lookups: Cell<u32>,
}

impl Complaints {
    /// Collects what a list, an item of it, or a map of fields says; `above` names the fields around it.
    fn collect(&mut self, value: &Value, above: &[String], depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, above, depth + 1)),
            Value::Object(error) => self.collect_object(error, above, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn collect_object(&mut self, error: &Map<String, Value>, above: &[String], depth: usize) {
        let kind = TYPES.iter().filter_map(|key| error.get(*key)?.as_str()).find(|kind| self.may_show(kind));
        let location = LOCATIONS.iter().find_map(|key| self.location(error.get(*key)?));
        if let Some(location) = location {
            self.show(&[above, &location].concat(), kind);
            return;
        }
        let list = LISTS.iter().find_map(|key| error.get(*key).filter(|list| list.is_array() || list.is_object()));
        let before = self.shown.len();
        if let Some(list) = list {
            self.collect(list, above, depth + 1);
        } else if self.is_by_field(error, depth) {
            self.collect_fields(error, above, depth);
        }
        if self.shown.len() == before {
            self.show_words(error, above, kind);
        }
    }

    /// Shows an error that lists no fields: its type, and the fields that its message names.
    fn show_words(&mut self, error: &Map<String, Value>, above: &[String], kind: Option<&str>) {
        let is_sign = |sign: char| !sign.is_ascii_alphanumeric() && sign != '_';
        let messages = WORDS.iter().filter_map(|key| error.get(*key)?.as_str());
        let words = messages.flat_map(|message| message.split(is_sign).filter(|word| !word.is_empty()).take(MAX_WORDS));
        let mut fields: Vec<&str> = Vec::new();
        for word in words {
            if !fields.contains(&word) && self.is_field(word) {
                fields.push(word);
            }
        }
        if fields.is_empty() || fields.len() > MAX_NAMED {
            return self.show(above, kind);
        }
        for field in fields {
            self.show(&[above, &[field.to_owned()]].concat(), kind);
        }
    }

    /// Whether an object has an entry for each field at fault, and is no transaction that is repeated.
    fn is_by_field(&self, error: &Map<String, Value>, depth: usize) -> bool {
        let is_item = LOCATIONS.iter().chain(&TYPES).any(|key| error.contains_key(*key));
        let has_lists = error.values().all(|value| value.is_array() || value.is_object());
        let has_fields = depth > 0 && !error.contains_key("id") && error.keys().all(|key| self.is_field(key));
        !is_item && (has_lists || has_fields)
    }

    /// Collects from an object that has an entry for each field at fault.
    fn collect_fields(&mut self, fields: &Map<String, Value>, above: &[String], depth: usize) {
        for (name, value) in fields {
            let mut below = above.to_vec();
            if !is_index(name) {
                if !self.may_show(name) {
                    continue;
                }
                below.push(name.clone());
            }
            let messages = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            if messages.iter().all(Value::is_string) {
                self.show(&below, None);
            } else {
                self.collect(value, &below, depth + 1);
            }
        }
    }

    /// The names in a location, whether it is a list or a path; none if any part of it is neither a name nor an index.
    fn location(&self, location: &Value) -> Option<Vec<String>> {
        let parts: Vec<&str> = match location {
            Value::Array(parts) => {
                parts.iter().filter(|part| !part.is_u64()).map(Value::as_str).collect::<Option<_>>()?
            }
            Value::String(path) => path.split(['.', '/', '[', ']', '$', '\'', '"']).collect(),
            _ => return None,
        };
        let names: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty() && !is_index(part)).collect();
        let are_shown = !names.is_empty() && names.iter().all(|name| self.may_show(name));
        are_shown.then(|| names.into_iter().map(str::to_owned).collect())
    }

    fn show(&mut self, field: &[String], kind: Option<&str>) {
        let field = field.join(".");
        let complaint = match (field.as_str(), kind) {
            ("", None) => return,
            ("", Some(kind)) => kind.to_owned(),
            (_, None) => field,
            (_, Some(kind)) => format!("{field}: {kind}"),
        };
        if !self.shown.contains(&complaint) {
            self.shown.push(complaint);
        }
    }

    /// Whether a text is a name and no value of the request: it is the name of a field there, or does not occur in it.
    fn may_show(&self, text: &str) -> bool {
        let is_standard = text == "body";
        is_name(text) && (is_standard || self.is_field(text) || !self.may_occur(&text.to_ascii_lowercase()))
    }

    /// Whether a field of the request has this name.
    fn is_field(&self, name: &str) -> bool {
        is_name(name)
            && self.lookups.get() < MAX_LOOKUPS
            && self.may_occur(&format!("\"{}\":", name.to_ascii_lowercase()))
    }

    /// Whether a text is in the request. After too many lookups, any may be.
    fn may_occur(&self, text: &str) -> bool {
        let lookups = self.lookups.get() + 1;
        self.lookups.set(lookups);
        lookups > MAX_LOOKUPS || self.request.contains(text)
    }
}

fn is_index(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text looks like the name of a field or of a type.
fn is_name(text: &str) -> bool {
    let is_short = (1..=MAX_NAME).contains(&text.len());
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    let has_few_digits = text.split(|letter: char| !letter.is_ascii_digit()).all(|digits| digits.len() <= MAX_DIGITS);
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    is_short && is_plain && has_few_digits && begins
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const REQUEST: &str =
        r#"[{"id":"1","description":"Shop 3 ACME missing","amount":-3.50,"merchant":null,"type":"Smith"}]"#;

    fn shown(body: &Value) -> Option<String> {
        detail(body.to_string().as_bytes(), REQUEST.as_bytes()).map(|detail| detail.to_string())
    }

    #[test]
    fn a_name_that_may_be_a_value_is_hidden() {
        let request = br#"[{"merchant": "ACME", "card_age": 12}]"#;
        let cases = [
            ("got an object with `ACME`, `score`", "got an object with another key, `score`"),
            ("got an object with `merchant`", "got an object with `merchant`"),
            ("expected an array at /1, got `Jane Doe`", "expected an array at /1, got another key"),
            ("got a number", "got a number"),
            ("", ""),
        ];
        for (message, expected) in cases {
            assert_eq!(without_values(message, request), expected);
        }
    }

    #[test]
    fn fields_and_types_are_shown() {
        let cases = [
            // FastAPI, of pydantic 2 and 1.
            (
                json!({"detail": [{"type": "string_type", "loc": ["body", 3, "merchant"], "msg": "Shop 3", "input": [1]}]}),
                "body.merchant: string_type",
            ),
            (
                json!({"detail": [{"type": "model_attributes_type", "loc": ["body"], "input": {}}]}),
                "body: model_attributes_type",
            ),
            (
                json!({"detail": [{"loc": ["body", 0, "amount"], "type": "value_error.number.not_ge"}]}),
                "body.amount: value_error.number.not_ge",
            ),
            (
                json!({"detail": [
                    {"loc": ["body", 0, "merchant"], "type": "string_type"}, {"loc": ["body", 7, "merchant"], "type": "string_type"},
                    {"loc": ["body", 7, "amount"], "type": "float_type"},
                ]}),
                "body.merchant: string_type, body.amount: float_type",
            ),
            // Django, marshmallow, Rails, Laravel.
            (json!({"merchant": ["This field may not be null."], "amount": ["Shop 3"]}), "amount, merchant"),
            (json!([{}, {"merchant": ["Required: Shop 3"]}]), "merchant"),
            (json!({"errors": {"0": {"merchant": ["Shop 3"]}}, "message": "Shop 3"}), "merchant"),
            (json!({"errors": {"merchant": "Shop 3", "amount": "Shop 3"}}), "amount, merchant"),
            // Express, JSON:API, Zod, JSON Schema.
            (
                json!({"errors": [{"value": "Shop 3", "msg": "Shop 3", "param": "merchant", "location": "body"}]}),
                "merchant",
            ),
            (json!({"errors": [{"field": "[2].merchant", "code": "required"}]}), "merchant: required"),
            (
                json!({"error": {"code": "invalid_input", "details": [{"path": [0, "merchant"], "code": "invalid_type"}]}}),
                "merchant: invalid_type",
            ),
            (json!({"errors": [{"pointer": "/3/merchant", "title": "Shop 3"}]}), "merchant"),
            // Fields that a message names.
            (json!({"detail": "merchant of Shop 3 must not be null"}), "merchant"),
            (json!({"error": "bad request: `Amount` is -3.50", "code": "E17"}), "Amount: E17"),
            (json!({"errors": [{"message": "merchant: Shop 3"}, {"message": "merchant: ACME"}]}), "merchant"),
            // MLflow, and others with a code alone.
            (json!({"error_code": "BAD_REQUEST", "message": "Shop 3", "stack_trace": "Shop 3"}), "BAD_REQUEST"),
            (json!({"error": {"type": "invalid_request_error", "message": "Shop 3"}}), "invalid_request_error"),
        ];
        for (body, expected) in cases {
            assert_eq!(shown(&body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn nothing_else_is_shown() {
        let cases = [
            json!("Shop 3"),
            json!({"detail": "Not Found"}),
            json!({"error": "Shop 3"}),
            json!({"message": "[{'id': 1, 'description': 'Shop 3 ACME', 'amount': -3.5}]"}),
            json!({"message": "Shop 3", "code": 4_111_111_111_111_111_u64}),
            json!({"code": "4111111111111111"}),
            json!({"detail": [{"loc": ["body", "Shop 3"]}]}),
            // Values of the transaction that look like names.
            json!({"detail": [{"type": "ACME"}]}),
            json!({"errors": [{"id": "1", "description": "Shop 3", "type": "Smith"}]}),
            json!({"errors": {"ACME": ["no"]}}),
            json!({"errors": {"acme": ["no"]}}),
            json!({"errors": [{"code": "3.50"}, {"code": "2023-11-28"}]}),
            json!({"detail": [{"loc": ["body", "Shop"], "type": "missing"}]}),
            json!([]),
            json!({}),
        ];
        for body in cases {
            assert_eq!(shown(&body), None, "{body}");
        }
        assert_eq!(detail(b"<html>merchant</html>", REQUEST.as_bytes()), None);
    }

    #[test]
    fn a_detail_is_short() {
        let many: Vec<Value> =
            (0..500).map(|at| json!({"loc": ["body", format!("field_{at}x")], "type": "string_type"})).collect();
        let detail = shown(&json!({ "detail": many })).unwrap();
        assert!(
            detail.len() <= MAX_DETAIL && detail.starts_with("body.field_0x: string_type, body.field_1x"),
            "{detail}"
        );
        let deep = (0..100).fold(json!({"merchant": ["no"]}), |inner, _| json!({ "errors": [inner] }));
        assert_eq!(shown(&deep), None);
    }

    #[test]
    fn a_long_error_is_read_up_to_a_limit() {
        let one = |name: &str| json!({"loc": ["body", name], "type": "string_type"});
        let refused = vec![one("Smith"); 1_000];
        let shown_after = |count: usize| {
            let detail = [&refused[..count], &[one("merchant")]].concat();
            shown(&json!({ "detail": detail }))
        };
        assert_eq!(shown_after(10).as_deref(), Some("string_type, body.merchant: string_type"));
        assert_eq!(shown_after(1_000).as_deref(), Some("string_type"));
    }

    fn any_error(value: String) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            2 => Just(json!(value)), 1 => Just(json!(format!("bad {value}"))), 1 => Just(json!("string_type")), 1 => Just(json!(3)),
        ];
        let keys = [&LISTS[..], &LOCATIONS[..], &TYPES[..], &["merchant", "msg", "input", "0"]].concat();
        let key = prop_oneof![4 => prop::sample::select(keys).prop_map(str::to_owned), 1 => Just(value)];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key.clone(), inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        /// Wherever an error repeats a value of the request.
        #[test]
        fn no_value_of_a_request_is_shown(
            (value, body) in "[a-z_]{4,12}".prop_flat_map(|value| (Just(value.clone()), any_error(value))),
        ) {
            prop_assume!(!"string_type body merchant description".contains(&value));
            let request = json!([{"id": 1, "description": format!("by {value} in"), "merchant": "x"}]).to_string();
            if let Some(detail) = detail(body.to_string().as_bytes(), request.as_bytes()) {
                prop_assert!(!detail.as_str().contains(&value), "{} in {}", value, detail);
            }
        }
    }
}
