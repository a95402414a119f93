//! The protocols of ML APIs: how a request is written, and how a response is read. Each has a module of its own; only [`Protocol`]
//! knows which there are.
//!
//! `native` sends transactions as they are. All others send the inputs of a model, which the features file names (`features`);
//! most of them differ in the body (`body`) and in where the entries of an answer are (`positions`), and are a `table`.
//!
//! A reader trusts nothing: whatever the bytes are, it neither panics nor takes more memory than a small multiple of them, and a
//! fault in one entry costs that row only.

mod body;
mod features;
mod instances;
mod mlflow;
pub(crate) mod native;
mod oip;
mod positions;
mod reasons;
pub(crate) mod sagemaker;
mod table;
mod template;

use std::sync::Arc;

use assay_transaction::{EncodedTransaction, Prediction};
use bytes::Bytes;
use uuid::Uuid;

use self::features::Features;
pub(crate) use self::native::is_storable;
pub use self::native::{Matching, ReadOptions};
use self::oip::OipProtocol;
use self::sagemaker::SagemakerProtocol;
use self::table::TableProtocol;
use crate::api::error_body;
use crate::options::ProtocolName;
use crate::reason::Reason;
use crate::{ApiOptions, ScoringError};

/// Why a row was not scored: the response does not contain it.
pub(crate) const MISSING: &str = "missing from the response";

/// The prediction for a row of the request, or why there is none.
pub(crate) type RowResult = Result<Prediction, Reason>;

/// Predictions that name no version of the model have this one.
pub(crate) fn fill_versions(results: &mut [RowResult], version: &Arc<str>) {
    for prediction in results.iter_mut().flatten() {
        prediction.model_version.get_or_insert_with(|| Arc::clone(version));
    }
}

/// Why nothing of a response is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseError {
    /// It is damaged, or no response of the protocol.
    Unreadable(Reason),
    /// It may be one, but in a form that must be declared by a setting.
    Undeclared {
        /// What it is like.
        what: Reason,
        /// The setting that declares it.
        remedy: Reason,
    },
    /// It is whole, but of another form than the settings say: names and kinds of what was expected and what came.
    Misfit(Reason),
}

impl<T: Into<Reason>> From<T> for ResponseError {
    fn from(why: T) -> Self {
        Self::Unreadable(why.into())
    }
}

impl ResponseError {
    fn misfit(expected: &str, found: &str) -> Self {
        Self::Misfit(format!("the answer has another form: expected {expected}, got {found}").into())
    }

    /// The same without names from the response that may be values of its request.
    pub(crate) fn without_values(self, request: &[u8]) -> Self {
        match self {
            Self::Misfit(why) => Self::Misfit(error_body::without_values(why.as_str(), request).into()),
            error => error,
        }
    }

    /// Says of which content type the response is, if that may be why it cannot be read.
    pub(crate) fn with_content_type(self, other: Option<&str>) -> Self {
        match (self, other) {
            (Self::Unreadable(why), Some(other)) => format!("{why} (its content type is {other})").into(),
            (error, _) => error,
        }
    }
}

/// The protocol that an ML API speaks, with what its settings say of it.
#[derive(Debug, Clone)]
pub(crate) enum Protocol {
    /// Assay's own: an array of transactions, an array of predictions.
    Native(ReadOptions),
    /// Rows of inputs, and answers by position.
    Table(Arc<TableProtocol>),
    /// Tensors, as the server describes them.
    Oip(Arc<OipProtocol>),
    /// A line for each row.
    Sagemaker(Arc<SagemakerProtocol>),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Native(ReadOptions::default())
    }
}

impl Protocol {
    /// The protocol that the settings name.
    pub(crate) fn from_options(options: &ApiOptions) -> Result<Self, ScoringError> {
        let native = ReadOptions { matching: options.ml_api_match, with_reasons: options.reasons_from.is_some() };
        let Some(features) = read_features(options)? else { return Ok(Self::Native(native)) };
        let model = options.model()?;
        let table = match options.ml_api_protocol {
            ProtocolName::Native => return Ok(Self::Native(native)),
            ProtocolName::Oip => {
                let needed = "ML_API_PROTOCOL=oip needs ML_API_MODEL_NAME: the name of the model";
                let model = model.ok_or_else(|| ScoringError::Setting(needed.to_owned()))?;
                let oip = OipProtocol::new(features, model, options.model_version()?).map_err(wrong_features)?;
                return Ok(Self::Oip(Arc::new(oip)));
            }
            ProtocolName::Sagemaker => return Ok(Self::Sagemaker(Arc::new(SagemakerProtocol::new(features, model)))),
            ProtocolName::Mlflow => mlflow::protocol(features),
            ProtocolName::Instances => instances::protocol(features, model),
            ProtocolName::Template => template::protocol(features),
        };
        Ok(Self::Table(Arc::new(table.map_err(wrong_features)?)))
    }

    /// Where transactions are sent, below the API's address.
    pub(crate) fn predict_path(&self) -> &str {
        match self {
            Self::Native(_) => native::PREDICT_PATH,
            Self::Table(table) => table.predict_path(),
            Self::Oip(oip) => oip.predict_path(),
            Self::Sagemaker(sagemaker) => sagemaker.predict_path(),
        }
    }

    /// The health check, below the API's address.
    pub(crate) fn health_path(&self) -> &str {
        match self {
            Self::Native(_) => native::HEALTH_PATH,
            Self::Table(table) => table.health_path(),
            Self::Oip(_) => OipProtocol::HEALTH_PATH,
            Self::Sagemaker(_) => SagemakerProtocol::HEALTH_PATH,
        }
    }

    /// The content type of requests and answers.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Sagemaker(sagemaker) => sagemaker.content_type(),
            Self::Native(_) | Self::Table(_) | Self::Oip(_) => "application/json",
        }
    }

    /// Where the metadata of the model are, below the API's address, if the protocol has such.
    pub(crate) fn metadata_path(&self) -> Option<&str> {
        match self {
            Self::Oip(oip) => Some(oip.metadata_path()),
            Self::Native(_) | Self::Table(_) | Self::Sagemaker(_) => None,
        }
    }

    /// Whether the metadata are needed before a request can be written.
    pub(crate) fn needs_metadata(&self) -> bool {
        matches!(self, Self::Oip(oip) if !oip.is_learned())
    }

    /// Learns from the metadata, or says how they differ from the settings.
    pub(crate) fn learn(&self, metadata: &[u8]) -> Result<(), ResponseError> {
        match self {
            Self::Oip(oip) => oip.learn(metadata),
            Self::Native(_) | Self::Table(_) | Self::Sagemaker(_) => Ok(()),
        }
    }

    /// The first digits of the SHA-256 of the features file, if there is one.
    pub(crate) fn features_digest(&self) -> Option<&str> {
        self.features().map(Features::digest)
    }

    /// Whether a features file says which inputs the model takes.
    pub(crate) fn has_features(&self) -> bool {
        self.features().is_some()
    }

    /// Why a transaction cannot be sent at all; then it fails, and no other with it.
    pub(crate) fn check(&self, transaction: &EncodedTransaction) -> Result<(), String> {
        self.features().map_or(Ok(()), |features| features.check(transaction).map_err(|problem| problem.to_string()))
    }

    /// The body of a request about these transactions, which were checked.
    pub(crate) fn write_request<'a>(
        &self,
        transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone,
    ) -> Bytes {
        match self {
            Self::Native(_) => native::write_request(transactions),
            Self::Table(table) => table.write_request(transactions),
            Self::Oip(oip) => oip.write_request(transactions),
            Self::Sagemaker(sagemaker) => sagemaker.write_request(transactions),
        }
    }

    /// The length of that body, of one transaction or more.
    pub(crate) fn request_bytes<'a>(
        &self,
        transactions: impl Iterator<Item = &'a EncodedTransaction> + Clone,
    ) -> usize {
        match self {
            Self::Native(_) => native::request_bytes(transactions),
            Self::Table(_) | Self::Oip(_) | Self::Sagemaker(_) => self.write_request(transactions).len(),
        }
    }

    /// The body of a request about no transaction, which shows whether the API responds at all.
    pub(crate) fn empty_request(&self) -> Bytes {
        match self {
            Self::Native(_) => Bytes::from_static(native::EMPTY_REQUEST.as_bytes()),
            Self::Table(_) | Self::Oip(_) | Self::Sagemaker(_) => self.write_request(std::iter::empty()),
        }
    }

    /// The longest response about this many rows.
    pub(crate) fn max_response_bytes(rows: usize) -> usize {
        native::max_response_bytes(rows)
    }

    /// Reads a response: a result for each id of the request, in that order, with its score as it came. `Err` if it is no response at
    /// all. The ids must differ.
    pub(crate) fn read_response(&self, body: &[u8], asked: &[Uuid]) -> Result<Vec<RowResult>, ResponseError> {
        match self {
            Self::Native(options) => native::read_response(body, asked, *options),
            Self::Table(table) => table.read_response(body, asked.len()),
            Self::Oip(oip) => oip.read_response(body, asked.len()),
            Self::Sagemaker(sagemaker) => sagemaker.read_response(body, asked.len()),
        }
    }

    fn features(&self) -> Option<&Features> {
        match self {
            Self::Native(_) => None,
            Self::Table(table) => Some(table.features()),
            Self::Oip(oip) => Some(oip.features()),
            Self::Sagemaker(sagemaker) => Some(sagemaker.features()),
        }
    }
}

/// The features file, which every protocol but the native one needs, and that one cannot use.
fn read_features(options: &ApiOptions) -> Result<Option<Features>, ScoringError> {
    let name = options.ml_api_protocol;
    let problem = match (&options.ml_api_features, name) {
        (None, ProtocolName::Native) => return Ok(None),
        (Some(_), ProtocolName::Native) => {
            "ML_API_FEATURES is not used by ML_API_PROTOCOL=native, which sends transactions as they are: remove one"
                .to_owned()
        }
        (None, _) => format!(
            "ML_API_PROTOCOL={name} needs ML_API_FEATURES: a file that says which inputs the model takes and what of its answer is the \
             prediction"
        ),
        (Some(path), _) => {
            let features = Features::read(path).map_err(wrong_features)?;
            let unused = [
                ("template", features.template().is_some() && name != ProtocolName::Template),
                ("sagemaker", features.sagemaker().is_some() && name != ProtocolName::Sagemaker),
            ];
            let has_reasons = features.answer().has_reasons();
            match unused.iter().find(|(_, is_unused)| *is_unused) {
                None if has_reasons && options.reasons_from.is_none() => {
                    "ML_API_FEATURES names `reasons`: set REASONS_FROM to the score from which they are stored"
                        .to_owned()
                }
                None if !has_reasons && options.reasons_from.is_some() => {
                    "REASONS_FROM needs `reasons` in the `[answer]` of ML_API_FEATURES: where the answer has them"
                        .to_owned()
                }
                Some((section, _)) => {
                    format!("ML_API_FEATURES has a `[{section}]`, which ML_API_PROTOCOL={name} does not use")
                }
                None => return Ok(Some(features)),
            }
        }
    };
    Err(ScoringError::Setting(problem))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn wrong_features(problem: String) -> ScoringError {
    ScoringError::Setting(format!("ML_API_FEATURES: {problem}"))
}
