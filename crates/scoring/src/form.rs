//! What the model takes and how it answers: learned before the first request, and what it means if that is not what the settings say.

use crate::api::http::RequestError;
use crate::api::protocol::ResponseError;
use crate::failure::Symptom;
use crate::request::ClientState;

/// Longest metadata of a model.
const MAX_METADATA: usize = 1024 * 1024;

impl ClientState {
    /// Reads the metadata of the model, where the protocol needs them before its first request. Trouble is that of any request.
    pub(crate) async fn learn_model(&self) -> Result<(), RequestError> {
        if !self.protocol.needs_metadata() {
            return Ok(());
        }
        let metadata = self.http.metadata(MAX_METADATA).await.map_err(not_described)?;
        self.protocol.learn(&metadata).map_err(|error| self.symptom_of_read(error).into())
    }

    /// A form that has never fitted is a wrong setting. One that did fit before may be the fault of a row, or of a new model.
    pub(crate) fn symptom_of_read(&self, error: ResponseError) -> Symptom {
        match error {
            ResponseError::Misfit(why) if !self.successes.has_any_success() => Symptom::Misfit(why),
            ResponseError::Misfit(why) | ResponseError::Unreadable(why) => Symptom::Unreadable(why),
            ResponseError::Undeclared { what, remedy } => Symptom::Undeclared { what, remedy },
        }
    }
}

/// A server that knows no such model works, but the settings name another.
fn not_described(error: RequestError) -> RequestError {
    match error.symptom {
        Symptom::Status { code: 404, .. } => {
            Symptom::Misfit("no model of that name and version is there".into()).into()
        }
        _ => error,
    }
}
