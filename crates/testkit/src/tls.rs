//! TLS for tests: an authority that signs certificates, and a proxy that adds TLS to a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An authority that signs certificates. Its files live as long.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub pem: String,
    /// Its key, PEM.
    pub key: String,
    /// The file of the certificate.
    pub cert_file: PathBuf,
    /// The file of the key.
    pub key_file: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates one.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key is made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("it signs its own").pem();
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join("ca.pem"), &pem).expect("its certificate is written");
        Self { folder, pem, issuer: Issuer::new(params, key) }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file of its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server of these host names.
    pub fn server<const N: usize>(&self, names: [&str; N]) -> Certificate {
        self.sign(CertificateParams::new(names.map(str::to_owned)).expect("they are names"), "server", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A certificate for a client of this name.
    pub fn client(&self, name: &str) -> Certificate {
        self.sign(CertificateParams::default(), name, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        with: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        with(&mut params);
        let key = KeyPair::generate().expect("a key is made");
        let pem = params.signed_by(&key, &self.issuer).expect("it signs").pem();
        let path = |kind| self.folder.path().join(format!("{name}.{kind}.pem"));
        let (cert_file, key_file) = (path("cert"), path("key"));
        let key = key.serialize_pem();
        std::fs::write(&cert_file, &pem).expect("the certificate is written");
        std::fs::write(&key_file, &key).expect("the key is written");
        Certificate { pem, key, cert_file, key_file }
    }
}

/// A proxy that accepts TLS connections and forwards them without TLS. Dropped, it ends.
#[derive(Debug)]
pub struct TlsProxy {
    port: u16,
    task: JoinHandle<()>,
}

impl TlsProxy {
    /// Starts one before the server at this address. With an authority, it requires a client certificate of that authority.
    pub async fn before(server: SocketAddr, certificate: &Certificate, clients: Option<&Authority>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let acceptor = TlsAcceptor::from(Arc::new(configuration(certificate, clients)));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // TLS reports a refusal to the client.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, task }
    }

    /// Its port at loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn configuration(certificate: &Certificate, clients: Option<&Authority>) -> rustls::ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&authority.file()));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("the authority is one"))
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&certificate.key_file).expect("it is a key");
    builder.with_single_cert(certificates(&certificate.cert_file), key).expect("they belong together")
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let read: Result<_, _> = CertificateDer::pem_file_iter(path).expect("it is there").collect();
    read.expect("they are certificates")
}
