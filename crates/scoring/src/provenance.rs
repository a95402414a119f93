//! What a prediction says beside the model's own words: where it comes from, and its reasons if it is one that needs them.

use std::sync::Arc;

use assay_transaction::ModelEndpoint;

use crate::api::protocol::RowResult;

/// Where predictions come from, and which of them keep their reasons.
#[derive(Debug)]
pub(crate) struct Provenance {
    endpoint: Arc<ModelEndpoint>,
    reasons_from: Option<f64>,
}

impl Provenance {
    /// Of the API at this URL, asked with the features file of this digest; reasons are kept for scores from a threshold on.
    pub(crate) fn new(url: String, features: Option<&str>, reasons_from: Option<f64>) -> Self {
        let endpoint = ModelEndpoint::new(url, features.map(str::to_owned));
        Self { endpoint: Arc::new(endpoint), reasons_from }
    }

    /// Completes predictions, whose scores are as they are stored by now.
    pub(crate) fn complete(&self, results: &mut [RowResult]) {
        for prediction in results.iter_mut().flatten() {
            let keeps_reasons =
                self.reasons_from.zip(prediction.fraud_score).is_some_and(|(from, score)| score >= from);
            if !keeps_reasons {
                prediction.reasons = Vec::new();
            }
            prediction.endpoint = Some(Arc::clone(&self.endpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::{Prediction, ReasonCode};

    use super::*;

    #[test]
    fn scores_from_the_threshold_on_keep_their_reasons() {
        let cases = [
            (None, Some(1.0), false),
            (Some(0.8), None, false),
            (Some(0.8), Some(0.79), false),
            (Some(0.8), Some(0.8), true),
            (Some(0.0), Some(0.0), true),
            (Some(800.0), Some(850.0), true),
        ];
        for (from, fraud_score, is_kept) in cases {
            let provenance = Provenance::new("http://a".into(), Some("0a"), from);
            let reasons = vec![ReasonCode::Code("R07".into())];
            let mut rows =
                vec![Err("no entry".into()), Ok(Prediction { fraud_score, reasons, ..Prediction::default() })];
            provenance.complete(&mut rows);
            let prediction = rows[1].as_ref().unwrap();
            assert_eq!(prediction.reasons.len(), usize::from(is_kept), "{from:?} {fraud_score:?}");
            let endpoint = prediction.endpoint.as_ref().unwrap();
            assert_eq!((endpoint.url(), endpoint.features()), ("http://a", Some("0a")));
        }
    }
}
