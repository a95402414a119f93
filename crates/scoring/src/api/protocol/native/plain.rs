//! Reads the usual response in one pass: an array of objects whose texts are plain strings without escapes and whose score is a
//! number. Any other is left to the tolerant reader, which reads these alike.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use uuid::Uuid;

use super::answers::{Answers, EntryId};
use super::object::Object;
use super::{ReadOptions, ResponseEntry, RowResult};

type PlainEntry<'a> = ResponseEntry<'a, &'a str, f64>;

/// Reads a response, or nothing of it.
pub(super) fn read(text: &str, asked: &[Uuid], options: ReadOptions) -> Option<Vec<RowResult>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let answers =
        Entries { answers: Answers::to(asked, options.matching), options }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    answers.finish().ok()
}

/// The entries of a response, each matched as it is read.
struct Entries<'a> {
    answers: Answers<'a>,
    options: ReadOptions,
}

impl<'de, 'a> DeserializeSeed<'de> for Entries<'a> {
    type Value = Answers<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Answers<'a>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, 'a> Visitor<'de> for Entries<'a> {
    type Value = Answers<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of predictions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Answers<'a>, A::Error> {
        let Self { mut answers, options } = self;
        while let Some(Object(entry)) = entries.next_element::<Object<PlainEntry<'de>>>()? {
            let id =
                entry.transaction_id.or(entry.id).map_or(EntryId::Absent, |id| EntryId::from(Uuid::parse_str(id).ok()));
            answers.add(id, entry.has_label(), |texts| entry.prediction(|text| texts.shared(text), Some, options));
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{Matching, read_response, read_tolerantly};
    use super::*;

    const BY_ID: ReadOptions = ReadOptions { matching: Matching::Id, with_reasons: true };
    const ASKED: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(0x3a)];

    #[test]
    fn usual_responses_are_read_in_one_pass() {
        let [a, b, c] = ASKED;
        let bodies = [
            json!([]),
            json!([{"transaction_id": a, "prediction": "fraud", "fraud_score": 0.97, "model_version": "demo-1"}]),
            json!([{"category": "Rent", "transaction_id": b}, {"extra": [1, {}], "label": "é", "transaction_id": a, "score": 1}]),
            json!([{"transaction_id": c, "label": "", "score": null}, {"transaction_id": "x"}, {"prediction": "a"}]),
        ];
        for body in bodies {
            let text = body.to_string();
            assert_eq!(read(&text, &ASKED, BY_ID), Some(read_tolerantly(&text, &ASKED, BY_ID).unwrap()), "{text}");
        }
        for other in [r#"[{"label":1}]"#, r#"[{"label":"\n"}]"#, "[null]", "{}", "[] []", r#"[{"score":1e999}]"#] {
            assert_eq!(read(other, &ASKED, BY_ID), None, "{other}");
        }
    }

    fn any_field() -> impl Strategy<Value = (String, Value)> {
        const NAMES: [&str; 8] =
            ["prediction", "category", "label", "fraud_score", "score", "model_version", "reasons", "other"];
        let id = prop::sample::select(&ASKED[..]).prop_map(|id| ("transaction_id".to_owned(), json!(id)));
        let upper = prop::sample::select(&ASKED[..])
            .prop_map(|id| ("transaction_id".to_owned(), json!(id.simple().to_string().to_uppercase())));
        let value = prop_oneof![
            4 => "[a-z\"\\\\é\u{0}]{0,3}".prop_map(Value::from),
            4 => (-0.5..1.5_f64).prop_map(Value::from),
            1 => any::<f64>().prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
            1 => Just(json!(null)),
            1 => Just(json!(["x", {"prediction": 1}])),
            1 => Just(json!("x".repeat(300))),
        ];
        let field = (prop::sample::select(&NAMES[..]), value).prop_map(|(name, value)| (name.to_owned(), value));
        prop_oneof![3 => id, 1 => upper, 8 => field]
    }

    fn any_entry() -> impl Strategy<Value = String> {
        let fields = prop::collection::vec(any_field(), 0..6).prop_map(|fields| {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
            format!("{{{}}}", fields.join(" ,"))
        });
        let list = prop::collection::vec(any_field(), 0..10).prop_map(|fields| {
            let values: Vec<String> = fields.iter().map(|(_, value)| value.to_string()).collect();
            format!("[{}]", values.join(","))
        });
        prop_oneof![12 => fields, 1 => list, 1 => Just("null".to_owned()), 1 => Just("7".to_owned())]
    }

    proptest! {
        /// Also entries with a field twice, lists in place of objects, and what is no entry at all.
        #[test]
        fn both_readers_agree(entries in prop::collection::vec(any_entry(), 0..6), end in prop::sample::select(&["", "", " ", "x"][..])) {
            let text = format!("[{}]{end}", entries.join(", "));
            let tolerant = read_tolerantly(&text, &ASKED, BY_ID);
            if let Some(plain) = read(&text, &ASKED, BY_ID) {
                prop_assert_eq!(Ok(&plain), tolerant.as_ref());
            }
            prop_assert_eq!(read_response(text.as_bytes(), &ASKED, BY_ID), tolerant);
        }

        #[test]
        fn both_readers_agree_on_any_text(text in r#"[\[\]{}",:\\NaIf0-9.eé a-]{0,60}"#) {
            if let Some(plain) = read(&text, &ASKED, BY_ID) {
                prop_assert_eq!(Ok(plain), read_tolerantly(&text, &ASKED, BY_ID));
            }
        }
    }
}
