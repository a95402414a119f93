//! MLflow's scoring server, and what is built on it (Databricks): `POST /invocations` with a data frame, and an answer by
//! position.

use super::features::{Features, Place};
use super::positions::Entries;
use super::table::{TableForm, TableProtocol};

pub(super) fn protocol(features: Features) -> Result<TableProtocol, String> {
    let form = TableForm {
        predict_path: "invocations".to_owned(),
        health_path: "ping".to_owned(),
        body: r#"{"dataframe_split":{"columns":"$names","data":"$arrays"}}"#,
        entries: Entries::Rows(Place::named("predictions")),
    };
    TableProtocol::new(features, form)
}
