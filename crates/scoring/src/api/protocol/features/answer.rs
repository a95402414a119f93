//! What of an answer is the prediction: a place of it, a threshold of the score, or the highest of several scores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use assay_transaction::Prediction;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::super::native::Texts;
use super::super::reasons;

/// A place in the answer about a row: a JSON pointer. Empty, it is all of that answer; a plain name is a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pointer: String,
}

impl Place {
    /// The place of this name.
    pub(crate) fn named(text: &str) -> Self {
        let pointer = if text.is_empty() || text.starts_with('/') {
            text.to_owned()
        } else {
            format!("/{}", text.replace('~', "~0").replace('/', "~1"))
        };
        Self { pointer }
    }

    pub(crate) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Its first key, and the pointer from there on.
    pub(crate) fn first_key(&self) -> Option<(String, &str)> {
        let rest = self.pointer.strip_prefix('/')?;
        let (key, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Some((key.replace("~1", "/").replace("~0", "~"), rest))
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::named(&String::deserialize(deserializer)?))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.pointer)
    }
}

/// What of the answer about a row becomes its prediction.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerSpec {
    prediction: LabelFrom,
    #[serde(default)]
    fraud_score: Option<Place>,
    #[serde(default)]
    model_version: Option<Place>,
    #[serde(default)]
    reasons: Option<ReasonsFrom>,
}

/// Where the reasons come from.
#[derive(Debug)]
struct ReasonsFrom {
    at: Place,
    /// The features that the numbers there belong to; none if the reasons name them, or are codes.
    features: Option<Vec<String>>,
}

/// Where the label comes from.
#[derive(Debug)]
enum LabelFrom {
    /// A place, whose values may have other names here.
    Place { at: Place, values: Option<BTreeMap<String, Arc<str>>> },
    /// A threshold of the score, on the API's own scale.
    Threshold { threshold: f64, at_least: Arc<str>, below: Arc<str> },
    /// The place of an array of scores, and the label of each.
    Argmax { at: Place, labels: Vec<Arc<str>> },
}

/// Why the answer about a row is no prediction.
#[derive(Debug, PartialEq)]
pub(crate) enum EntryProblem {
    /// There is nothing at this place: the form of the answer is another.
    Absent(Place),
    /// What is there cannot be used.
    Unusable(&'static str),
}

const NO_LABEL: EntryProblem = EntryProblem::Unusable("prediction is not a label");
const NO_SCORE: EntryProblem = EntryProblem::Unusable("score is not a number");
const NO_VERSION: EntryProblem = EntryProblem::Unusable("model version is not text");
const NO_REASONS: EntryProblem =
    EntryProblem::Unusable("reasons are neither codes nor contributions of the features that ML_API_FEATURES lists");
const OTHER_LABEL: EntryProblem = EntryProblem::Unusable("prediction is none of the values that ML_API_FEATURES lists");
const OTHER_COUNT: EntryProblem = EntryProblem::Unusable("there are not as many scores as labels in ML_API_FEATURES");

impl AnswerSpec {
    /// Checks that involve several parts.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self.prediction {
            LabelFrom::Threshold { .. } if self.fraud_score.is_none() => {
                Err("a `threshold` is one of the score: `answer` needs `fraud_score` too")
            }
            _ => Ok(()),
        }
    }

    /// Every place that is read.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        let label = match &self.prediction {
            LabelFrom::Place { at, .. } | LabelFrom::Argmax { at, .. } => Some(at),
            LabelFrom::Threshold { .. } => None,
        };
        let reasons = self.reasons.as_ref().map(|reasons| &reasons.at);
        [label, self.fraud_score.as_ref(), self.model_version.as_ref(), reasons].into_iter().flatten()
    }

    /// Whether it says where the reasons are.
    pub(crate) fn has_reasons(&self) -> bool {
        self.reasons.is_some()
    }

    /// The prediction of a row, of what `at` finds at a place.
    pub(crate) fn prediction<'v>(
        &self,
        at: impl Fn(&Place) -> Option<Cow<'v, Value>>,
        texts: &mut Texts,
    ) -> Result<Prediction, EntryProblem> {
        let find = |place: &Place| at(place).ok_or_else(|| EntryProblem::Absent(place.clone()));
        let fraud_score = self.fraud_score.as_ref().map(|place| score(&*find(place)?)).transpose()?;
        let prediction = match &self.prediction {
            LabelFrom::Threshold { threshold, at_least, below } => {
                let is_reached = fraud_score.is_some_and(|score| score >= *threshold);
                Arc::clone(if is_reached { at_least } else { below })
            }
            LabelFrom::Place { at, values } => label(&*find(at)?, values.as_ref(), texts)?,
            LabelFrom::Argmax { at, labels } => highest(&*find(at)?, labels)?,
        };
        let version = |place: &Place| text(&*find(place)?, texts).ok_or(NO_VERSION);
        let model_version = self.model_version.as_ref().map(version).transpose()?;
        let reasons = match &self.reasons {
            // An answer may have none about this row.
            Some(ReasonsFrom { at: place, features }) => at(place)
                .map_or_else(|| Some(Vec::new()), |value| reasons::read(&value, features.as_deref()))
                .ok_or(NO_REASONS)?,
            None => Vec::new(),
        };
        Ok(Prediction { prediction, fraud_score, model_version, reasons, endpoint: None })
    }
}

/// A score as it came, on the API's own scale; perhaps as text.
fn score(value: &Value) -> Result<f64, EntryProblem> {
    value.as_f64().or_else(|| serde_json::from_str(value.as_str()?).ok()).ok_or(NO_SCORE)
}

/// A string, or the text of a number or a boolean.
fn text(value: &Value, texts: &mut Texts) -> Option<Arc<str>> {
    match value {
        Value::String(text) => texts.shared(text),
        Value::Number(_) | Value::Bool(_) => texts.shared(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn label(
    value: &Value,
    values: Option<&BTreeMap<String, Arc<str>>>,
    texts: &mut Texts,
) -> Result<Arc<str>, EntryProblem> {
    let label = text(value, texts).ok_or(NO_LABEL)?;
    match values {
        Some(values) => values.get(&*label).cloned().ok_or(OTHER_LABEL),
        None => Ok(label),
    }
}

/// The label of the highest score; of equal ones the first, as NumPy has it.
fn highest(value: &Value, labels: &[Arc<str>]) -> Result<Arc<str>, EntryProblem> {
    let scores = value.as_array().ok_or(NO_LABEL)?;
    if scores.len() != labels.len() {
        return Err(OTHER_COUNT);
    }
    let mut best: Option<(f64, &Arc<str>)> = None;
    for (score, label) in scores.iter().zip(labels) {
        let score = score.as_f64().ok_or(NO_LABEL)?;
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, label));
        }
    }
    best.map(|(_, label)| Arc::clone(label)).ok_or(OTHER_COUNT)
}

/// Names and kinds of a JSON value, for messages: never its texts or numbers.
pub(crate) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => {
            const SHOWN: usize = 8;
            if members.is_empty() {
                return "an empty object".to_owned();
            }
            let mut keys: Vec<String> = members.keys().take(SHOWN).map(|key| known_name(key)).collect();
            if members.len() > SHOWN {
                keys.push("…".to_owned());
            }
            format!("an object with {}", keys.join(", "))
        }
    }
}

/// A name from an answer, if it is plainly one; an API may use values as keys.
pub(crate) fn known_name(name: &str) -> String {
    const LONGEST: usize = 40;
    let is_plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.');
    let has_few_digits = name.bytes().filter(u8::is_ascii_digit).count() <= 2;
    let is_name = (1..=LONGEST).contains(&name.len())
        && has_few_digits
        && name.bytes().all(|byte| is_plain(byte) || byte.is_ascii_digit());
    if is_name { format!("`{name}`") } else { "another key".to_owned() }
}

/// A label as it is written: a place, or a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLabel {
    at: Option<Place>,
    values: Option<BTreeMap<String, String>>,
    threshold: Option<f64>,
    at_least: Option<String>,
    below: Option<String>,
    argmax: Option<Place>,
    labels: Option<Vec<String>>,
}

impl WrittenLabel {
    fn checked(self) -> Result<LabelFrom, &'static str> {
        let label = |text: &str| Texts::default().shared(text).ok_or("a label must have 1 to 255 characters");
        match self {
            Self { at: Some(at), values, threshold: None, at_least: None, below: None, argmax: None, labels: None } => {
                let values = values.map(|values| {
                    values.into_iter().map(|(value, name)| Ok((value, label(&name)?))).collect::<Result<_, &str>>()
                });
                Ok(LabelFrom::Place { at, values: values.transpose()? })
            }
            Self {
                threshold: Some(threshold),
                at_least: Some(at_least),
                below: Some(below),
                at: None,
                values: None,
                argmax: None,
                labels: None,
            } => Ok(LabelFrom::Threshold { threshold, at_least: label(&at_least)?, below: label(&below)? }),
            Self {
                argmax: Some(at),
                labels: Some(labels),
                at: None,
                values: None,
                threshold: None,
                at_least: None,
                below: None,
            } if labels.len() > 1 => {
                let labels = labels.iter().map(|text| label(text)).collect::<Result<_, _>>()?;
                Ok(LabelFrom::Argmax { at, labels })
            }
            _ => Err(
                "a prediction is a place, `at` and perhaps `values`; `threshold`, `at_least` and `below`; or `argmax` and \
                      two or more `labels`",
            ),
        }
    }
}

impl<'de> Deserialize<'de> for LabelFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match PlaceOr::<WrittenLabel>::deserialize(deserializer)? {
            PlaceOr::Place(at) => Self::Place { at, values: None },
            PlaceOr::Table(label) => label.checked().map_err(D::Error::custom)?,
        })
    }
}

/// Reasons as they are written, unless they are a place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReasons {
    at: Place,
    features: Vec<String>,
}

impl<'de> Deserialize<'de> for ReasonsFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match PlaceOr::<WrittenReasons>::deserialize(deserializer)? {
            PlaceOr::Place(at) => Self { at, features: None },
            PlaceOr::Table(WrittenReasons { features, .. }) if features.is_empty() => {
                return Err(D::Error::custom("`features` names no feature: list one for each number of `at`"));
            }
            PlaceOr::Table(WrittenReasons { at, features }) => Self { at, features: Some(features) },
        })
    }
}

/// A place, or a table that says more.
enum PlaceOr<T> {
    Place(Place),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PlaceOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceOrTable(PhantomData))
    }
}

struct PlaceOrTable<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PlaceOrTable<T> {
    type Value = PlaceOr<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a place or a table")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PlaceOr<T>, E> {
        Ok(PlaceOr::Place(Place::named(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<PlaceOr<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(PlaceOr::Table)
    }
}
