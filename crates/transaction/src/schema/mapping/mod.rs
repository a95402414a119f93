//! Column mappings: how a source of another schema becomes transactions.
//!
//! A [`Mapping`] is written in TOML by a person, and frozen as JSON of the same form in the settings of a run. It says
//! where each field of a transaction comes from; an omitted field is the column of that name. It knows no header:
//! [`crate::Columns`] resolves its names against one, and [`crate::Rules`] apply it.
//!
//! Guarantees: no amount passes through a float, and none is rounded unless the mapping asks for it.

mod amount;
mod path;
mod template;
mod text;
mod timestamp;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::schema::names::name_key;

pub(crate) use amount::{AmountFrom, AmountTexts, Scaling};
pub use path::PathError;
pub(crate) use template::{Template, TemplatePart};
pub(crate) use text::{TextBySign, TextFrom};
pub(crate) use timestamp::{TimeCount, TimestampFrom};

/// Stands for every column that no field uses.
pub(crate) const EVERY_OTHER: &str = "*";

/// Where each field of a transaction comes from, in a source of another schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "id")]
    pub(crate) id: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "description")]
    pub(crate) description: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<AmountFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<TimestampFrom>,
    /// A blank constant means no merchant, even if there is a column of that name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "merchant")]
    pub(crate) merchant: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_sign")]
    pub(crate) operation_type: Option<TextFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_sign")]
    pub(crate) side: Option<TextFrom>,
    /// The namespace of ids made of columns: shared by all files that may repeat the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Attributes::is_default")]
    pub(crate) attributes: Attributes,
}

/// Reads a text field: whether it may be made of counted columns, follow the sign of the amount, and be blank.
fn text_from<'de, D: Deserializer<'de>>(
    deserializer: D,
    [columns, sign, blank]: [bool; 3],
) -> Result<Option<TextFrom>, D::Error> {
    let from = TextFrom::deserialize(deserializer)?;
    let problem = match &from {
        TextFrom::Columns(_) if !columns => "`columns` is only for `id`; use a `template` to join columns",
        TextFrom::BySign(_) if !sign => "`from_sign` is only for `side` and `operation_type`",
        // It would reject every row.
        from if !blank && from.is_blank() => "a constant must not be blank here",
        _ => return Ok(Some(from)),
    };
    Err(serde::de::Error::custom(problem))
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextFrom>, D::Error> {
    text_from(deserializer, [true, false, false])
}

fn description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextFrom>, D::Error> {
    text_from(deserializer, [false, false, false])
}

fn merchant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextFrom>, D::Error> {
    text_from(deserializer, [false, false, true])
}

fn by_sign<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextFrom>, D::Error> {
    text_from(deserializer, [false, true, false])
}

impl Mapping {
    /// The columns it needs, without those of `[attributes]`: they identify the intended header.
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

    /// Checks that involve several parts.
    pub fn check(&self) -> Result<(), &'static str> {
        match &self.namespace {
            None if self.counts_rows() => Err(
                "an id made of `columns` needs a `namespace`: a name shared by all files of the same account, such as \
                 `namespace = \"account-1234\"`",
            ),
            Some(namespace) if namespace.trim().is_empty() => Err("`namespace` must not be blank"),
            _ => Ok(()),
        }
    }

    /// The namespace of its ids, unless a setting overrides it.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether its ids count rows with the same id columns.
    pub fn counts_rows(&self) -> bool {
        matches!(self.id, Some(TextFrom::Columns(_)))
    }

    /// The mapping with path values filled in.
    pub fn resolve(&self, location: &str) -> Result<Self, PathError> {
        self.resolve_by(|name| path::value_of(location, name))
    }

    /// The values it takes from the path of a source, by name: they distinguish identical rows in different folders.
    pub fn path_values(&self, location: &str) -> Result<BTreeMap<String, String>, PathError> {
        let values = RefCell::new(BTreeMap::new());
        self.resolve_by(|name| {
            let value = path::value_of(location, name)?;
            values.borrow_mut().insert(name_key(name), value.clone());
            Ok(value)
        })?;
        Ok(values.into_inner())
    }

    fn resolve_by(&self, folder: impl Fn(&str) -> Result<String, PathError>) -> Result<Self, PathError> {
        let folder = &folder;
        let text = |from: &Option<TextFrom>| from.as_ref().map(|from| from.resolve(folder)).transpose();
        let amount = self.amount.as_ref().map(|from| from.resolve(folder)).transpose()?;
        let timestamp = match &self.timestamp {
            Some(from) => Some(TimestampFrom { text: from.text.resolve(folder)?, ..from.clone() }),
            None => None,
        };
        Ok(Self {
            id: text(&self.id)?,
            description: text(&self.description)?,
            amount,
            timestamp,
            merchant: text(&self.merchant)?,
            operation_type: text(&self.operation_type)?,
            side: text(&self.side)?,
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
        })
    }

    /// The columns it names with a dot: in JSON without such a name, they are paths through objects.
    pub fn paths(&self) -> BTreeSet<&str> {
        let attributes = self.attributes.named();
        self.columns().into_iter().chain(attributes).filter(|column| column.contains('.')).collect()
    }

    /// Whether it names a column explicitly, and not only by `*`.
    pub fn names_column(&self, column: &str) -> bool {
        let key = name_key(column);
        self.columns().into_iter().chain(self.attributes.named()).any(|named| name_key(named) == key)
    }
}

/// Which other columns are kept, and their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AttributesTable")]
pub(crate) struct Attributes {
    /// Columns, and `*` for every column no field uses.
    pub(crate) keep: Vec<String>,
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

    fn named(&self) -> impl Iterator<Item = &str> {
        let named = self.keep.iter().chain(&self.drop).chain(self.rename.values()).map(String::as_str);
        named.filter(|column| *column != EVERY_OTHER)
    }
}

impl TryFrom<AttributesTable> for Attributes {
    type Error = String;

    fn try_from(AttributesTable { keep, drop, rename }: AttributesTable) -> Result<Self, String> {
        let dropped = |column: &&String| drop.iter().any(|dropped| name_key(dropped) == name_key(column));
        if let Some(column) = keep.iter().chain(rename.values()).find(dropped) {
            return Err(format!("`{column}` is both dropped and kept"));
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
    fn a_mapping_is_frozen_as_written() {
        let forms = [
            "{}",
            r#"{"id":"trans_num","side":{"constant":"debit"}}"#,
            r#"{"id":{"template":"{nameOrig}-{row}"},"merchant":{"constant":""}}"#,
            r#"{"side":{"column":"type","values":{"CASH_IN":"credit"},"otherwise":"debit"}}"#,
            r#"{"amount":{"column":"amt","unit":"0.01","sign":"negate","negative_when":{"column":"dc","is":"D"},"decimals":"round"}}"#,
            r#"{"timestamp":{"column":"step","unit":"hours","since":"2023-01-01T00:00:00Z"},"attributes":{"keep":["*"],"drop":["isFraud"],"rename":{"zip_code":"zip"}}}"#,
            r#"{"timestamp":{"template":"{date} {time}"},"attributes":{"keep":[]}}"#,
            r#"{"id":{"columns":["Date","Payee"]},"side":{"from_sign":{"negative":"debit","positive":"credit"}},"namespace":"account-1"}"#,
            r#"{"operation_type":{"from_sign":{"negative":"a","positive":"b","zero":"c"}}}"#,
            r#"{"amount":{"debit":"Debit","credit":"Credit"}}"#,
            r#"{"amount":{"debit":"Debit","credit":"Credit","unit":"0.01","sign":"absolute","decimals":"round"}}"#,
            r#"{"description":{"template":"{path:land} {{x}}"},"timestamp":{"path":"date"},"merchant":{"path":"shop"}}"#,
        ];
        for form in forms {
            let mapping = read(form).unwrap();
            assert_eq!(serde_json::to_string(&mapping).unwrap(), form);
        }
    }

    #[test]
    fn errors_name_what_is_allowed() {
        let cases = [
            (r#"{"iid":"x"}"#, "unknown field `iid`, expected one of `id`, `description`, `amount`"),
            (r#"{"id":{"colum":"x"}}"#, "unknown field `colum`, expected one of `constant`, `template`, `column`"),
            (r#"{"id":7}"#, "expected the name of a column, or a table such as { column = \"…\" }"),
            (r#"{"id":{}}"#, "write one of `constant`, `template`, `column` and `path`"),
            (r#"{"id":{"column":"a","constant":"b"}}"#, "write one of `constant`, `template`, `column` and `path`"),
            (r#"{"id":{"column":"a","otherwise":"b"}}"#, "`otherwise` needs `values`"),
            (r#"{"id":{"constant":"a","values":{}}}"#, "`values` needs a `column`"),
            (r#"{"id":{"columns":[]}}"#, "`columns` names no column"),
            (r#"{"id":{"columns":["a"],"constant":"b"}}"#, "`columns` and `from_sign` each stand alone"),
            (r#"{"description":{"columns":["a"]}}"#, "`columns` is only for `id`; use a `template` to join columns"),
            (r#"{"side":{"columns":["a"]}}"#, "`columns` is only for `id`"),
            (
                r#"{"id":{"from_sign":{"negative":"a","positive":"b"}}}"#,
                "`from_sign` is only for `side` and `operation_type`",
            ),
            (r#"{"merchant":{"from_sign":{"negative":"a","positive":"b"}}}"#, "`from_sign` is only for `side`"),
            (r#"{"side":{"from_sign":{"negative":"a"}}}"#, "missing field `positive`"),
            (r#"{"side":{"from_sign":{"negative":"a","positive":" "}}}"#, "a constant must not be blank here"),
            (r#"{"amount":{"debit":"a"}}"#, "write both `debit` and `credit`, and no other column"),
            (r#"{"amount":{"debit":"a","credit":"b","column":"c"}}"#, "write both `debit` and `credit`"),
            (
                r#"{"amount":{"debit":"a","credit":"b","sign":"negate"}}"#,
                "only `sign = \"absolute\"` is allowed with them",
            ),
            (
                r#"{"amount":{"debit":"a","credit":"b","negative_when":{"column":"c","is":"D"}}}"#,
                "the columns `debit` and `credit` determine the sign",
            ),
            (r#"{"side":{"constant":" "}}"#, "a constant must not be blank here"),
            (r#"{"amount":{"column":"a","values":{}}}"#, "unknown field `values`, expected one of `constant`"),
            (r#"{"amount":{"column":"a","unit":"cents"}}"#, "`cents` is not a unit: write \"minor\" for hundredths"),
            (r#"{"amount":{"column":"a","unit":0}}"#, "`0` is not a unit"),
            (
                r#"{"amount":{"column":"a","negative_when":{"column":"b","is":7}}}"#,
                "expected a value, or a list of values",
            ),
            (r#"{"amount":{"column":"a","sign":"+"}}"#, "unknown variant `+`, expected one of `keep`, `negate`"),
            (r#"{"timestamp":{"column":"a","since":"2023-01-01T00:00:00Z"}}"#, "`since` needs a `unit`"),
            (r#"{"timestamp":{"column":"a","unit":"hours","since":"noon"}}"#, "`since` is not a date and time like"),
            (r#"{"timestamp":{"column":"a","unit":"weeks"}}"#, "unknown variant `weeks`, expected one of `days`"),
            (r#"{"attributes":{"drop":["a"],"rename":{"b":"A"}}}"#, "`A` is both dropped and kept"),
            (r#"{"id":{"template":"{a"}}"#, "`{` is not closed"),
        ];
        for (form, expected) in cases {
            let error = read(form).expect_err(form);
            assert!(error.contains(expected), "{form}: {error}");
        }
    }

    #[test]
    fn an_id_of_columns_needs_a_namespace() {
        let columns = r#""id":{"columns":["Date","Payee"]}"#;
        assert!(read(&format!("{{{columns}}}")).unwrap().check().unwrap_err().contains("needs a `namespace`"));
        let mapping = read(&format!(r#"{{"namespace":"account-1",{columns}}}"#)).unwrap();
        assert_eq!((mapping.check(), mapping.namespace(), mapping.counts_rows()), (Ok(()), Some("account-1"), true));
        assert!(read(r#"{"namespace":" "}"#).unwrap().check().is_err());
        assert_eq!(read("{}").unwrap().check(), Ok(()));
    }

    #[test]
    fn what_comes_from_the_path_is_a_constant_once_it_is_resolved() {
        let mapping = read(
            r#"{"id":{"template":"{path:shop}-{row}"},"description":{"template":"{{x}} {path:shop}"},"amount":{"path":"n"},"timestamp":{"path":"date"},"merchant":{"path":"Shop"},"side":"s"}"#,
        )
        .unwrap();
        let resolved = mapping.resolve("/t/date=2024-03-14/shop=a{b}/n=5/x.csv").unwrap();
        assert_eq!(
            serde_json::to_string(&resolved).unwrap(),
            r#"{"id":{"template":"a{{b}}-{row}"},"description":{"constant":"{x} a{b}"},"amount":{"constant":"5"},"timestamp":{"constant":"2024-03-14"},"merchant":{"constant":"a{b}"},"side":"s"}"#
        );
        assert_eq!(read(&serde_json::to_string(&resolved).unwrap()).unwrap(), resolved);
        let values = mapping.path_values("/t/date=2024-03-14/shop=a{b}/n=5/x.csv").unwrap();
        let expected = [("date", "2024-03-14"), ("n", "5"), ("shop", "a{b}")];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(read(r#"{"side":"s"}"#).unwrap().path_values("/t/date=1/x.csv"), Ok(BTreeMap::new()));
        let error = mapping.resolve("/t/date=2024-03-14/n=5/x.csv").unwrap_err().to_string();
        assert!(error.contains("`shop`") && error.contains("`date=2024-03-14`"), "{error}");
        let columns = ["id", "s", "operation_type"].map(str::to_owned).to_vec();
        let error = crate::Columns::from_names(columns, Some(&mapping)).unwrap_err().to_string();
        assert!(error.contains("`date` for `path`"), "{error}");
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
