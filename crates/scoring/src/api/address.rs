//! Where the ML API is: its address, and the paths below it.

use std::str::FromStr;

use assay_connect::{AddressForm, Host};
use url::Url;

use crate::ScoringError;

/// What `ML_API_URL` may look like.
const FORM: AddressForm =
    AddressForm { name: "ML_API_URL", schemes: &["http", "https"], of: "an ML API", example: "http://localhost:8000" };

/// Parses an address: `http` or `https`, a host, and perhaps a path above the API's own.
pub(super) fn parse_address(text: &str) -> Result<Url, ScoringError> {
    let address = FORM.read(text)?;
    let Some(host @ (Host::Name(_) | Host::Ip(_))) = &address.host else {
        return Err(FORM.wrong("it names no host").into());
    };
    if text.contains('?') {
        return Err(FORM.wrong("it must not end in a query").into());
    }
    // The parser's message may repeat a part of the address.
    let url = Url::parse(text.trim()).map_err(|_| FORM.wrong("HTTP clients cannot read it"))?;
    let is_same = url.scheme() == address.scheme
        && url.host_str().is_some_and(|theirs| host.is(theirs))
        && address.port.is_none_or(|port| url.port_or_known_default() == Some(port));
    if is_same { Ok(url) } else { Err(FORM.ambiguous().into()) }
}

/// The address without user and password.
pub(super) fn without_credentials(mut url: Url) -> String {
    // They fail only for addresses without a host, which are rejected before.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// A path below the API's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath(String);

impl ApiPath {
    /// This path below that address. `/` is the address itself.
    pub(super) fn below(&self, base: &Url) -> Url {
        let mut url = base.clone();
        let above = base.path().trim_end_matches('/');
        if self.0.is_empty() {
            url.set_path(above);
        } else {
            url.set_path(&format!("{above}/{}", self.0));
        }
        url
    }
}

impl FromStr for ApiPath {
    type Err = String;

    /// Segments, which a slash may begin and end. A query is refused: what it would show belongs in a header.
    fn from_str(text: &str) -> Result<Self, String> {
        const SIGNS: &str = "-._~!$&'()*+,=:@%/";
        let path = text.trim();
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.contains("://") {
            return Err("it is a path below ML_API_URL, such as v1/score, and no address".to_owned());
        }
        if path.contains(['?', '#']) {
            return Err("it must have no query: put keys into ML_API_HEADERS".to_owned());
        }
        let is_plain = path.chars().all(|sign| sign.is_ascii_alphanumeric() || SIGNS.contains(sign));
        let segments = path.strip_suffix('/').unwrap_or(path);
        let is_whole = path.is_empty() || segments.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if is_plain && is_whole {
            Ok(Self(path.to_owned()))
        } else {
            Err("it is no path such as v1/score; percent-encode what is no letter, digit or hyphen".to_owned())
        }
    }
}

/// Where the health check is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthPath {
    /// There is none.
    None,
    /// Below the API's address.
    At(ApiPath),
}

impl FromStr for HealthPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("none") { Ok(Self::None) } else { text.parse().map(Self::At) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_address() {
        let cases = [
            ("http://host:8000", "predict", "http://host:8000/predict"),
            ("http://host:8000/", "/predict", "http://host:8000/predict"),
            ("https://host/models/fraud", "predict", "https://host/models/fraud/predict"),
            ("https://host/models/fraud/", "predict/", "https://host/models/fraud/predict/"),
            ("http://host", "v1/models/fraud:predict", "http://host/v1/models/fraud:predict"),
            ("http://host/a", " b%20c/d ", "http://host/a/b%20c/d"),
            ("http://host/score", "/", "http://host/score"),
            ("http://host", "/", "http://host/"),
            ("http://[::1]:8000", "predict", "http://[::1]:8000/predict"),
        ];
        for (base, path, expected) in cases {
            let path: ApiPath = path.parse().unwrap();
            assert_eq!(path.below(&Url::parse(base).unwrap()).as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let cases = [
            ("score?code=secret", "ML_API_HEADERS"),
            ("#top", "no query"),
            ("http://host/score", "no address"),
            ("a//b", "no path"),
            ("//host/a", "no path"),
            ("a/../b", "no path"),
            (".", "no path"),
            ("a b", "no path"),
            ("a\\b", "no path"),
            ("é", "no path"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<ApiPath>().unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_health_check_may_be_none() {
        assert_eq!("None".parse(), Ok(HealthPath::None));
        assert_eq!("/v2/health/ready".parse(), Ok(HealthPath::At("v2/health/ready".parse().unwrap())));
        assert!("a b".parse::<HealthPath>().is_err());
    }
}
