//! Column mapping: how a source of another schema becomes transactions.
//!
//! A [`Mapping`] is written by a person in TOML and frozen as JSON in the settings of a run, in the same form. It says for
//! each field of a transaction where it comes from; a field that it leaves out is the column of that name. It knows no
//! header: [`crate::Columns`] resolves its names against one, and [`crate::Rules`] apply it.
//!
//! Guarantees: no amount passes through a float, and none is rounded unless the mapping asks for it.

mod amount;
mod template;
mod text;
mod timestamp;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use amount::{AmountFrom, Scaling};
pub(crate) use template::{Part, Template};
pub(crate) use text::TextFrom;
pub(crate) use timestamp::{Clock, TimestampFrom};

/// Stands for every column that no field is made of.
pub(crate) const EVERY_OTHER: &str = "*";

/// Where each field of a transaction comes from, in a source of another schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_blank")]
    pub(crate) id: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_blank")]
    pub(crate) description: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<AmountFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<TimestampFrom>,
    /// A blank constant: none, although there is a column of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merchant: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_blank")]
    pub(crate) operation_type: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_blank")]
    pub(crate) side: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Attributes::is_default")]
    pub(crate) attributes: Attributes,
}

/// Every row would be rejected for a blank constant in a field that must not be empty.
fn not_blank<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextFrom>, D::Error> {
    match TextFrom::deserialize(deserializer)? {
        TextFrom::Constant(text) if text.trim().is_empty() => {
            Err(serde::de::Error::custom("a constant must not be blank here"))
        }
        from => Ok(Some(from)),
    }
}

impl Mapping {
    /// The columns that it needs beside those of `[attributes]`, to tell whether a header is the one that is meant.
    pub fn columns(&self) -> BTreeSet<&str> {
        let named = [
            ("id", &self.id),
            ("description", &self.description),
            ("operation_type", &self.operation_type),
            ("side", &self.side),
        ];
        let mut columns = BTreeSet::new();
        for (name, from) in named {
            match from {
                Some(from) => columns.extend(from.columns()),
                None => drop(columns.insert(name)),
            }
        }
        match &self.amount {
            Some(from) => columns.extend(from.columns()),
            None => drop(columns.insert("amount")),
        }
        match &self.timestamp {
            Some(from) => columns.extend(from.text.columns()),
            None => drop(columns.insert("timestamp")),
        }
        columns.extend(self.merchant.iter().flat_map(TextFrom::columns));
        columns
    }
}

/// Which other columns are kept, and under which names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AttributesTable")]
pub(crate) struct Attributes {
    /// Columns, and `*` for every one that no field is made of.
    pub(crate) keep: Vec<String>,
    /// Columns that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) drop: Vec<String>,
    /// Our name, and the column's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rename: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributesTable {
    #[serde(default = "every_other")]
    keep: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    rename: BTreeMap<String, String>,
}

fn every_other() -> Vec<String> {
    vec![EVERY_OTHER.to_owned()]
}

impl Default for Attributes {
    fn default() -> Self {
        Self { keep: every_other(), drop: Vec::new(), rename: BTreeMap::new() }
    }
}

impl Attributes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<AttributesTable> for Attributes {
    type Error = String;

    fn try_from(AttributesTable { keep, drop, rename }: AttributesTable) -> Result<Self, String> {
        let dropped = |column: &&String| drop.iter().any(|dropped| dropped.eq_ignore_ascii_case(column));
        if let Some(column) = keep.iter().chain(rename.values()).find(dropped) {
            return Err(format!("`{column}` is to be dropped, and to be kept"));
        }
        if rename.keys().any(|name| name.trim().is_empty()) {
            return Err("an attribute needs a name".to_owned());
        }
        Ok(Self { keep, drop, rename })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Mapping, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn is_frozen_as_it_was_written() {
        let forms = [
            "{}",
            r#"{"id":"trans_num","side":{"constant":"debit"}}"#,
            r#"{"id":{"template":"{nameOrig}-{row}"},"merchant":{"constant":""}}"#,
            r#"{"side":{"column":"type","values":{"CASH_IN":"credit"},"otherwise":"debit"}}"#,
            r#"{"amount":{"column":"amt","unit":"0.01","sign":"negate","negative_when":{"column":"dc","is":"D"},"decimals":"round"}}"#,
            r#"{"timestamp":{"column":"step","unit":"hours","since":"2023-01-01T00:00:00Z"},"attributes":{"keep":["*"],"drop":["isFraud"],"rename":{"zip_code":"zip"}}}"#,
            r#"{"timestamp":{"template":"{date} {time}"},"attributes":{"keep":[]}}"#,
        ];
        for form in forms {
            let mapping = read(form).unwrap();
            assert_eq!(serde_json::to_string(&mapping).unwrap(), form);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_allowed() {
        let cases = [
            (r#"{"iid":"x"}"#, "unknown field `iid`, expected one of `id`, `description`, `amount`"),
            (r#"{"id":{"colum":"x"}}"#, "unknown field `colum`, expected one of `constant`, `template`, `column`"),
            (r#"{"id":7}"#, "expected the name of a column, or a table such as { column = \"…\" }"),
            (r#"{"id":{}}"#, "write one of `constant`, `template` and `column`"),
            (r#"{"id":{"column":"a","constant":"b"}}"#, "write one of `constant`, `template` and `column`"),
            (r#"{"id":{"column":"a","otherwise":"b"}}"#, "`otherwise` needs `values`"),
            (r#"{"id":{"constant":"a","values":{}}}"#, "`values` needs a `column`"),
            (r#"{"side":{"constant":" "}}"#, "a constant must not be blank here"),
            (r#"{"amount":{"column":"a","values":{}}}"#, "unknown field `values`, expected one of `constant`"),
            (r#"{"amount":{"column":"a","unit":"cents"}}"#, "`cents` is no unit: write \"minor\" for hundredths"),
            (r#"{"amount":{"column":"a","unit":0}}"#, "`0` is no unit"),
            (
                r#"{"amount":{"column":"a","negative_when":{"column":"b","is":7}}}"#,
                "expected a value, or a list of values",
            ),
            (r#"{"amount":{"column":"a","sign":"+"}}"#, "unknown variant `+`, expected one of `keep`, `negate`"),
            (r#"{"timestamp":{"column":"a","since":"2023-01-01T00:00:00Z"}}"#, "`since` needs a `unit`"),
            (r#"{"timestamp":{"column":"a","unit":"hours","since":"noon"}}"#, "`since` is not a date and time like"),
            (r#"{"timestamp":{"column":"a","unit":"weeks"}}"#, "unknown variant `weeks`, expected one of `days`"),
            (r#"{"attributes":{"drop":["a"],"rename":{"b":"A"}}}"#, "`A` is to be dropped, and to be kept"),
            (r#"{"id":{"template":"{a"}}"#, "`{` is not closed"),
        ];
        for (form, expected) in cases {
            let error = read(form).expect_err(form);
            assert!(error.contains(expected), "{form}: {error}");
        }
    }

    #[test]
    fn names_the_columns_that_tell_its_source() {
        let mapping = read(
            r#"{"id":{"template":"{a}-{row}-{b}"},"amount":{"column":"c","negative_when":{"column":"d","is":["D","R"]}},"timestamp":"e","side":{"constant":"debit"},"operation_type":{"column":"f","values":{}}}"#,
        )
        .unwrap();
        assert_eq!(mapping.columns().into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "description", "e", "f"]);
    }
}
