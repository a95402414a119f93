//! What a model takes, as its server says, and how the inputs of the features file fit that.

use serde::Deserialize;

use super::super::ResponseError;
use super::super::body::write_list;
use super::super::features::{Input, InputType, Matrix, known_name};
use super::super::native::object::Object;
use super::super::positions::{Json, kind_of_text};

/// The inputs of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ModelInputs {
    /// A tensor of one column for each input, with the type of each, in the order of the features file.
    Columns(Vec<String>),
    /// One tensor of all inputs, by its name and its type, as JSON.
    Rows { name: String, datatype: String },
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    inputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    #[serde(default)]
    shape: Vec<i64>,
}

impl Tensor {
    /// Whether values of this type can be sent as the tensor's.
    fn accepts(&self, kind: InputType) -> bool {
        match kind {
            InputType::Float => self.datatype.starts_with("FP") || self.datatype == "BF16",
            InputType::Int => ["INT", "UINT", "FP", "BF16"].iter().any(|start| self.datatype.starts_with(start)),
            InputType::Bool => self.datatype == "BOOL",
            InputType::Text => self.datatype == "BYTES",
        }
    }
}

/// The type of a tensor of these values, where the server names none.
fn natural_datatype(kind: InputType) -> &'static str {
    match kind {
        InputType::Float => "FP64",
        InputType::Int => "INT64",
        InputType::Bool => "BOOL",
        InputType::Text => "BYTES",
    }
}

fn misfit(what: &str) -> ResponseError {
    ResponseError::Misfit(format!("the model takes other inputs: {what}").into())
}

impl ModelInputs {
    /// As the features file declares them, for a server that names none.
    pub(super) fn declared(inputs: &[Input]) -> Self {
        Self::Columns(inputs.iter().map(|input| natural_datatype(input.kind()).to_owned()).collect())
    }

    /// Reads a model's metadata, and matches them with the inputs of the features file.
    pub(super) fn read(metadata: &[u8], inputs: &[Input]) -> Result<Self, ResponseError> {
        let json = Json::of(metadata)?;
        let Ok(Object(Metadata { inputs: tensors })) = serde_json::from_str(json.text()) else {
            return Err(ResponseError::misfit("the metadata of a model", &kind_of_text(json.text())));
        };
        match &tensors[..] {
            [] => Ok(Self::declared(inputs)),
            [tensor] if is_row(tensor, inputs) => Self::rows(tensor, inputs),
            _ => Self::columns(&tensors, inputs),
        }
    }

    fn rows(tensor: &Tensor, inputs: &[Input]) -> Result<Self, ResponseError> {
        let (name, count) = (known_name(&tensor.name), inputs.len());
        if let Some(width) = tensor.shape.last().and_then(|width| usize::try_from(*width).ok())
            && width != count
        {
            return Err(misfit(&format!("{name} takes {width} values a row, and ML_API_FEATURES has {count} inputs")));
        }
        if let Some(input) = inputs.iter().find(|input| !tensor.accepts(input.kind())) {
            let (input, datatype) = (input.name(), known_name(&tensor.datatype));
            return Err(misfit(&format!(
                "{name} takes {datatype}, and the input `{input}` of ML_API_FEATURES is of another type"
            )));
        }
        Ok(Self::Rows { name: tensor.name.clone(), datatype: tensor.datatype.clone() })
    }

    fn columns(tensors: &[Tensor], inputs: &[Input]) -> Result<Self, ResponseError> {
        if let Some(tensor) = tensors.iter().find(|tensor| inputs.iter().all(|input| input.name() != tensor.name)) {
            return Err(misfit(&format!(
                "it takes {}, which is no input of ML_API_FEATURES",
                known_name(&tensor.name)
            )));
        }
        let datatype = |input: &Input| {
            let name = input.name();
            let tensor = tensors.iter().find(|tensor| tensor.name == name);
            let tensor =
                tensor.ok_or_else(|| misfit(&format!("it does not take the input `{name}` of ML_API_FEATURES")))?;
            if !tensor.accepts(input.kind()) {
                let datatype = known_name(&tensor.datatype);
                return Err(misfit(&format!(
                    "its `{name}` is {datatype}, and that of ML_API_FEATURES is of another type"
                )));
            }
            Ok(tensor.datatype.clone())
        };
        Ok(Self::Columns(inputs.iter().map(datatype).collect::<Result<_, _>>()?))
    }

    /// Writes the members `parameters` and `inputs` of a request.
    pub(super) fn write(&self, inputs: &[Input], matrix: &Matrix, body: &mut String) {
        let rows = matrix.rows();
        match self {
            Self::Columns(datatypes) => {
                // MLServer makes a data frame of the columns; others ignore it.
                body.push_str(r#""parameters":{"content_type":"pd"},"inputs":"#);
                let columns = inputs.iter().zip(datatypes).enumerate();
                write_list(body, ['[', ']'], columns, |body, (at, (input, datatype))| {
                    let head = TensorHead { name: input.name(), shape: [rows, 1], datatype };
                    head.write(body, |body| write_list(body, ['[', ']'], matrix.column(at), String::push_str));
                });
            }
            Self::Rows { name, datatype } => {
                body.push_str(r#""inputs":["#);
                let head = TensorHead { name, shape: [rows, inputs.len()], datatype };
                let values = (0..rows).flat_map(|row| matrix.row(row));
                head.write(body, |body| write_list(body, ['[', ']'], values, String::push_str));
                body.push(']');
            }
        }
    }
}

/// Whether the only tensor of a model takes a whole row: it has two dimensions, and is not one input's column.
fn is_row(tensor: &Tensor, inputs: &[Input]) -> bool {
    let is_named = || inputs.iter().any(|input| input.name() == tensor.name);
    let is_column = tensor.shape.last() == Some(&1) && (inputs.len() > 1 || is_named());
    tensor.shape.len() == 2 && !is_column
}

/// A tensor but for its data.
#[derive(serde::Serialize)]
struct TensorHead<'a> {
    name: &'a str,
    shape: [usize; 2],
    datatype: &'a str,
}

impl TensorHead<'_> {
    fn write(&self, body: &mut String, write_data: impl FnOnce(&mut String)) {
        // Texts and numbers can always be written.
        let head = serde_json::to_string(self).unwrap_or_default();
        body.push_str(head.trim_end_matches('}'));
        body.push_str(",\"data\":");
        write_data(body);
        body.push('}');
    }
}
