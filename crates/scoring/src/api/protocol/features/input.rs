//! The inputs of a model, and their values: JSON text, as every protocol of this kind is JSON.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::{Deref, Range};

use assay_transaction::{EncodedTransaction, TransactionView};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::{InputProblem, number};

/// Before the name of an attribute.
const ATTRIBUTES: &str = "attributes.";

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InputType {
    /// A decimal number, with the digits it came with.
    Float,
    /// A whole number.
    Int,
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
}

impl InputType {
    /// The JSON of a text of this type.
    fn json(self, text: Cow<'_, str>) -> Option<Cow<'_, str>> {
        match self {
            Self::Float => match text {
                Cow::Borrowed(text) => number::float(text),
                Cow::Owned(text) => number::float(&text).map(|json| json.into_owned().into()),
            },
            Self::Int => number::int(&text).map(Cow::Owned),
            Self::Bool => number::bool(&text).map(Cow::Borrowed),
            Self::Text => serde_json::to_string(&text).ok().map(Cow::Owned),
        }
    }

    /// The JSON of a comparison's result.
    fn json_of(self, is_equal: bool) -> &'static str {
        match (self, is_equal) {
            (Self::Bool, true) => "true",
            (Self::Bool, false) => "false",
            (_, true) => "1",
            (_, false) => "0",
        }
    }

    fn zero(self) -> &'static str {
        match self {
            Self::Float | Self::Int => "0",
            Self::Text => "\"\"",
            Self::Bool => "false",
        }
    }
}

/// As in a sentence: "is not a number".
impl fmt::Display for InputType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Float => "a number",
            Self::Int => "a whole number",
            Self::Text => "a text",
            Self::Bool => "true or false",
        })
    }
}

/// Where the value of an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Id,
    Description,
    Amount,
    /// ISO 8601, in UTC.
    Timestamp,
    /// Seconds since 1970.
    Epoch,
    /// 0 to 23, in UTC.
    Hour,
    /// 0 (Monday) to 6, in UTC, as pandas counts.
    Weekday,
    Merchant,
    OperationType,
    Side,
    Attribute(String),
}

impl Source {
    const NAMED: [(&'static str, Self); 10] = [
        ("id", Self::Id),
        ("description", Self::Description),
        ("amount", Self::Amount),
        ("timestamp", Self::Timestamp),
        ("timestamp.epoch", Self::Epoch),
        ("timestamp.hour", Self::Hour),
        ("timestamp.weekday", Self::Weekday),
        ("merchant", Self::Merchant),
        ("operation_type", Self::OperationType),
        ("side", Self::Side),
    ];

    /// The source of that name; the error says which there are.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if let Some((_, source)) = Self::NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(source.clone());
        }
        match name.strip_prefix(ATTRIBUTES) {
            Some(attribute) if !attribute.is_empty() => Ok(Self::Attribute(attribute.to_owned())),
            _ => {
                let known = Self::NAMED.map(|(known, _)| known).join(", ");
                Err(format!("no such field; there are {known}, and attributes.NAME"))
            }
        }
    }

    pub(super) fn natural_type(&self) -> InputType {
        match self {
            Self::Amount => InputType::Float,
            Self::Epoch | Self::Hour | Self::Weekday => InputType::Int,
            _ => InputType::Text,
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::named(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An input as the file declares it.
#[derive(Debug)]
pub(super) struct InputSpec {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) kind: InputType,
    pub(super) is: Option<String>,
    /// JSON.
    pub(super) default: Option<String>,
}

/// The inputs of a model, and which attributes they need.
#[derive(Debug)]
pub(super) struct Inputs {
    inputs: Vec<Input>,
    /// The position of each attribute among those that are needed.
    attributes: HashMap<String, usize>,
}

impl Inputs {
    /// Why a transaction cannot be written as these inputs.
    pub(super) fn check(&self, transaction: &EncodedTransaction) -> Result<(), InputProblem> {
        let row = Row::read(self, transaction).ok_or(InputProblem::Unreadable)?;
        let mut json = String::new();
        self.iter().try_for_each(|input| {
            json.clear();
            input.write(&row, &mut json)
        })
    }
}

impl Deref for Inputs {
    type Target = [Input];

    fn deref(&self) -> &[Input] {
        &self.inputs
    }
}

/// An input of the model.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    source: Source,
    /// Of an attribute: its position among those that are needed.
    attribute: Option<usize>,
    kind: InputType,
    is: Option<String>,
    /// JSON.
    default: Option<String>,
    /// The name as JSON.
    json_name: String,
}

impl Input {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name as a JSON string.
    pub(crate) fn json_name(&self) -> &str {
        &self.json_name
    }

    pub(crate) fn kind(&self) -> InputType {
        self.kind
    }

    /// Adds the JSON of its value.
    fn write(&self, row: &Row<'_>, json: &mut String) -> Result<(), InputProblem> {
        // An empty column is no value.
        let value = row.value(self).filter(|value| !value.trim().is_empty());
        if let Some(is) = &self.is {
            json.push_str(self.kind.json_of(value.is_some_and(|value| value == *is)));
            return Ok(());
        }
        match (value, &self.default) {
            (Some(value), _) => match self.kind.json(value) {
                Some(value) => json.push_str(&value),
                None => return Err(InputProblem::WrongType { input: self.name.clone(), expected: self.kind }),
            },
            (None, Some(default)) => json.push_str(default),
            (None, None) => return Err(InputProblem::Missing { input: self.name.clone() }),
        }
        Ok(())
    }
}

/// Checks what involves several inputs.
pub(super) fn resolve(inputs: Vec<InputSpec>) -> Result<Inputs, String> {
    let mut names = BTreeSet::new();
    if let Some(twice) = inputs.iter().find(|input| !names.insert(&input.name)) {
        return Err(format!("there are two inputs `{}`", twice.name));
    }
    let mut attributes = HashMap::new();
    let resolved = inputs.into_iter().map(|InputSpec { name, source, kind, is, default }| {
        let attribute = match &source {
            Source::Attribute(attribute) => {
                let next = attributes.len();
                Some(*attributes.entry(attribute.clone()).or_insert(next))
            }
            _ => None,
        };
        let json_name =
            serde_json::to_string(&name).map_err(|_| format!("the name of the input `{name}` is no text"))?;
        Ok(Input { name, source, attribute, kind, is, default, json_name })
    });
    let inputs = resolved.collect::<Result<_, String>>()?;
    Ok(Inputs { inputs, attributes })
}

/// The parts of one transaction that inputs need.
struct Row<'a> {
    view: TransactionView<'a>,
    /// The values of the attributes that inputs need.
    attributes: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Row<'a> {
    fn read(inputs: &Inputs, transaction: &'a EncodedTransaction) -> Option<Self> {
        let view = transaction.view().ok()?;
        let attributes = match view.attributes {
            Some(json) if !inputs.attributes.is_empty() => {
                let mut deserializer = serde_json::Deserializer::from_str(json);
                NeededAttributes(&inputs.attributes).deserialize(&mut deserializer).ok()?
            }
            _ => Vec::new(),
        };
        Some(Self { view, attributes })
    }

    fn value(&self, input: &Input) -> Option<Cow<'_, str>> {
        const DAY: i64 = 86_400;
        const HOUR: i64 = 3_600;
        /// 1 January 1970 was a Thursday.
        const FIRST_WEEKDAY: i64 = 3;
        let view = &self.view;
        let seconds = || view.timestamp.as_datetime().timestamp();
        Some(match input.source {
            Source::Id => view.id.to_string().into(),
            Source::Description => (&*view.description).into(),
            Source::Amount => view.amount.to_string().into(),
            Source::Timestamp => view.timestamp.to_string().into(),
            Source::Epoch => seconds().to_string().into(),
            Source::Hour => (seconds().rem_euclid(DAY) / HOUR).to_string().into(),
            Source::Weekday => (seconds().div_euclid(DAY) + FIRST_WEEKDAY).rem_euclid(7).to_string().into(),
            Source::Merchant => view.merchant.as_deref()?.into(),
            Source::OperationType => (&*view.operation_type).into(),
            Source::Side => (&*view.side).into(),
            Source::Attribute(_) => self.attributes.get(input.attribute?)?.as_deref()?.into(),
        })
    }
}

/// Reads only the attributes that inputs need, as a row may have thousands.
struct NeededAttributes<'a>(&'a HashMap<String, usize>);

impl<'de> DeserializeSeed<'de> for NeededAttributes<'_> {
    type Value = Vec<Option<Cow<'de, str>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NeededAttributes<'_> {
    type Value = Vec<Option<Cow<'de, str>>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(Text(name)) = members.next_key()? {
            match self.0.get(&*name) {
                Some(position) => {
                    let Text(value) = members.next_value()?;
                    values[*position] = Some(value);
                }
                None => drop(members.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// A text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The values of some transactions, row by row.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    columns: usize,
    json: String,
    /// Where each value ends.
    ends: Vec<usize>,
}

impl Matrix {
    /// Adds a row, with zeros for what cannot be written.
    pub(super) fn push_or_zeros(&mut self, inputs: &Inputs, transaction: &EncodedTransaction) {
        let row = Row::read(inputs, transaction);
        self.columns = inputs.len();
        for input in inputs.iter() {
            let is_written = row.as_ref().is_some_and(|row| input.write(row, &mut self.json).is_ok());
            if !is_written {
                self.json.push_str(input.kind.zero());
            }
            self.ends.push(self.json.len());
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len().checked_div(self.columns).unwrap_or_default()
    }

    /// The JSON of the values of a row, in the order of the inputs.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = &str> {
        let first = row * self.columns;
        (first..first + self.columns).map(|at| self.value(at))
    }

    /// The JSON of the values of an input, in the order of the rows.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = &str> {
        (0..self.rows()).map(move |row| self.value(row * self.columns + column))
    }

    fn value(&self, at: usize) -> &str {
        let Range { start, end } = at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at];
        &self.json[start..end]
    }
}
