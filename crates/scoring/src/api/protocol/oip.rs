//! The Open Inference Protocol, version 2 (KServe, Triton, MLServer): `POST /v2/models/NAME/infer` with tensors, and tensors back.
//!
//! The names and types of the inputs come from the server (`metadata`). Either each input of the features file is a tensor of one
//! column, or the model has a single tensor that takes all of them as a row. The places of the answer begin with the name of an
//! output, and only those outputs are asked for.

mod metadata;
mod tensors;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use assay_transaction::EncodedTransaction;
use bytes::Bytes;

use self::metadata::ModelInputs;
use super::body::write_list;
use super::features::{Features, Matrix};
use super::{ResponseError, RowResult};

/// A model behind this protocol.
#[derive(Debug)]
pub(crate) struct OipProtocol {
    features: Features,
    /// Of the model, below the address; its metadata are there.
    model_path: String,
    predict_path: String,
    /// The outputs that are asked for, as JSON.
    outputs: String,
    /// Learned from the server before the first request.
    model: OnceLock<ModelInputs>,
}

impl OipProtocol {
    /// The health check.
    pub(super) const HEALTH_PATH: &'static str = "v2/health/ready";

    /// The protocol for a model; the error says what is wrong with the features file.
    pub(super) fn new(features: Features, model: &str, version: Option<&str>) -> Result<Self, String> {
        let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
        let model_path = format!("v2/models/{model}{version}");
        let outputs: BTreeSet<String> = features
            .answer()
            .places()
            .map(|place| place.first_key().map(|(output, _)| output))
            .collect::<Option<_>>()
            .ok_or("with ML_API_PROTOCOL=oip each place of `[answer]` begins with the name of an output")?;
        let mut json = String::new();
        write_list(&mut json, ['[', ']'], outputs.iter(), |json, output| {
            json.push_str(&serde_json::json!({ "name": output }).to_string());
        });
        let predict_path = format!("{model_path}/infer");
        Ok(Self { features, model_path, predict_path, outputs: json, model: OnceLock::new() })
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    pub(super) fn predict_path(&self) -> &str {
        &self.predict_path
    }

    /// Where the metadata of the model are, below the address.
    pub(super) fn metadata_path(&self) -> &str {
        &self.model_path
    }

    /// Whether the metadata were read.
    pub(super) fn is_learned(&self) -> bool {
        self.model.get().is_some()
    }

    /// Learns what the model takes, or says how that differs from the features file.
    pub(super) fn learn(&self, metadata: &[u8]) -> Result<(), ResponseError> {
        let model = ModelInputs::read(metadata, self.features.inputs())?;
        // If another request has learned it meanwhile, that is the same.
        let _ = self.model.set(model);
        Ok(())
    }

    pub(super) fn write_request<'a>(&self, transactions: impl Iterator<Item = &'a EncodedTransaction>) -> Bytes {
        let matrix = self.features.matrix(transactions);
        let declared = || ModelInputs::declared(self.features.inputs());
        let model = self.model.get().map_or_else(|| Cow::Owned(declared()), Cow::Borrowed);
        self.body(&model, &matrix).into()
    }

    fn body(&self, model: &ModelInputs, matrix: &Matrix) -> String {
        let mut body = String::from("{");
        model.write(self.features.inputs(), matrix, &mut body);
        body.push_str(",\"outputs\":");
        body.push_str(&self.outputs);
        body.push('}');
        body
    }

    pub(super) fn read_response(&self, body: &[u8], asked: usize) -> Result<Vec<RowResult>, ResponseError> {
        tensors::read(body, asked, self.features.answer())
    }
}

#[cfg(test)]
mod tests;
