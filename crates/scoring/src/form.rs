//! What the model takes and how it answers: learned before the first request, and what it means if that is not what the settings say.

use tokio_util::sync::CancellationToken;

use crate::ScoreError;
use crate::api::http::RequestError;
use crate::api::protocol::ResponseError;
use crate::breaker::OpenReason;
use crate::failure::{Symptom, SymptomClass};
use crate::request::ClientState;

/// Longest metadata of a model.
const MAX_METADATA: usize = 1024 * 1024;

impl ClientState {
    /// Reads the metadata of the model, where the protocol needs them before its first request. No trouble with them is a row's fault.
    pub(crate) async fn learn_model(&self) -> Result<(), RequestError> {
        if !self.protocol.needs_metadata() {
            return Ok(());
        }
        let metadata = self.http.metadata(MAX_METADATA).await.map_err(not_described)?;
        self.protocol.learn(&metadata).map_err(|error| not_described(self.symptom_of_read(error).into()))
    }

    /// Notes whether any of some transactions can be written as inputs of the model. As long as none ever could, the features file is
    /// wrong rather than the transactions, and this waits until one can, here or elsewhere in the process.
    pub(crate) async fn until_inputs_fit(
        &self,
        do_any_fit: bool,
        problem: &str,
        stop: &CancellationToken,
    ) -> Result<(), ScoreError> {
        if do_any_fit {
            self.inputs_fit.send_if_modified(|fit| !std::mem::replace(fit, true));
            return Ok(());
        }
        let mut fit = self.inputs_fit.subscribe();
        if *fit.borrow_and_update() {
            return Ok(());
        }
        let symptom = Symptom::Unwritable(format!("{problem}, in every transaction so far").into());
        self.open_breaker(OpenReason::Misconfiguration, &symptom.into());
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(ScoreError::Stopped),
            // An error would mean that the sender is gone, but `self` holds it.
            _ = fit.wait_for(|fit| *fit) => Ok(()),
        }
    }

    /// A form that has never fitted is a wrong setting. One that did fit before may be the fault of a row, or of a new model.
    pub(crate) fn symptom_of_read(&self, error: ResponseError) -> Symptom {
        match error {
            ResponseError::Misfit(why) if !self.successes.has_any_success() => Symptom::Misfit(why),
            ResponseError::Misfit(why) | ResponseError::Unreadable(why) => Symptom::Unreadable(why),
            ResponseError::Undeclared { what, .. } if self.successes.has_any_success() => Symptom::Unreadable(what),
            ResponseError::Undeclared { what, remedy } => Symptom::Undeclared { what, remedy },
        }
    }
}

/// A server that knows no such model works, but the settings name another; servers that say so by 400 are the more careful about
/// its name. One that fails on it may still be loading it.
fn not_described(error: RequestError) -> RequestError {
    let symptom = match (&error.symptom, error.symptom.class()) {
        (Symptom::Status { code: 404, .. }, _) => Symptom::Misfit("no model of that name and version is there".into()),
        (symptom, SymptomClass::Rejected) => Symptom::Misfit(format!("the model is not described: {symptom}").into()),
        (_, SymptomClass::Suspect) => Symptom::Unreachable("the metadata of its model cannot be read"),
        (_, SymptomClass::Unavailable | SymptomClass::Misconfigured) => return error,
    };
    RequestError { symptom, retry_after: error.retry_after }
}
