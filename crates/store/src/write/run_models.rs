//! Which models the predictions of a run come from: a note for each, so that nobody has to search the predictions for it.

use std::collections::{BTreeMap, BTreeSet};

use assay_transaction::ModelEndpoint;

use crate::StoreError;
use crate::values::{storable, to_json};
use crate::write::transaction::StagedRow;

/// Most models that one write notes: an API that names a new version each time is not worth a row for each.
const MOST: usize = 16;

/// Run, version (empty if there is none) and key of the endpoint (0 if it is not known).
type Model<'a> = (&'a str, &'a str, i64);

/// The models of some scored rows.
#[derive(Default)]
pub(crate) struct RunModels<'a> {
    models: BTreeSet<Model<'a>>,
    endpoints: BTreeMap<i64, &'a ModelEndpoint>,
}

impl<'a> RunModels<'a> {
    /// The models that scored these rows.
    pub(crate) fn of(rows: impl Iterator<Item = &'a StagedRow<'a>>) -> Self {
        let mut found = Self::default();
        let mut last: Option<Model<'_>> = None;
        for row in rows {
            let version = row.prediction.model_version.as_deref().unwrap_or_default();
            let model = (row.run_id.as_str(), version, row.endpoint().unwrap_or_default());
            // Most rows have the model of the row before.
            if last == Some(model) {
                continue;
            }
            last = Some(model);
            if found.models.len() >= MOST {
                break;
            }
            found.models.insert(model);
            if let Some(endpoint) = row.prediction.endpoint.as_deref() {
                found.endpoints.insert(endpoint.key(), endpoint);
            }
        }
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// JSON: `[[key, URL, digest of the features file], …]`.
    pub(crate) fn endpoints_json(&self) -> Result<String, StoreError> {
        let endpoint = |(key, endpoint): (&i64, &&'a ModelEndpoint)| {
            (*key, storable(endpoint.url().into()), endpoint.features().map(|digest| storable(digest.into())))
        };
        to_json(&self.endpoints.iter().map(endpoint).collect::<Vec<_>>())
    }

    /// JSON: `[[run, version, key], …]`.
    pub(crate) fn models_json(&self) -> Result<String, StoreError> {
        let model = |(run_id, version, endpoint): &Model<'a>| (*run_id, storable((*version).into()), *endpoint);
        to_json(&self.models.iter().map(model).collect::<Vec<_>>())
    }
}
