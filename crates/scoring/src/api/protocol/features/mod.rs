//! The features file: which parts of a transaction become which inputs of a model, and what of its answer is the prediction.
//!
//! It is TOML, named by `ML_API_FEATURES` and read once, at the start. `file` is its form, `input` turns a transaction into values,
//! `answer` an entry of an answer into a prediction. The protocols decide only how these travel.
//!
//! Guarantees: an amount keeps the source's digits; a reason names an input, never its value.

mod answer;
mod file;
mod input;
mod number;

use std::fmt;
use std::path::Path;

use assay_transaction::EncodedTransaction;
use sha2::{Digest as _, Sha256};

pub(crate) use self::answer::{AnswerSpec, EntryProblem, Place, kind_of, known_name};
pub(crate) use self::input::{Input, InputType, Matrix};

/// A features file that was read and checked.
#[derive(Debug)]
pub(crate) struct Features {
    inputs: input::Inputs,
    answer: AnswerSpec,
    template: Option<TemplateSpec>,
    sagemaker: Option<SagemakerSpec>,
    digest: String,
}

/// The form of requests, for the protocol `sagemaker`.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SagemakerSpec {
    /// How rows travel.
    #[serde(default)]
    pub(crate) format: LineFormat,
}

/// How rows travel to SageMaker, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineFormat {
    /// Values with commas between them, in the order of the inputs.
    #[default]
    Csv,
    /// A JSON object.
    JsonLines,
}

/// The form of requests and answers, for the protocol `template`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateSpec {
    /// The body of a request, with placeholders.
    pub(crate) body: String,
    /// Where the array with an entry for each row is. Without it, each place of the answer is an array with a value for each row.
    #[serde(default)]
    pub(crate) rows: Option<Place>,
}

impl Features {
    /// Reads a file; the error is one line that names the position.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown} ({})", error.kind()))?;
        Self::parse(&text).map_err(|problem| format!("{shown}{problem}"))
    }

    /// Parses the text of a file; the error begins with the position, if there is one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file::FeaturesFile { inputs, answer, template, sagemaker } = file::parse(text)?;
        answer.check().map_err(|problem| format!(": {problem}"))?;
        let inputs = input::resolve(inputs).map_err(|problem| format!(": {problem}"))?;
        let digest =
            Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte));
        let digest = format!("{digest:016x}");
        Ok(Self { inputs, answer, template, sagemaker, digest })
    }

    /// The first 16 digits of the SHA-256 of the file.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub(crate) fn answer(&self) -> &AnswerSpec {
        &self.answer
    }

    pub(crate) fn template(&self) -> Option<&TemplateSpec> {
        self.template.as_ref()
    }

    pub(crate) fn sagemaker(&self) -> Option<&SagemakerSpec> {
        self.sagemaker.as_ref()
    }

    /// Why a transaction cannot be written as inputs: a value is missing, or of another type.
    pub(crate) fn check(&self, transaction: &EncodedTransaction) -> Result<(), InputProblem> {
        self.inputs.check(transaction)
    }

    /// The values of transactions that were checked. A value that cannot be written, as of a canary without attributes, is the
    /// type's zero.
    pub(crate) fn matrix<'a>(&self, transactions: impl Iterator<Item = &'a EncodedTransaction>) -> Matrix {
        let mut matrix = Matrix::default();
        for transaction in transactions {
            matrix.push_or_zeros(&self.inputs, transaction);
        }
        matrix
    }
}

/// Why a transaction cannot be written as the inputs of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputProblem {
    /// It is not what Assay sends.
    Unreadable,
    /// There is no value, and no default.
    Missing {
        /// The input's name.
        input: String,
    },
    /// The value is of another type.
    WrongType {
        /// The input's name.
        input: String,
        /// Its type.
        expected: InputType,
    },
}

impl fmt::Display for InputProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => formatter.write_str("the transaction cannot be read"),
            Self::Missing { input } => write!(formatter, "the input `{input}` is missing, and has no default"),
            Self::WrongType { input, expected } => write!(formatter, "the input `{input}` is not {expected}"),
        }
    }
}

#[cfg(test)]
mod tests;
