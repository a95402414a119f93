//! The models that scored the rows of a run, and whether the model changed meanwhile.

use std::fmt;

use assay_store::RunModel;
use assay_transaction::{Timestamp, mask_card_numbers};
use serde::Serialize;

use crate::{Table, moment, one_line};

/// Longest name of a model that is shown.
const NAME: usize = 100;

/// The models of a run, the first first.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Models(Vec<ShownModel>);

/// A model that scored rows of a run.
#[derive(Debug, Serialize)]
pub struct ShownModel {
    /// Its version, masked; none if it names none.
    pub model_version: Option<String>,
    /// Where it was asked.
    pub url: Option<String>,
    /// The first digits of the features file's digest.
    pub features: Option<String>,
    /// When its first prediction was stored.
    pub first_stored_at: Timestamp,
}

impl From<Vec<RunModel>> for Models {
    fn from(models: Vec<RunModel>) -> Self {
        let shown = |RunModel { model_version, endpoint, first_at }| ShownModel {
            // It comes from the ML API, which could put anything there.
            model_version: model_version.map(|version| mask_card_numbers(&version).into_owned()),
            url: endpoint.as_ref().map(|endpoint| endpoint.url().to_owned()),
            features: endpoint.as_ref().and_then(|endpoint| endpoint.features()).map(str::to_owned),
            first_stored_at: first_at,
        };
        Self(models.into_iter().map(shown).collect())
    }
}

impl Models {
    /// Whether no model has scored a row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each model.
    pub fn iter(&self) -> impl Iterator<Item = &ShownModel> {
        self.0.iter()
    }

    /// Whether rows were scored by different models, not only by different servers of one.
    pub fn has_changed(&self) -> bool {
        let model = |shown: &ShownModel| (shown.model_version.clone(), shown.features.clone());
        self.0.windows(2).any(|pair| model(&pair[0]) != model(&pair[1]))
    }
}

impl fmt::Display for Models {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["model", "first stored (UTC)", "asked at", "features file"]);
        for shown in &self.0 {
            table.add([
                one_line(shown.model_version.as_deref().unwrap_or("not named"), NAME),
                moment(shown.first_stored_at),
                one_line(shown.url.as_deref().unwrap_or_default(), NAME),
                one_line(shown.features.as_deref().unwrap_or_default(), NAME),
            ]);
        }
        write!(formatter, "{table}")?;
        if self.has_changed() {
            formatter.write_str("the model changed while this run was scored: MODEL_VERSION takes one only\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::ModelEndpoint;

    use super::*;
    use crate::fixture::at;

    fn model(version: Option<&str>, url: &str, time: &str) -> RunModel {
        let endpoint = ModelEndpoint::new(url.into(), None);
        RunModel { model_version: version.map(Into::into), endpoint: Some(endpoint), first_at: at(time) }
    }

    #[test]
    fn a_change_of_the_model_is_told() {
        let models = vec![
            model(Some("demo-1"), "http://a/predict", "10:00:00"),
            model(Some("demo-2\u{1b}[31m"), "http://a/predict", "10:31:12"),
        ];
        let text = Models::from(models).to_string();
        assert!(text.contains("demo-1") && text.contains("2026-01-11 10:31:12  http://a/predict"), "{text}");
        assert!(text.ends_with("MODEL_VERSION takes one only\n") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn several_servers_of_one_model_are_no_change() {
        let servers = ["http://a", "http://b"].map(|url| model(None, url, "10:00:00"));
        let text = Models::from(servers.to_vec()).to_string();
        assert!(!text.contains("changed") && text.contains("not named"), "{text}");
    }
}
