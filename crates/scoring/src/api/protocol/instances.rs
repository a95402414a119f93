//! `{"instances": […]}` and `{"predictions": […]}`, as TensorFlow Serving, KServe v1 and Vertex AI have it.
//!
//! The first two serve a model below `/v1/models/NAME`. A container for Vertex AI serves `/predict` and `/health`.

use super::features::{Features, Place};
use super::positions::Entries;
use super::table::{TableForm, TableProtocol};

pub(super) fn protocol(features: Features, model: Option<&str>) -> Result<TableProtocol, String> {
    let (predict_path, health_path) = match model {
        Some(model) => (format!("v1/models/{model}:predict"), format!("v1/models/{model}")),
        None => ("predict".to_owned(), "health".to_owned()),
    };
    let form = TableForm {
        predict_path,
        health_path,
        body: r#"{"instances":"$objects"}"#,
        entries: Entries::Rows(Place::named("predictions")),
    };
    TableProtocol::new(features, form)
}
