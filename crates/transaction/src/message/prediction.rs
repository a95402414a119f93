//! What an ML API said of a transaction, and which one said it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The ML API's result for a transaction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// The label: `fraud`, `legitimate`, or any other the model distinguishes.
    pub prediction: Arc<str>,
    /// The probability of fraud, from 0 to 1, if the model returns one; any number if its scores were declared to be raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraud_score: Option<f64>,
    /// The model version, if the model returns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<Arc<str>>,
    /// Why it has this score, the weightiest first; none unless the model says so and the predictor was told to keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonCode>,
    /// Where it comes from; none in predictions of earlier versions of Assay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<ModelEndpoint>>,
}

/// A reason for a score: a code of the model's own, or how much a feature adds to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReasonCode {
    /// A code, such as `R07`.
    Code(String),
    /// A feature's share of the score, as SHAP values are; its unit is the model's.
    Contribution {
        /// The feature's name.
        feature: String,
        /// What it adds to the score; negative if it lowers it.
        contribution: f64,
    },
}

/// Where a prediction comes from: an ML API, and what it was asked with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "EndpointParts")]
pub struct ModelEndpoint {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<String>,
    #[serde(skip_serializing)]
    key: i64,
}

/// A [`ModelEndpoint`] as it travels.
#[derive(Deserialize)]
struct EndpointParts {
    url: String,
    #[serde(default)]
    features: Option<String>,
}

impl From<EndpointParts> for ModelEndpoint {
    fn from(EndpointParts { url, features }: EndpointParts) -> Self {
        Self::new(url, features)
    }
}

impl ModelEndpoint {
    /// Transactions go to this URL, given without credentials and query. `features`: the first 16 digits of the features file's SHA-256,
    /// if the protocol has such a file.
    pub fn new(url: String, features: Option<String>) -> Self {
        let digest = Sha256::digest(format!("{url}\n{}", features.as_deref().unwrap_or_default()));
        let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte));
        Self { url, features, key: (number & i64::MAX).max(1) }
    }

    /// Where transactions were sent.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first 16 digits of the features file's SHA-256.
    pub fn features(&self) -> Option<&str> {
        self.features.as_deref()
    }

    /// A number that stands for it: the same everywhere, and another for any other endpoint. Never 0, which stands for none.
    pub fn key(&self) -> i64 {
        self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_a_key_of_its_own() {
        let endpoint = |url: &str, features: Option<&str>| ModelEndpoint::new(url.into(), features.map(Into::into));
        // Stored: it must never change.
        assert_eq!(endpoint("http://ml-api:8000/predict", None).key(), 478_703_521_562_867_510);
        let others = [("http://a", None), ("http://b", None), ("http://a", Some("0123456789abcdef"))];
        let mut keys: Vec<i64> = others.iter().map(|(url, features)| endpoint(url, *features).key()).collect();
        assert!(keys.iter().all(|key| *key > 0));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len());
    }

    #[test]
    fn an_endpoint_travels_without_its_key() {
        let endpoint = ModelEndpoint::new("http://a".into(), Some("0a".into()));
        let json = serde_json::to_string(&endpoint).unwrap();
        assert_eq!(json, r#"{"url":"http://a","features":"0a"}"#);
        assert_eq!(serde_json::from_str::<ModelEndpoint>(&json).unwrap(), endpoint);
    }

    #[test]
    fn reasons_are_codes_or_contributions() {
        let reasons = vec![
            ReasonCode::Code("R07".into()),
            ReasonCode::Contribution { feature: "amount".into(), contribution: -0.25 },
        ];
        let json = serde_json::to_string(&reasons).unwrap();
        assert_eq!(json, r#"["R07",{"feature":"amount","contribution":-0.25}]"#);
        assert_eq!(serde_json::from_str::<Vec<ReasonCode>>(&json).unwrap(), reasons);
    }
}
