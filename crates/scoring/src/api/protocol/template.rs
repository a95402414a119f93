//! For every other API: the features file says how the body looks, and where the entries of the answer are.

use super::features::Features;
use super::positions::Entries;
use super::table::{TableForm, TableProtocol};

pub(super) fn protocol(features: Features) -> Result<TableProtocol, String> {
    let Some(template) = features.template().cloned() else {
        return Err("ML_API_PROTOCOL=template needs `[template]` with the `body` of a request".to_owned());
    };
    let form = TableForm {
        predict_path: "predict".to_owned(),
        health_path: "health".to_owned(),
        body: &template.body,
        entries: template.rows.map_or(Entries::Columns, Entries::Rows),
    };
    TableProtocol::new(features, form)
}
