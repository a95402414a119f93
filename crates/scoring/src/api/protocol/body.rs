//! The body of a request as JSON with placeholders, for protocols that differ in nothing else.
//!
//! A placeholder is a JSON string: `"$arrays"` becomes an array of values for each row, `"$objects"` an object for each row,
//! `"$columns"` an object with an array for each input, `"$column:NAME"` the array of one input, `"$names"` the names of the inputs.

use bytes::Bytes;
use serde_json::Value;

use super::features::{Input, Matrix};
use super::native::string_length;

/// A body, taken apart once.
#[derive(Debug)]
pub(super) struct BodyTemplate(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Names,
    Arrays,
    Objects,
    Columns,
    Column(usize),
}

impl BodyTemplate {
    /// Takes a body apart. The error says what is wrong with it.
    pub(super) fn parse(template: &str, inputs: &[Input]) -> Result<Self, String> {
        serde_json::from_str::<Value>(template).map_err(|_| "`body` is not JSON".to_owned())?;
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(at) = rest.find('"') {
            let (before, from) = rest.split_at(at);
            let (string, after) = from.split_at(string_length(from));
            text.push_str(before);
            match Part::of(string, inputs)? {
                Some(part) => parts.extend([Part::Text(std::mem::take(&mut text)), part]),
                None => text.push_str(string),
            }
            rest = after;
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        if parts.iter().all(|part| matches!(part, Part::Text(_) | Part::Names)) {
            return Err(
                "`body` has no placeholder for rows: \"$arrays\", \"$objects\", \"$columns\" or \"$column:NAME\""
                    .to_owned(),
            );
        }
        let body = Self(parts);
        let without_rows = body.write(inputs, &Matrix::default());
        serde_json::from_slice::<Value>(&without_rows)
            .map_err(|_| "a placeholder of `body` cannot be a key".to_owned())?;
        Ok(body)
    }

    /// The body about these rows.
    pub(super) fn write(&self, inputs: &[Input], matrix: &Matrix) -> Bytes {
        let mut body = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => body.push_str(text),
                Part::Names => write_list(&mut body, ['[', ']'], inputs.iter().map(Input::json_name), push),
                Part::Arrays => write_list(&mut body, ['[', ']'], 0..matrix.rows(), |body, row| {
                    write_list(body, ['[', ']'], matrix.row(row), push);
                }),
                Part::Objects => write_list(&mut body, ['[', ']'], 0..matrix.rows(), |body, row| {
                    write_object(body, inputs, matrix.row(row));
                }),
                Part::Columns => write_list(&mut body, ['{', '}'], inputs.iter().enumerate(), |body, (at, input)| {
                    write_member(body, input, |body| write_list(body, ['[', ']'], matrix.column(at), push));
                }),
                Part::Column(at) => write_list(&mut body, ['[', ']'], matrix.column(*at), push),
            }
        }
        body.into()
    }
}

impl Part {
    /// The placeholder that a JSON string is; none if it is a text like others.
    fn of(string: &str, inputs: &[Input]) -> Result<Option<Self>, String> {
        let Some(name) = string.strip_prefix("\"$").and_then(|name| name.strip_suffix('"')) else { return Ok(None) };
        Ok(Some(match name {
            "names" => Self::Names,
            "arrays" => Self::Arrays,
            "objects" => Self::Objects,
            "columns" => Self::Columns,
            _ => match name.strip_prefix("column:") {
                Some(column) => {
                    let at = inputs.iter().position(|input| input.name() == column);
                    Self::Column(
                        at.ok_or_else(|| format!("`body` names the column `{column}`, but there is no such input"))?,
                    )
                }
                None => {
                    return Err(format!(
                        "`body` has an unknown placeholder, \"${name}\"; there are \"$names\", \"$arrays\", \"$objects\", \
                         \"$columns\" and \"$column:NAME\""
                    ));
                }
            },
        }))
    }
}

fn push(body: &mut String, json: &str) {
    body.push_str(json);
}

/// Writes items between brackets, with commas.
pub(super) fn write_list<T>(
    body: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    body.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            body.push(',');
        }
        write(body, item);
    }
    body.push(close);
}

/// Writes a row as an object.
pub(super) fn write_object<'a>(body: &mut String, inputs: &[Input], values: impl Iterator<Item = &'a str>) {
    write_list(body, ['{', '}'], inputs.iter().zip(values), |body, (input, value)| {
        write_member(body, input, |body| body.push_str(value));
    });
}

fn write_member(body: &mut String, input: &Input, write_value: impl FnOnce(&mut String)) {
    body.push_str(input.json_name());
    body.push(':');
    write_value(body);
}

#[cfg(test)]
mod tests {
    use assay_transaction::EncodedTransaction;

    use super::super::features::Features;
    use super::*;

    fn features() -> Features {
        Features::parse(
            "[[inputs]]\nname = 'amount'\n[[inputs]]\nname = 'a\"b'\nfrom = 'side'\n[answer]\nprediction = 'label'",
        )
        .unwrap()
    }

    #[test]
    fn placeholders_become_rows() {
        let cases = [
            (r#"{"x": "$arrays"}"#, r#"{"x": [[1.50,"debit"],[-2,"credit"]]}"#),
            (r#""$objects""#, r#"[{"amount":1.50,"a\"b":"debit"},{"amount":-2,"a\"b":"credit"}]"#),
            (r#"["$names","$columns"]"#, r#"[["amount","a\"b"],{"amount":[1.50,-2],"a\"b":["debit","credit"]}]"#),
            (r#"{"c":"\"$arrays","y":"$column:amount"}"#, r#"{"c":"\"$arrays","y":[1.50,-2]}"#),
        ];
        let features = features();
        let transaction = |amount: &str, side: &str| -> EncodedTransaction {
            let json = format!(
                r#"{{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"","amount":{amount},"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"x","side":"{side}"}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let rows = [transaction("1.50", "debit"), transaction("-2", "credit")];
        for (template, expected) in cases {
            let body = BodyTemplate::parse(template, features.inputs());
            let body = body.unwrap().write(features.inputs(), &features.matrix(rows.iter()));
            assert_eq!(body, expected, "{template}");
        }
        let none = BodyTemplate::parse(r#"["$names","$arrays","$columns"]"#, features.inputs()).unwrap();
        let body = none.write(features.inputs(), &features.matrix(std::iter::empty()));
        assert_eq!(body, r#"[["amount","a\"b"],[],{"amount":[],"a\"b":[]}]"#);
    }

    #[test]
    fn a_wrong_body_is_refused() {
        let cases = [
            ("{", "`body` is not JSON"),
            (r#"{"x": $arrays}"#, "`body` is not JSON"),
            (r#"{"$arrays": 1}"#, "cannot be a key"),
            (r#"{"x": "$names"}"#, "`body` has no placeholder for rows"),
            (r#"{"x": "$array"}"#, "unknown placeholder, \"$array\""),
            (r#"{"x": "$column:hour"}"#, "`body` names the column `hour`, but there is no such input"),
        ];
        for (template, expected) in cases {
            let error = BodyTemplate::parse(template, features().inputs()).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
