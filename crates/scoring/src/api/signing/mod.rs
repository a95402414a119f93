//! Signatures of AWS (`ML_API_AUTH=sigv4`): whether requests are signed, for which region, and what a refusal means.
//!
//! `signer` computes them, in builds with the feature `sigv4`; `unsigned` stands in for it in others. `refusal` reads what
//! SageMaker says about a signature. `api::http` signs each attempt anew, as a signature is valid for minutes.

mod refusal;
#[cfg(feature = "sigv4")]
mod signer;
#[cfg(not(feature = "sigv4"))]
mod unsigned;

use std::time::SystemTime;

use reqwest::header::HeaderMap;
use url::Url;

use self::refusal::{Refusal, refusal};
#[cfg(all(test, feature = "sigv4"))]
pub(crate) use self::signer::Identity;
#[cfg(feature = "sigv4")]
pub(crate) use self::signer::Signer;
#[cfg(not(feature = "sigv4"))]
pub(crate) use self::unsigned::Signer;
use crate::ScoringError;
use crate::credentials::ApiAuth;
use crate::failure::Symptom;

/// What the names of AWS's own endpoints end in, after the region.
const AWS_DOMAINS: [&str; 5] =
    ["amazonaws.com", "amazonaws.com.cn", "vpce.amazonaws.com", "vpce.amazonaws.com.cn", "api.aws"];

/// What signs the requests to this address, if they are signed.
pub(super) fn signer(base: &Url, auth: ApiAuth) -> Result<Option<Signer>, ScoringError> {
    let endpoint = base.host_str().and_then(region_of);
    match (auth, endpoint) {
        (ApiAuth::None, None) => Ok(None),
        (ApiAuth::None, Some(_)) => Err(ScoringError::Setting(
            "ML_API_URL is an endpoint of SageMaker, which takes signed requests only: set ML_API_AUTH=sigv4"
                .to_owned(),
        )),
        (ApiAuth::Sigv4, endpoint) => Signer::new(endpoint).map(Some),
    }
}

/// What an error means if it is about the signature or the credentials; those refused are not used again.
pub(super) fn refused(signer: &Signer, status: u16, headers: &HeaderMap, body: &[u8]) -> Option<Symptom> {
    let region = signer.region();
    let Refusal { symptom, wants_credentials } = refusal(status, headers, body, region.as_deref(), SystemTime::now())?;
    if wants_credentials {
        signer.forget();
    }
    Some(symptom)
}

/// The region in the name of an endpoint of SageMaker, such as `runtime.sagemaker.eu-west-1.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let (service, place) = host.split_once(".sagemaker.")?;
    let is_runtime = matches!(service.rsplit('.').next(), Some("runtime" | "runtime-fips"));
    let (region, domain) = place.split_once('.')?;
    (is_runtime && AWS_DOMAINS.contains(&domain)).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_endpoint_has_its_region() {
        let cases = [
            ("runtime.sagemaker.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("runtime-fips.sagemaker.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("vpce-0a1b-2c3d.runtime.sagemaker.us-east-1.vpce.amazonaws.com", Some("us-east-1")),
            ("runtime.sagemaker.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("runtime.sagemaker.eu-west-1.api.aws", Some("eu-west-1")),
            ("api.sagemaker.eu-west-1.amazonaws.com", None),
            ("runtime.sagemaker.eu-west-1.amazonaws.com.example.org", None),
            ("runtime.sagemaker.example.org", None),
            ("127.0.0.1", None),
        ];
        for (host, expected) in cases {
            assert_eq!(region_of(host), expected, "{host}");
        }
    }

    #[test]
    fn an_endpoint_of_aws_must_be_signed_for() {
        let base = Url::parse("https://runtime.sagemaker.eu-west-1.amazonaws.com").unwrap();
        let error = signer(&base, ApiAuth::None).err().unwrap();
        assert_eq!(error.exit(), assay_transaction::Exit::Usage);
        assert!(error.to_string().contains("set ML_API_AUTH=sigv4"), "{error}");
        let base = Url::parse("http://127.0.0.1:8080").unwrap();
        assert!(signer(&base, ApiAuth::None).unwrap().is_none());
    }

    #[cfg(not(feature = "sigv4"))]
    #[test]
    fn a_build_that_cannot_sign_says_so() {
        let base = Url::parse("http://127.0.0.1:8080").unwrap();
        let error = signer(&base, ApiAuth::Sigv4).err().unwrap().to_string();
        assert!(error.contains("ML_API_AUTH=sigv4 needs a build with the feature `sigv4`"), "{error}");
    }
}
