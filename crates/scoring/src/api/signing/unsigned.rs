//! In place of the signer, in a build without the feature `sigv4`: there never is one.

use reqwest::Request;

use crate::ScoringError;
use crate::failure::Symptom;

/// What signs requests. This build has none.
#[derive(Debug)]
pub(crate) enum Signer {}

impl Signer {
    /// Always an error: without signing, an endpoint that asks for it refuses everything.
    pub(super) fn new(_endpoint: Option<&str>) -> Result<Self, ScoringError> {
        Err(ScoringError::Setting(
            "ML_API_AUTH=sigv4 needs a build with the feature `sigv4`, which the image and the packages have: \
             cargo build --release --features sigv4"
                .to_owned(),
        ))
    }

    #[expect(clippy::unused_async, reason = "as that of a build that signs")]
    pub(crate) async fn sign(&self, _request: &mut Request) -> Result<(), Symptom> {
        match *self {}
    }

    pub(crate) fn region(&self) -> Option<String> {
        match *self {}
    }

    pub(crate) fn forget(&self) {
        match *self {}
    }
}
