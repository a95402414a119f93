//! The form of the features file: TOML, strict. An unknown key, an unknown source or a wrong default is refused with its position.

use assay_transaction::problem_in_text;
use serde::{Deserialize, Deserializer};

use super::answer::AnswerSpec;
use super::input::{InputSpec, InputType, Source};
use super::{SagemakerSpec, TemplateSpec};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeaturesFile {
    #[serde(deserialize_with = "inputs")]
    pub(super) inputs: Vec<InputSpec>,
    pub(super) answer: AnswerSpec,
    #[serde(default)]
    pub(super) template: Option<TemplateSpec>,
    #[serde(default)]
    pub(super) sagemaker: Option<SagemakerSpec>,
}

/// Parses a file; the error is one line that begins with the position.
pub(super) fn parse(text: &str) -> Result<FeaturesFile, String> {
    toml::from_str(text).map_err(|error| format!(", {}", problem_in_text(text, error.span(), error.message())))
}

/// An input as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenInput {
    name: String,
    from: Option<Source>,
    #[serde(rename = "type")]
    kind: Option<InputType>,
    is: Option<String>,
    default: Option<toml::Value>,
}

impl<'de> Deserialize<'de> for InputSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenInput::deserialize(deserializer)?;
        written.checked().map_err(serde::de::Error::custom)
    }
}

fn inputs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<InputSpec>, D::Error> {
    let inputs = Vec::<InputSpec>::deserialize(deserializer)?;
    if inputs.is_empty() {
        return Err(serde::de::Error::custom("there must be at least one input"));
    }
    Ok(inputs)
}

impl WrittenInput {
    fn checked(self) -> Result<InputSpec, String> {
        let Self { name, from, kind, is, default } = self;
        if name.is_empty() {
            return Err("an input needs a name".to_owned());
        }
        let source = match from {
            Some(source) => source,
            None => Source::named(&name)
                .map_err(|_| format!("the input `{name}` needs `from`, as it is no field of that name"))?,
        };
        let kind = kind.unwrap_or(if is.is_some() { InputType::Int } else { source.natural_type() });
        if is.is_some() && kind == InputType::Text {
            return Err(format!("the input `{name}` compares with `is`, and must be an int, a float or a bool"));
        }
        if is.is_some() && default.is_some() {
            return Err(format!("the input `{name}` needs no default: nothing equals no value"));
        }
        let default = default
            .map(|value| {
                default_json(&value, kind).ok_or_else(|| format!("the default of the input `{name}` is not {kind}"))
            })
            .transpose()?;
        Ok(InputSpec { name, source, kind, is, default })
    }
}

/// The JSON of a default value.
fn default_json(value: &toml::Value, kind: InputType) -> Option<String> {
    match (value, kind) {
        (toml::Value::String(text), InputType::Text) => serde_json::to_string(text).ok(),
        (toml::Value::Boolean(is_set), InputType::Bool) => Some(is_set.to_string()),
        (toml::Value::Integer(number), InputType::Int | InputType::Float) => Some(number.to_string()),
        (toml::Value::Float(number), InputType::Float) if number.is_finite() => Some(number.to_string()),
        _ => None,
    }
}
