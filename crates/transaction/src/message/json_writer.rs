//! Writes the entry of a row into the body of a chunk, byte for byte as [`Entry`](crate::Entry) is encoded, without a value in between: the
//! loader writes millions of them.

use std::io::Write as _;

use uuid::fmt::Hyphenated;

use crate::rules::{AttributeName, CheckedFields};

/// Writes the entry of a row.
pub(crate) fn write_entry(body: &mut Vec<u8>, fields: &CheckedFields<'_>) {
    put(body, br#"{"row":"#);
    write_number(body, fields.row);
    if let Some(id) = &fields.external_id {
        put(body, br#","external_id":"#);
        write_text(body, id);
    }
    put(body, br#","transaction":{"id":""#);
    put(body, fields.id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
    put(body, br#"","description":"#);
    write_text(body, &fields.description);
    put(body, br#","amount":"#);
    put(body, fields.amount.text().as_bytes());
    put(body, br#","timestamp":""#);
    put(body, fields.timestamp.text().as_bytes());
    put(body, br#"","merchant":"#);
    match &fields.merchant {
        Some(merchant) => write_text(body, merchant),
        None => put(body, b"null"),
    }
    put(body, br#","operation_type":"#);
    write_text(body, &fields.operation_type);
    put(body, br#","side":"#);
    write_text(body, &fields.side);
    write_attributes(body, fields);
    put(body, b"}}");
}

fn write_attributes(body: &mut Vec<u8>, fields: &CheckedFields<'_>) {
    if fields.attributes.is_empty() {
        return;
    }
    put(body, br#","attributes":"#);
    let mut before = b'{';
    for (name, value) in fields.attributes.iter() {
        body.push(before);
        match name {
            AttributeName::Column(column) => put(body, &column.json),
            AttributeName::Own(name) => write_text(body, name),
        }
        body.push(b':');
        write_text(body, value);
        before = b',';
    }
    body.push(b'}');
}

/// Writes a JSON text. Most need no escape.
pub(crate) fn write_text(body: &mut Vec<u8>, text: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // All bytes, so that several are compared at a time.
    if text.bytes().fold(false, |any, byte| any | is_special(byte)) {
        serde_json::to_writer(body, text).expect("a text is JSON, and a vector takes all of it");
        return;
    }
    body.reserve(text.len() + 2);
    body.push(b'"');
    put(body, text.as_bytes());
    body.push(b'"');
}

pub(crate) fn write_number(body: &mut Vec<u8>, number: u64) {
    write!(body, "{number}").expect("a vector takes all of it");
}

fn put(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Columns, Entry, FieldAccess, Mapping, Rules, RunSettings};

    /// A row with fields beside its header.
    struct Fields {
        named: Vec<String>,
        extras: Vec<(String, String)>,
    }

    impl FieldAccess for Fields {
        fn count(&self) -> usize {
            self.named.len()
        }

        fn get(&self, index: usize) -> Option<&[u8]> {
            self.named.get(index).map(String::as_bytes)
        }

        fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.extras.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        }
    }

    fn rules() -> Rules {
        let header = [
            "side",
            "Z",
            "operation_type",
            "a\"b",
            "merchant",
            "timestamp",
            "amount",
            "description",
            "é",
            "id",
            "A",
            "\u{1}",
        ];
        let settings = RunSettings::example();
        let mapping: Mapping = serde_json::from_str(r#"{"attributes":{"keep":["*"]}}"#).unwrap();
        let columns = Columns::from_names(header.map(str::to_owned).to_vec(), Some(&mapping)).unwrap();
        Rules::new(columns, &settings)
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-zA-Z0-9 ]{1,12}", "[\"\\\\\u{1}-\u{1f}a\u{7f}é€😀]{0,8}", ".{0,20}"]
    }

    fn id() -> impl Strategy<Value = String> {
        prop_oneof!["[0-9]{1,9}", Just("67E55044-10b1-426f-9247-bb680e5fe0c8".to_owned()), ".{1,9}"]
    }

    proptest! {
        #[test]
        fn an_entry_is_written_as_it_is_encoded(
            texts in vec(text(), 9),
            id in id(),
            units in any::<i64>(),
            scale in 0_u32..=4,
            micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000,
            extras in vec(("[a-zA-Zé\"]{1,2}", text()), 0..4),
            row in any::<u64>(),
        ) {
            let amount = rust_decimal::Decimal::new(units % 10_i64.pow(16), scale).to_string();
            let timestamp = crate::Timestamp::from(chrono::DateTime::from_timestamp_micros(micros).unwrap()).to_string();
            let mut texts = texts.into_iter();
            let mut named: Vec<String> = (0..12).map(|_| texts.next().unwrap_or_default()).collect();
            (named[5], named[6], named[9]) = (timestamp, amount, id);
            for required in [0, 2, 7] {
                named[required].push('x');
            }
            let (rules, fields) = (rules(), Fields { named, extras });
            let Ok(checked) = rules.check_fields(row, 1, &fields, 100) else { return Ok(()) };
            let mut body = b"before ".to_vec();
            write_entry(&mut body, &checked);
            let entry = Entry::new(row, &checked.into_valid_row()).unwrap();
            let expected = format!("before {}", serde_json::to_string(&entry).unwrap());
            prop_assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
}
