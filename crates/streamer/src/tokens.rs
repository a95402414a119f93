//! Bearer tokens of the clients.

use std::net::SocketAddr;
use std::path::Path;

use assay_connect::{ExposeSecret as _, SecretSource, SecretString};
use axum::http::{HeaderMap, header};
use uuid::Uuid;

use crate::StreamError;

/// The accepted tokens, stored as hashes. Without tokens, every request is accepted.
pub struct Tokens(Vec<Uuid>);

impl Tokens {
    /// The tokens of the settings. Addresses other than loopback require some.
    pub(crate) fn read(
        list: Option<&SecretString>,
        file: Option<&Path>,
        address: SocketAddr,
    ) -> Result<Self, StreamError> {
        let tokens = SecretSource { name: "STREAMER_TOKENS", value: list, file };
        let tokens = tokens.read()?.map_or_else(|| Ok(Self(Vec::new())), |list| Self::parse(list.expose_secret()))?;
        if tokens.0.is_empty() && !address.ip().to_canonical().is_loopback() {
            return Err(setting(format!(
                "STREAMER_ADDR is {address}, which others can reach, but there are no tokens: set STREAMER_TOKENS or \
                 STREAMER_TOKENS_FILE, or listen at 127.0.0.1"
            )));
        }
        Ok(tokens)
    }

    /// Tokens separated by commas or line breaks.
    fn parse(text: &str) -> Result<Self, StreamError> {
        let tokens: Vec<&str> = text.split([',', '\n']).map(str::trim).filter(|token| !token.is_empty()).collect();
        if tokens.is_empty() {
            return Err(setting("STREAMER_TOKENS has no token: set one, or several separated by commas".to_owned()));
        }
        if !tokens.iter().all(|token| token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(setting(
                "STREAMER_TOKENS has a token that is not valid in a header: use letters, digits and `-._~+/=`"
                    .to_owned(),
            ));
        }
        Ok(Self(tokens.into_iter().map(|token| hash(token.as_bytes())).collect()))
    }

    /// Whether a request has one of the tokens.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(given) = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes) else {
            return false;
        };
        match given.split_at_checked(b"Bearer ".len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
                let given = hash(token.trim_ascii());
                // Constant time: every token is compared completely.
                self.0.iter().fold(false, |found, token| found | is_same(given, *token))
            }
            _ => false,
        }
    }
}

fn hash(token: &[u8]) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, token)
}

fn is_same(one: Uuid, other: Uuid) -> bool {
    std::hint::black_box(one.as_u128() ^ other.as_u128()) == 0
}

fn setting(problem: String) -> StreamError {
    StreamError::Setting(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:8081";

    fn read(list: Option<&str>, file: Option<&str>, address: &str) -> Result<Tokens, String> {
        Tokens::read(list.map(SecretString::from).as_ref(), file.map(Path::new), address.parse().unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_reachable_address_requires_tokens() {
        for address in [LOOPBACK, "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(read(None, None, address).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:8081", "[::]:1", "10.0.0.1:1"] {
            let error = read(Some(" "), Some(""), address).err().unwrap();
            assert!(error.contains("set STREAMER_TOKENS or"), "{error}");
            assert!(read(Some("a"), None, address).is_ok(), "{address}");
        }
    }

    #[test]
    fn tokens_come_from_the_setting_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo,three\n").unwrap();
        let path = file.path().to_str();
        assert_eq!(read(None, path, LOOPBACK).unwrap().0.len(), 3);
        for (list, file, expected) in [
            (Some("a"), path, "both set"),
            (None, Some("/nowhere"), "check STREAMER_TOKENS_FILE"),
            (Some(" , "), None, "has no token"),
            (Some("a b"), None, "not valid in a header"),
        ] {
            let error = read(list, file, LOOPBACK).err().unwrap();
            assert!(error.contains(expected) && !error.contains("a b"), "{error}");
        }
    }

    #[test]
    fn each_token_is_accepted() {
        let tokens = read(Some("first, second"), None, "0.0.0.0:1").unwrap();
        for (given, expected) in [
            (Some("Bearer first"), true),
            (Some("bearer second"), true),
            (Some("Bearer third"), false),
            (Some("Bearer "), false),
            (Some("second"), false),
            (Some("Basic first"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::AUTHORIZATION, given.parse().unwrap());
            }
            assert_eq!(tokens.accept(&headers), expected, "{given:?}");
        }
        assert!(read(None, None, LOOPBACK).unwrap().accept(&HeaderMap::new()));
    }
}
