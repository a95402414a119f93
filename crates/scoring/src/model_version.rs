//! The version of the model that scores: which one is demanded, and which ones were seen.
//!
//! A prediction of another version than the demanded one is never returned: the API waits for it, and no row fails.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::api::protocol::RowResult;
use crate::failure::Symptom;
use crate::metrics;

/// So many versions are told apart; an API that returns a new one each time is not worth a line each time.
const MAX_VERSIONS: usize = 16;
/// Longest version that is shown.
const MAX_SHOWN: usize = 64;
/// Most digits in a row that are shown.
const MAX_DIGITS: usize = 8;

/// What is demanded of the model's version, and what was seen of it.
#[derive(Debug)]
pub(crate) struct ModelVersions {
    demanded: Option<String>,
    seen: Mutex<BTreeSet<Arc<str>>>,
}

impl ModelVersions {
    /// Any version is taken without a demanded one.
    pub(crate) fn new(demanded: Option<&str>) -> Self {
        Self { demanded: demanded.map(str::to_owned), seen: Mutex::default() }
    }

    /// Checks the versions of a response. `Err` if a prediction is not of the demanded version. Each version is logged when it is
    /// first seen.
    pub(crate) fn check(&self, results: &[RowResult]) -> Result<(), Symptom> {
        let versions = results.iter().flatten().map(|prediction| prediction.model_version.as_ref());
        let mut last: Option<Option<&Arc<str>>> = None;
        for version in versions {
            // Most responses repeat one.
            if last == Some(version) {
                continue;
            }
            last = Some(version);
            if let Some(demanded) = &self.demanded
                && version.map(AsRef::as_ref) != Some(demanded.as_str())
            {
                return Err(other_version(version.map(AsRef::as_ref)));
            }
            if let Some(version) = version {
                self.see(version);
            }
        }
        Ok(())
    }

    fn see(&self, version: &Arc<str>) {
        // Each change is a single insertion.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(version) || seen.len() >= MAX_VERSIONS {
            return;
        }
        let is_first = seen.is_empty();
        seen.insert(Arc::clone(version));
        drop(seen);
        let shown = shown(version);
        if is_first {
            info!("the ML API scores with model version {shown}");
        } else {
            metrics::count_model_change();
            warn!(
                "the ML API now scores with model version {shown}, and with another one before: MODEL_VERSION takes one only"
            );
        }
    }
}

fn other_version(found: Option<&str>) -> Symptom {
    let what = match found {
        Some(version) => format!("its model version is {}, and not that of MODEL_VERSION", shown(version)),
        None => "its predictions have no model version, and MODEL_VERSION demands one".to_owned(),
    };
    Symptom::Undeclared {
        what: what.into(),
        remedy: "deploy that version of the model, or set MODEL_VERSION to the one that is to score".into(),
    }
}

/// A version as a message shows it. It comes from the API, which could put anything there.
pub(crate) fn shown(version: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:+-".contains(&byte);
    // A date, perhaps, but no number of a card or an account.
    let has_few_digits =
        version.split(|letter: char| !letter.is_ascii_digit()).all(|digits| digits.len() <= MAX_DIGITS);
    let is_shown = version.len() <= MAX_SHOWN && version.bytes().all(is_plain) && has_few_digits;
    if is_shown { version } else { "of an unusual form" }
}

#[cfg(test)]
mod tests {
    use assay_transaction::Prediction;

    use super::*;

    /// A row for each version, "" for none, and one without a prediction.
    fn rows(versions: &[&str]) -> Vec<RowResult> {
        let row = |version: &&str| {
            let model_version = (!version.is_empty()).then(|| (*version).into());
            Ok(Prediction { prediction: "x".into(), fraud_score: None, model_version, ..Prediction::default() })
        };
        versions.iter().map(row).chain([Err("no entry".into())]).collect()
    }

    #[test]
    fn only_the_demanded_version_is_taken() {
        let cases = [
            (None, &["", "1", "2"][..], None),
            (Some("1"), &["1", "1"], None),
            (Some("1"), &[], None),
            (Some("1"), &["1", "2"], Some("version is 2")),
            (Some("1"), &["1", ""], Some("have no model version")),
            (Some("1"), &["1.0"], Some("version is 1.0")),
            (Some("a b"), &["a b"], None),
            (Some("1"), &["Jane Doe, 4111"], Some("of an unusual form")),
            (Some("1"), &["4111111111111111"], Some("of an unusual form")),
            (Some("1"), &["fraud-20261130"], Some("version is fraud-20261130")),
        ];
        for (demanded, versions, refused) in cases {
            match (ModelVersions::new(demanded).check(&rows(versions)), refused) {
                (Ok(()), None) => {}
                (Err(Symptom::Undeclared { what, .. }), Some(refused)) => {
                    assert!(what.as_str().contains(refused), "{what}");
                }
                (result, _) => panic!("{demanded:?} of {versions:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn versions_are_remembered_up_to_a_bound() {
        let versions = ModelVersions::new(None);
        for number in 0..40 {
            versions.check(&rows(&[&number.to_string()])).unwrap();
        }
        assert_eq!(versions.seen.lock().unwrap().len(), MAX_VERSIONS);
    }
}
