//! The files of certificates and keys of one connection.
//!
//! The settings of a connection share a prefix: `AMQP_URL`, `AMQP_CA_FILE`, `AMQP_CERT_FILE`, `AMQP_KEY_FILE`. The files are
//! checked here, as clients report less, and only once they connect.

use std::fmt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretSlice};

use crate::{SettingError, read_file};

/// The files that the settings of one connection name. An empty path is none.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'a> {
    /// The prefix of the settings, such as `AMQP`.
    pub prefix: &'static str,
    /// Certificates of authorities to trust in addition to the system's (PEM).
    pub ca: Option<&'a Path>,
    /// The client certificate (PEM), followed by its intermediate certificates.
    pub cert: Option<&'a Path>,
    /// Its key (PEM, without a passphrase).
    pub key: Option<&'a Path>,
}

/// The content of the files.
#[derive(Debug, Clone, Default)]
pub struct TlsMaterial {
    /// Certificates of authorities to trust in addition to the system's: PEM, at least one, all of them valid.
    pub authorities: Option<String>,
    /// For servers that require a client certificate.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate and the key that belongs to it. Its `Debug` shows neither.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate and its intermediate certificates (PEM).
    pub certificates: Vec<u8>,
    /// The key (PEM).
    pub key: SecretSlice<u8>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl TlsFiles<'_> {
    /// Whether no file is set.
    pub fn is_empty(&self) -> bool {
        [self.ca, self.cert, self.key].into_iter().all(|path| named(path).is_none())
    }

    /// Refuses files for an address without TLS, where they would protect nothing. `secure` is the scheme with TLS.
    pub fn require_tls(&self, is_tls: bool, secure: &str) -> Result<(), SettingError> {
        if is_tls || self.is_empty() {
            return Ok(());
        }
        let prefix = self.prefix;
        let set = [(self.ca, "CA"), (self.cert, "CERT"), (self.key, "KEY")];
        let variable = set.into_iter().find(|(path, _)| named(*path).is_some()).map_or("CA", |(_, name)| name);
        Err(SettingError(format!(
            "{prefix}_{variable}_FILE is set, but {prefix}_URL is not connected to by TLS: begin it with {secure}"
        )))
    }

    /// Reads and checks the files.
    pub fn read(&self) -> Result<TlsMaterial, SettingError> {
        let authorities = named(self.ca).map(|path| self.authorities(path)).transpose()?;
        let identity = match (named(self.cert), named(self.key)) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(self.identity(cert, key)?),
            (Some(_), None) => return Err(self.half("CERT", "KEY")),
            (None, Some(_)) => return Err(self.half("KEY", "CERT")),
        };
        Ok(TlsMaterial { authorities, identity })
    }

    fn half(&self, there: &str, missing: &str) -> SettingError {
        let prefix = self.prefix;
        SettingError(format!("{prefix}_{there}_FILE is set, but {prefix}_{missing}_FILE is not: set both, or neither"))
    }

    fn authorities(&self, path: &Path) -> Result<String, SettingError> {
        let variable = format!("{}_CA_FILE", self.prefix);
        let text = read_file(path, &variable)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&text, path, &variable)? {
            roots
                .add(certificate)
                .map_err(|error| unreadable(path, &variable, &format!("a certificate is broken, {error}")))?;
        }
        String::from_utf8(text).map_err(|_| unreadable(path, &variable, "it is not UTF-8 text"))
    }

    fn identity(&self, cert: &Path, key: &Path) -> Result<ClientIdentity, SettingError> {
        let prefix = self.prefix;
        let (cert_variable, key_variable) = (format!("{prefix}_CERT_FILE"), format!("{prefix}_KEY_FILE"));
        let cert_text = read_file(cert, &cert_variable)?;
        let key_text = SecretSlice::from(read_file(key, &key_variable)?);
        let chain = certificates(&cert_text, cert, &cert_variable)?;
        let der = PrivateKeyDer::from_pem_slice(key_text.expose_secret()).map_err(|error| {
            let cause = match error {
                pem::Error::NoItemsFound if is_encrypted(key_text.expose_secret()) => {
                    "its key is locked by a passphrase: store it without one, readable by its owner only"
                }
                pem::Error::NoItemsFound => "there is no private key in it: PEM is expected, BEGIN PRIVATE KEY",
                _ => "it is not a PEM file",
            };
            // Not the parser's own words, which might show some of the key.
            unreadable(key, &key_variable, cause)
        })?;
        CertifiedKey::from_der(chain, der, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => SettingError(format!(
                "the key in {} does not belong to the certificate in {}: check {key_variable} and {cert_variable}",
                key.display(),
                cert.display()
            )),
            rustls::Error::InvalidCertificate(_) => unreadable(cert, &cert_variable, "its certificate is broken"),
            _ => unreadable(key, &key_variable, "its key is of a kind that is not known: use RSA, ECDSA or Ed25519"),
        })?;
        Ok(ClientIdentity { certificates: cert_text, key: key_text })
    }
}

fn named(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn certificates(text: &[u8], path: &Path, variable: &str) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(unreadable(path, variable, "there is no certificate in it: PEM is expected, BEGIN CERTIFICATE"))
        }
        Ok(found) => Ok(found),
        Err(_) => Err(unreadable(path, variable, "it is not a PEM file")),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn unreadable(path: &Path, variable: &str, cause: &str) -> SettingError {
    SettingError(format!("cannot use {} ({cause}): check {variable}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn put(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files<'a>(ca: Option<&'a Path>, cert: Option<&'a Path>, key: Option<&'a Path>) -> TlsFiles<'a> {
        TlsFiles { prefix: "AMQP", ca, cert, key }
    }

    #[test]
    fn valid_files_are_read_unchanged() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (cert, key) = certificate();
        let (other, _) = certificate();
        let both = format!("{cert}{other}");
        let (ca_path, cert_path, key_path) =
            (folder.put("ca.pem", &both), folder.put("cert.pem", &cert), folder.put("key.pem", &key));
        let read = files(Some(&ca_path), Some(&cert_path), Some(&key_path)).read().unwrap();
        assert_eq!(read.authorities.as_deref(), Some(both.as_str()));
        assert_eq!(read.identity.as_ref().unwrap().key.expose_secret(), key.as_bytes());
        assert!(!format!("{read:?}").contains("PRIVATE"));

        let empty = Path::new("");
        assert!(files(Some(empty), None, Some(empty)).is_empty());
        let none = files(Some(empty), None, None).read().unwrap();
        assert!(none.authorities.is_none() && none.identity.is_none());
    }

    #[test]
    fn an_error_names_the_variable_and_the_file() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (cert, key) = certificate();
        let (_, other_key) = certificate();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cut = &cert[..cert.len() / 2];
        let cert = folder.put("cert.pem", &cert);
        let key = folder.put("key.pem", &key);
        let put = |name: &str, content: &str| folder.put(name, content);
        let (nothing, broken, cut) = (put("nothing.pem", "hello"), put("broken.pem", broken), put("cut.pem", cut));
        let (other_key, locked) = (put("other.pem", &other_key), put("locked.pem", locked));
        let nowhere = Path::new("/nowhere");
        let cases: [(TlsFiles<'_>, &[&str]); 11] = [
            (files(Some(nowhere), None, None), &["/nowhere", "it does not exist", "AMQP_CA_FILE"]),
            (files(Some(&nothing), None, None), &["nothing.pem", "no certificate in it", "AMQP_CA_FILE"]),
            (files(Some(&broken), None, None), &["broken.pem", "is broken", "AMQP_CA_FILE"]),
            (files(Some(&cut), None, None), &["cut.pem", "not a PEM file", "AMQP_CA_FILE"]),
            (files(None, Some(&cert), None), &["AMQP_CERT_FILE is set, but AMQP_KEY_FILE is not"]),
            (files(None, None, Some(&key)), &["AMQP_KEY_FILE is set, but AMQP_CERT_FILE is not"]),
            (files(None, Some(&cert), Some(&cert)), &["cert.pem", "no private key in it", "AMQP_KEY_FILE"]),
            (files(None, Some(&cert), Some(&locked)), &["locked.pem", "passphrase", "AMQP_KEY_FILE"]),
            (files(None, Some(&key), Some(&key)), &["key.pem", "no certificate in it", "AMQP_CERT_FILE"]),
            (files(None, Some(&cert), Some(&other_key)), &["does not belong", "AMQP_KEY_FILE and AMQP_CERT_FILE"]),
            (files(None, Some(&broken), Some(&key)), &["broken.pem", "is broken", "AMQP_CERT_FILE"]),
        ];
        for (files, words) in cases {
            let problem = files.read().unwrap_err().to_string();
            for word in words {
                assert!(problem.contains(word), "`{word}` is not in: {problem}");
            }
            assert!(!problem.contains("BEGIN PRIVATE KEY-"), "{problem}");
        }
    }

    #[test]
    fn files_for_an_address_without_tls_are_refused() {
        let path = Path::new("a.pem");
        let problem = files(None, Some(path), None).require_tls(false, "amqps://").unwrap_err().to_string();
        assert_eq!(problem, "AMQP_CERT_FILE is set, but AMQP_URL is not connected to by TLS: begin it with amqps://");
        assert!(files(Some(path), None, None).require_tls(true, "amqps://").is_ok());
        assert!(files(None, None, None).require_tls(false, "amqps://").is_ok());
    }
}
