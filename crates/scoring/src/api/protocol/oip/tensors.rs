//! The tensors of an answer: each has a row for each row of the request.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::super::features::{AnswerSpec, Place, known_name};
use super::super::native::Texts;
use super::super::native::object::Object;
use super::super::positions::{Json, check_count, kind_of_text, results};
use super::super::{ResponseError, RowResult};

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
    #[serde(default)]
    model_version: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    shape: Vec<usize>,
    data: Vec<Value>,
}

/// An output whose values are all there.
struct Tensor {
    name: String,
    /// Values of one row.
    width: usize,
    values: Vec<Value>,
}

/// Reads an answer about so many rows.
pub(super) fn read(body: &[u8], asked: usize, spec: &AnswerSpec) -> Result<Vec<RowResult>, ResponseError> {
    let json = Json::of(body)?;
    let Ok(Object(Answer { outputs, model_version })) = serde_json::from_str(json.text()) else {
        let expected = "`outputs` with names, shapes and data";
        return Err(ResponseError::misfit(expected, &kind_of_text(json.text())));
    };
    let tensors: Vec<Tensor> = outputs.into_iter().map(|output| Tensor::of(output, asked)).collect::<Result<_, _>>()?;
    let mut texts = Texts::default();
    let version = model_version.and_then(|version| texts.shared(&version));
    let rows = (0..asked).map(|row| {
        let value = |place: &Place| value(&tensors, row, place);
        let prediction = spec.prediction(value, &mut texts).map_err(|problem| (problem, names(&tensors)))?;
        let model_version = prediction.model_version.or_else(|| version.clone());
        Ok(assay_transaction::Prediction { model_version, ..prediction })
    });
    results(rows)
}

impl Tensor {
    fn of(Output { name, shape, data }: Output, asked: usize) -> Result<Self, ResponseError> {
        let shown = known_name(&name);
        check_count(shape.first().copied().unwrap_or_default(), asked, &format!("rows in the output {shown}"))?;
        let mut values = Vec::with_capacity(data.len());
        flatten(data, &mut values);
        let count = shape.iter().try_fold(1_usize, |product, dimension| product.checked_mul(*dimension));
        if count != Some(values.len()) {
            let expected = format!("as much data in the output {shown} as its shape says");
            return Err(ResponseError::misfit(&expected, &format!("{} values", values.len())));
        }
        Ok(Self { name, width: values.len().checked_div(asked).unwrap_or_default(), values })
    }
}

/// Data may be nested as the shape is.
fn flatten(data: Vec<Value>, values: &mut Vec<Value>) {
    for item in data {
        match item {
            Value::Array(items) => flatten(items, values),
            value => values.push(value),
        }
    }
}

/// The value at a place: the output of that name, and perhaps a position in its row. A row of one value is that value.
fn value<'t>(tensors: &'t [Tensor], row: usize, place: &Place) -> Option<Cow<'t, Value>> {
    let (name, position) = place.first_key()?;
    let Tensor { width, values, .. } = tensors.iter().find(|tensor| tensor.name == name)?;
    let values = values.get(row * width..(row + 1) * width)?;
    match (position.strip_prefix('/'), values) {
        (None, [only]) => Some(Cow::Borrowed(only)),
        (None, values) => Some(Cow::Owned(Value::Array(values.to_vec()))),
        (Some(position), values) => values.get(position.parse::<usize>().ok()?).map(Cow::Borrowed),
    }
}

/// The outputs that are there, for a message.
fn names(tensors: &[Tensor]) -> String {
    const SHOWN: usize = 8;
    let shown = |tensor: &Tensor| format!("{} of {} a row", known_name(&tensor.name), tensor.width);
    let names: Vec<String> = tensors.iter().take(SHOWN).map(shown).collect();
    if names.is_empty() { "no outputs".to_owned() } else { format!("the outputs {}", names.join(", ")) }
}
