//! Signs requests to SageMaker, with the credentials of the ordinary chain of AWS (feature `sigv4`).
//!
//! Credentials are loaded with the first request, renewed before they expire, and loaded anew after the API has refused them.
//! Each load reads profiles and tokens again, so that what another program renews on disk is seen. They appear in no message.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use assay_aws::Transport;
use assay_connect::non_blank;
use aws_config::Region;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion as _;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Request;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::ScoringError;
use crate::failure::Symptom;

/// The service in the signature.
const SERVICE: &str = "sagemaker";
/// So long before they expire, credentials are renewed.
const RENEWED_BEFORE: Duration = Duration::from_mins(5);
/// How long after a failed renewal those held are used without another.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// Longest time to load credentials: the chain asks several services in turn.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest cause that is shown.
const MAX_CAUSE: usize = 160;

/// Who signs, and for which region.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
}

type Load = Box<dyn Fn() -> BoxFuture<'static, Result<Identity, Symptom>> + Send + Sync>;

/// What signs requests. Its `Debug` shows no credentials.
pub(crate) struct Signer {
    load: Load,
    held: Mutex<Option<Held>>,
    /// Held while credentials are loaded, by one for all.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    identity: Identity,
    /// No renewal before.
    not_before: Instant,
}

impl Held {
    fn is_fresh(&self, now: SystemTime) -> bool {
        let is_due = self.identity.credentials.expiry().is_some_and(|expiry| expiry <= now + RENEWED_BEFORE);
        !is_due || self.is_valid(now) && Instant::now() < self.not_before
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.identity.credentials.expiry().is_none_or(|expiry| now < expiry)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("region", &self.region()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs for the region of the endpoint's name, else for that of the chain. Loads nothing yet.
    pub(super) fn new(endpoint: Option<&str>) -> Result<Self, ScoringError> {
        // The SDK reads the environment here as for S3; this provider does not wait.
        let set = EnvironmentVariableRegionProvider::new().region().now_or_never().flatten();
        let region = region(endpoint, non_blank(set.as_ref().map(AsRef::as_ref)))?;
        Ok(Self::with(Box::new(move || Box::pin(from_chain(region.clone())))))
    }

    pub(crate) fn with(load: Load) -> Self {
        Self { load, held: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    /// Signs a request that is complete, for this moment.
    pub(crate) async fn sign(&self, request: &mut Request) -> Result<(), Symptom> {
        let Identity { credentials, region } = self.identity().await?;
        let signed =
            signed_headers(request, credentials, &region).map_err(|error| unsigned(&error, "check ML_API_URL"))?;
        request.headers_mut().extend(signed);
        Ok(())
    }

    /// The region of signatures, once it is known.
    pub(crate) fn region(&self) -> Option<String> {
        self.held().as_ref().map(|held| held.identity.region.clone())
    }

    /// Credentials that the API has refused are loaded anew.
    pub(crate) fn forget(&self) {
        *self.held() = None;
    }

    /// What is said if the chain has nothing.
    #[cfg(test)]
    pub(crate) fn not_found() -> Symptom {
        without_credentials(&cause(&CredentialsError::not_loaded("no providers in chain")))
    }

    async fn identity(&self) -> Result<Identity, Symptom> {
        if let Some(identity) = self.fresh() {
            return Ok(identity);
        }
        let _loading = self.loading.lock().await;
        // Perhaps another has loaded them meanwhile.
        if let Some(identity) = self.fresh() {
            return Ok(identity);
        }
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, (self.load)()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(without_credentials("they did not come in time")));
        let mut held = self.held();
        match loaded {
            Ok(identity) => {
                *held = Some(Held { identity: identity.clone(), not_before: Instant::now() + RENEWAL_PAUSE });
                Ok(identity)
            }
            // Those held serve until they expire.
            Err(symptom) => match held.as_mut().filter(|held| held.is_valid(SystemTime::now())) {
                Some(held) => {
                    held.not_before = Instant::now() + RENEWAL_PAUSE;
                    Ok(held.identity.clone())
                }
                None => Err(symptom),
            },
        }
    }

    fn fresh(&self) -> Option<Identity> {
        self.held().as_ref().filter(|held| held.is_fresh(SystemTime::now())).map(|held| held.identity.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        // Nothing under the lock can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The region to sign for, if it is known without asking AWS: that of the endpoint's name, else the one that is set.
fn region(endpoint: Option<&str>, set: Option<&str>) -> Result<Option<String>, ScoringError> {
    match (endpoint, set) {
        (Some(endpoint), Some(set)) if endpoint != set => Err(ScoringError::Setting(format!(
            "ML_API_URL is in the region {endpoint}, but AWS_REGION is {set}: correct one, or unset AWS_REGION where transactions \
             are scored"
        ))),
        (endpoint, set) => Ok(endpoint.or(set).map(str::to_owned)),
    }
}

/// The headers of the signature: it covers method, URL, host, content type and body. Headers that others may change are not signed.
fn signed_headers(
    request: &Request,
    credentials: Credentials,
    region: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, Box<dyn Error + Send + Sync>> {
    let identity = credentials.into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::to_str).transpose()?;
    let headers = content_type.map(|value| (CONTENT_TYPE.as_str(), value)).into_iter();
    let body = SignableBody::Bytes(request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default());
    let signable = SignableRequest::new(request.method().as_str(), request.url().as_str(), headers, body)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    let header = |(name, value): (&str, &str)| {
        let mut value = HeaderValue::from_str(value)?;
        value.set_sensitive(true);
        Ok((HeaderName::from_bytes(name.as_bytes())?, value))
    };
    instructions.headers().map(header).collect()
}

/// Loads credentials and, if it is not known, the region.
async fn from_chain(region: Option<String>) -> Result<Identity, Symptom> {
    let mut chain = assay_aws::config(Transport::Tls { authorities: None });
    if let Some(region) = region {
        chain = chain.region(Region::new(region));
    }
    let config = chain.load().await;
    let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
    let region = region.ok_or_else(|| unsigned("no region to sign for", "set AWS_REGION"))?;
    let provider = config.credentials_provider().ok_or_else(|| without_credentials("there is no chain"))?;
    let credentials = provider.provide_credentials().await.map_err(|error| without_credentials(&cause(&error)))?;
    Ok(Identity { credentials, region })
}

/// What the chain asks, in this order.
const CHAIN: &str = "environment, profile, web identity token, container, instance";

fn without_credentials(cause: &str) -> Symptom {
    unsigned(
        &format!("no AWS credentials: {cause}"),
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give this machine a role; KEY and SECRET are for S3 alone",
    )
}

fn unsigned(what: &(impl fmt::Display + ?Sized), remedy: &'static str) -> Symptom {
    Symptom::Unauthorized { verdict: "cannot be asked", what: what.to_string().into(), remedy: remedy.into() }
}

/// Why the chain gave nothing, in a line: outer errors say only that loading failed.
fn cause(error: &CredentialsError) -> String {
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        return format!("none in {CHAIN}");
    }
    let first: &(dyn Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |cause: &&(dyn Error + 'static)| (*cause).source());
    let innermost = causes.last().map(ToString::to_string).unwrap_or_default();
    let line: String = innermost.lines().next().unwrap_or_default().chars().take(MAX_CAUSE).collect();
    format!("of {CHAIN}, the last one tried says: {}", line.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Loads what `script` says for the first load, the second and so on: in how many seconds these credentials expire.
    fn scripted(script: &'static [Option<u64>]) -> (Signer, Arc<AtomicUsize>) {
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let signer = Signer::with(Box::new(move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let loaded = script[number].map(|seconds| {
                let expiry = SystemTime::now() + Duration::from_secs(seconds);
                let credentials = Credentials::new(format!("key-{number}"), "secret-123", None, Some(expiry), "test");
                Identity { credentials, region: "eu-west-1".to_owned() }
            });
            Box::pin(std::future::ready(loaded.ok_or_else(Signer::not_found)))
        }));
        (signer, loads)
    }

    async fn key(signer: &Signer) -> String {
        signer.identity().await.unwrap().credentials.access_key_id().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_they_expire() {
        let (signer, loads) = scripted(&[Some(60), None, Some(3600)]);
        assert_eq!((key(&signer).await, key(&signer).await), ("key-0".to_owned(), "key-0".to_owned()));
        tokio::time::advance(RENEWAL_PAUSE).await;
        // The renewal fails, and what is held is valid.
        assert_eq!((key(&signer).await, key(&signer).await), ("key-0".to_owned(), "key-0".to_owned()));
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        tokio::time::advance(RENEWAL_PAUSE).await;
        assert_eq!((key(&signer).await, key(&signer).await), ("key-2".to_owned(), "key-2".to_owned()));
        assert_eq!(signer.region().as_deref(), Some("eu-west-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_or_refused_credentials_are_never_used() {
        let (signer, _) = scripted(&[Some(0), None, Some(3600), Some(3600)]);
        // Credentials that come expired are used once, and refused by the API.
        assert_eq!(key(&signer).await, "key-0");
        let Err(Symptom::Unauthorized { what, .. }) = signer.identity().await else { panic!("it is signed") };
        assert!(what.as_str().starts_with("no AWS credentials: none in environment, profile"), "{what}");
        assert_eq!(key(&signer).await, "key-2");
        signer.forget();
        assert_eq!(key(&signer).await, "key-3");
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_load_once() {
        let (signer, loads) = scripted(&[Some(3600)]);
        let keys = futures_util::future::join_all((0..8).map(|_| key(&signer))).await;
        assert_eq!((keys, loads.load(Ordering::SeqCst)), (vec!["key-0".to_owned(); 8], 1));
    }

    #[test]
    fn two_regions_are_refused_with_both() {
        let found = |endpoint, set| region(endpoint, set).map_err(|error| error.to_string());
        let named = |region: &str| Ok(Some(region.to_owned()));
        assert_eq!(found(Some("us-east-1"), Some("us-east-1")), named("us-east-1"));
        assert_eq!(found(Some("eu-west-1"), None), named("eu-west-1"));
        assert_eq!(found(None, Some("us-east-1")), named("us-east-1"));
        assert_eq!(found(None, None), Ok(None));
        let error = found(Some("eu-west-1"), Some("us-east-1")).unwrap_err();
        assert!(error.contains("the region eu-west-1, but AWS_REGION is us-east-1"), "{error}");
    }

    #[test]
    fn no_secret_is_shown() {
        let failed = std::io::Error::other("cannot reach it\nsecond line");
        let shown = cause(&CredentialsError::provider_error(failed));
        assert!(shown.ends_with("the last one tried says: cannot reach it"), "{shown}");
        let (signer, _) = scripted(&[]);
        assert_eq!(format!("{signer:?}"), "Signer { region: None, .. }");
        let mut request = Request::new(reqwest::Method::POST, "http://host/x".parse().unwrap());
        let credentials = Credentials::new("key", "secret-123", Some("token-123".to_owned()), None, "test");
        let headers = signed_headers(&request, credentials, "eu-west-1").unwrap();
        request.headers_mut().extend(headers);
        assert!(request.headers().contains_key("authorization") && request.headers().contains_key("x-amz-date"));
        assert!(!format!("{request:?}").contains("-123"), "{request:?}");
    }
}
