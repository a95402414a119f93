//! The settings of S3: address, credentials and timeout. [`FormatOptions`](crate::FormatOptions) say how to read a source.

use std::path::PathBuf;
use std::time::Duration;

use assay_connect::{AddressForm, ExposeSecret, Host, SecretSource, SecretString, TlsFiles, non_blank};
use assay_transaction::parse_duration;
use clap::Args;

use crate::SourceError;

/// Longest outage of S3 within a source.
const SOURCE_TIMEOUT: Duration = Duration::from_mins(5);

/// Where S3 is, and who reads it. Its `Debug` shows no secret.
#[derive(Debug, Clone, Args)]
pub struct S3Options {
    /// S3 access key. If not set, the AWS chain is used (AWS_ACCESS_KEY_ID, profiles, instance roles)
    #[arg(long, env = "KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<SecretString>,
    /// File with the access key
    #[arg(long, env = "KEY_FILE", value_name = "PATH")]
    pub key_file: Option<PathBuf>,
    /// Secret of the access key
    #[arg(long, env = "SECRET", value_name = "SECRET", hide_env_values = true)]
    pub secret: Option<SecretString>,
    /// File with the secret
    #[arg(long, env = "SECRET_FILE", value_name = "PATH")]
    pub secret_file: Option<PathBuf>,
    /// URL of an S3-compatible server such as MinIO (path-style). If not set, AWS in AWS_REGION
    #[arg(long, env = "ENDPOINT_URL", value_name = "URL")]
    pub endpoint_url: Option<SecretString>,
    /// File of CA certificates (PEM) to trust in addition to the system's, for S3 at https:// addresses
    #[arg(long, env = "ENDPOINT_CA_FILE", value_name = "PATH")]
    pub endpoint_ca_file: Option<PathBuf>,
    /// Longest time a read is retried without progress while S3 is unreachable or interrupts it
    #[arg(long, env = "SOURCE_TIMEOUT", default_value = "5m", value_parser = parse_duration, value_name = "DURATION")]
    pub source_timeout: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            key: None,
            key_file: None,
            secret: None,
            secret_file: None,
            endpoint_url: None,
            endpoint_ca_file: None,
            source_timeout: SOURCE_TIMEOUT,
        }
    }
}

/// The settings of S3, checked and read.
#[derive(Clone)]
pub(crate) struct S3Settings {
    /// Access key and secret, where the user gave them.
    pub(crate) credentials: Option<(SecretString, SecretString)>,
    /// Where, if not AWS.
    pub(crate) endpoint: Option<String>,
    /// Certificates of authorities that are trusted beside the system's, PEM.
    pub(crate) authorities: Option<String>,
    /// How long a read is retried without progress.
    pub(crate) timeout: Duration,
}

impl S3Settings {
    /// Whether no request is sent by TLS: not to the server, nor to a service that knows the credentials.
    pub(crate) fn is_plain(&self) -> bool {
        self.credentials.is_some() && self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http:"))
    }
}

impl S3Options {
    /// Checks the settings and reads the files among them. An empty value is the same as none.
    pub(crate) fn settle(&self) -> Result<S3Settings, SourceError> {
        let (key, secret) = (self.key.as_ref(), self.secret.as_ref());
        let key = SecretSource { name: "KEY", value: key, file: self.key_file.as_deref() }.read()?;
        let secret = SecretSource { name: "SECRET", value: secret, file: self.secret_file.as_deref() }.read()?;
        let credentials = match (key, secret) {
            (Some(key), Some(secret)) => Some((key, secret)),
            (None, None) => None,
            (Some(_), None) => return Err(SourceError::Setting("KEY is set, but SECRET is not".to_owned())),
            (None, Some(_)) => return Err(SourceError::Setting("SECRET is set, but KEY is not".to_owned())),
        };
        let given = non_blank(self.endpoint_url.as_ref().map(ExposeSecret::expose_secret));
        let endpoint = given.map(|text| endpoint(&FORM, text)).transpose()?;
        let files = TlsFiles { prefix: TLS_PREFIX, ca: self.endpoint_ca_file.as_deref(), cert: None, key: None };
        // AWS itself is asked by TLS.
        files.require_tls(endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https:")), "https://")?;
        let authorities = files.read()?.authorities;
        Ok(S3Settings { credentials, endpoint, authorities, timeout: self.source_timeout })
    }
}

/// What the names of the settings of TLS begin with.
pub(crate) const TLS_PREFIX: &str = "ENDPOINT";

const FORM: AddressForm =
    AddressForm { name: "ENDPOINT_URL", schemes: &["http", "https"], of: "an S3 server", example: "http://minio:9000" };

/// The address of an S3 server, as `AddressForm` names the setting that it comes from.
pub(crate) fn endpoint(form: &AddressForm, text: &str) -> Result<String, SourceError> {
    let address = form.read(text)?;
    if address.user.is_some() || address.password.is_some() {
        return Err(form.wrong("it must not hold a user or a password: they go into KEY and SECRET").into());
    }
    let Some(host @ (Host::Name(_) | Host::Ip(_))) = &address.host else {
        return Err(form.wrong("it names no host").into());
    };
    if text.contains('?') {
        return Err(form.wrong("it must not have a query").into());
    }
    // Not its own words, which may repeat a part of what it cannot read.
    let url = url::Url::parse(text).map_err(|_| form.wrong("HTTP clients cannot read it"))?;
    let is_same = url.host_str().is_some_and(|theirs| host.is(theirs))
        && address.port.is_none_or(|port| url.port_or_known_default() == Some(port));
    if !is_same {
        return Err(form.ambiguous().into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        s3: S3Options,
    }

    fn parse(arguments: &[&str]) -> Result<Program, String> {
        Program::try_parse_from(["program"].iter().chain(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn half_a_pair_of_credentials_is_refused() {
        let cases = [
            (&["--key", "a"][..], "KEY is set, but SECRET is not"),
            (&["--secret", "b"], "SECRET is set, but KEY is not"),
            (&["--key", "a", "--secret", ""], "KEY is set, but SECRET is not"),
            (&["--key-file", "/nowhere", "--secret", "b"], "cannot read /nowhere (it does not exist): check KEY_FILE"),
        ];
        for (arguments, expected) in cases {
            let error = parse(arguments).unwrap().s3.settle().err().expect(expected);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit(), assay_transaction::Exit::Usage);
        }
    }

    #[test]
    fn an_endpoint_is_an_address_or_is_refused_without_a_password() {
        for text in ["http://minio:9000", "https://[2001:db8::1]:9000", "http://127.0.0.1/below", "http://[::1]"] {
            assert_eq!(endpoint(&FORM, text).unwrap(), text);
        }
        assert_eq!(endpoint(&FORM, "http://minio:9000/").unwrap(), "http://minio:9000");
        let cases = [
            ("minio:9000", "no scheme"),
            ("minio", "no scheme"),
            ("ftp://minio", "its scheme is not supported"),
            ("http://me:secret@minio:9000", "KEY and SECRET"),
            ("http://me:sec@ret@minio:9000", "percent-encode"),
            ("http://me:sec/ret@minio:9000", "percent-encode"),
            ("http:///secret", "no host"),
            ("http://minio?secret", "no `=`"),
            ("http://minio?a=secret", "a query"),
            ("http://minio,secret", "several hosts"),
            ("http://0x7f.1:9000", "neither a name nor an IP address"),
        ];
        for (text, expected) in cases {
            let error = endpoint(&FORM, text).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("ENDPOINT_URL ") && message.contains(expected), "{text}: {message}");
            assert!(!message.contains("secret") && !message.contains("sec@"), "{text}: {message}");
            assert_eq!(error.exit(), assay_transaction::Exit::Usage);
        }
    }

    #[test]
    fn s3_timeouts_are_the_same_however_the_options_are_made() {
        assert_eq!(parse(&[]).unwrap().s3.source_timeout, S3Options::default().source_timeout);
        assert_eq!(parse(&["--source-timeout", "90s"]).unwrap().s3.source_timeout, Duration::from_secs(90));
    }

    #[test]
    fn secrets_come_from_files_and_stay_out_of_debug_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "  open sesame\n").unwrap();
        let program = parse(&["--key", "ali baba", "--secret-file", path.to_str().unwrap()]).unwrap();
        let settings = program.s3.settle().unwrap();
        let (key, secret) = settings.credentials.unwrap();
        assert_eq!((key.expose_secret(), secret.expose_secret()), ("ali baba", "open sesame"));
        assert!(!format!("{program:?}").contains("baba"), "{program:?}");
    }
}
