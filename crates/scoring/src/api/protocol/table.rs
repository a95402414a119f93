//! The form that most model servers share: a request of rows of inputs, an answer by position. The protocols of this form differ
//! in paths, in the body, and in where the entries of the answer are.

use assay_transaction::EncodedTransaction;
use bytes::Bytes;

use super::body::BodyTemplate;
use super::features::Features;
use super::positions::Entries;
use super::{ResponseError, RowResult};

/// How one protocol of this form differs from the others.
#[derive(Debug)]
pub(super) struct TableForm<'a> {
    pub(super) predict_path: String,
    pub(super) health_path: String,
    /// With the placeholders of [`BodyTemplate`].
    pub(super) body: &'a str,
    pub(super) entries: Entries,
}

/// A protocol of this form, for one model.
#[derive(Debug)]
pub(crate) struct TableProtocol {
    features: Features,
    predict_path: String,
    health_path: String,
    body: BodyTemplate,
    entries: Entries,
}

impl TableProtocol {
    /// The protocol of this form; the error says what is wrong with the body.
    pub(super) fn new(features: Features, form: TableForm<'_>) -> Result<Self, String> {
        let TableForm { predict_path, health_path, body, entries } = form;
        let body = BodyTemplate::parse(body, features.inputs())?;
        Ok(Self { features, predict_path, health_path, body, entries })
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    pub(super) fn predict_path(&self) -> &str {
        &self.predict_path
    }

    pub(super) fn health_path(&self) -> &str {
        &self.health_path
    }

    pub(super) fn write_request<'a>(&self, transactions: impl Iterator<Item = &'a EncodedTransaction>) -> Bytes {
        self.body.write(self.features.inputs(), &self.features.matrix(transactions))
    }

    pub(super) fn read_response(&self, body: &[u8], asked: usize) -> Result<Vec<RowResult>, ResponseError> {
        self.entries.read(body, asked, self.features.answer())
    }
}
