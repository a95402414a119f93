//! The settings of a service that is connected to: its address, and the files of its TLS connection.

/// Declares a struct of `clap` options for one service: `PREFIX_URL`, `PREFIX_URL_FILE`, `PREFIX_CA_FILE`, `PREFIX_CERT_FILE`
/// and `PREFIX_KEY_FILE`, with flags by the same names. It is a macro because `clap` wants names that are known when it compiles.
/// The crate that uses it depends on `clap`.
#[macro_export]
macro_rules! endpoint_options {
    ($(#[$docs:meta])* $name:ident, prefix: $prefix:literal, flag: $flag:literal, url: $url:literal, tls: $tls:literal) => {
        $(#[$docs])*
        #[derive(Debug, Clone, Default, ::clap::Args)]
        pub struct $name {
            /// The address.
            #[arg(id = concat!($flag, "-url"), long = concat!($flag, "-url"), env = concat!($prefix, "_URL"))]
            #[arg(help = $url, hide_env_values = true, value_name = "URL")]
            pub url: Option<$crate::SecretString>,
            /// The file that holds the address.
            #[arg(id = concat!($flag, "-url-file"), long = concat!($flag, "-url-file"))]
            #[arg(env = concat!($prefix, "_URL_FILE"), value_name = "PATH")]
            #[arg(help = concat!("File to read ", $prefix, "_URL from, such as a mounted secret"))]
            pub url_file: Option<::std::path::PathBuf>,
            /// The certificates of authorities to trust.
            #[arg(id = concat!($flag, "-ca-file"), long = concat!($flag, "-ca-file"))]
            #[arg(env = concat!($prefix, "_CA_FILE"), value_name = "PATH")]
            #[arg(help = concat!("File of CA certificates (PEM) to trust in addition to the system's", $tls))]
            pub ca_file: Option<::std::path::PathBuf>,
            /// The client certificate.
            #[arg(id = concat!($flag, "-cert-file"), long = concat!($flag, "-cert-file"))]
            #[arg(env = concat!($prefix, "_CERT_FILE"), value_name = "PATH")]
            #[arg(help = "File of the client certificate (PEM), followed by its intermediate certificates")]
            pub cert_file: Option<::std::path::PathBuf>,
            /// Its key.
            #[arg(id = concat!($flag, "-key-file"), long = concat!($flag, "-key-file"))]
            #[arg(env = concat!($prefix, "_KEY_FILE"), value_name = "PATH")]
            #[arg(help = "File of the client certificate's key (PEM, without a passphrase)")]
            pub key_file: Option<::std::path::PathBuf>,
        }

        impl $name {
            /// What the names of these settings begin with.
            pub const PREFIX: &'static str = $prefix;

            /// The service at this address.
            pub fn at(url: impl Into<$crate::SecretString>) -> Self {
                Self { url: Some(url.into()), ..Self::default() }
            }

            /// Where the address comes from.
            pub fn address(&self) -> $crate::SecretSource<'_> {
                let (value, file) = (self.url.as_ref(), self.url_file.as_deref());
                $crate::SecretSource { name: concat!($prefix, "_URL"), value, file }
            }

            /// The files of certificates and keys.
            pub fn tls(&self) -> $crate::TlsFiles<'_> {
                let (ca, cert, key) = (self.ca_file.as_deref(), self.cert_file.as_deref(), self.key_file.as_deref());
                $crate::TlsFiles { prefix: Self::PREFIX, ca, cert, key }
            }
        }
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro is for the public options of a crate")]
mod tests {
    use clap::{CommandFactory as _, Parser};

    endpoint_options!(
        /// A service.
        Endpoint, prefix: "ML_API", flag: "ml-api", url: "Address", tls: ", for https://…"
    );

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        endpoint: Endpoint,
    }

    #[test]
    fn flags_and_variables_have_the_prefix() {
        let names: Vec<_> = Program::command()
            .get_arguments()
            .map(|arg| format!("--{} {}", arg.get_long().unwrap(), arg.get_env().unwrap().display()))
            .collect();
        let expected = ["url URL", "url-file URL_FILE", "ca-file CA_FILE", "cert-file CERT_FILE", "key-file KEY_FILE"];
        let expected = expected.map(|pair| pair.split_once(' ').unwrap());
        assert_eq!(names, expected.map(|(flag, variable)| format!("--ml-api-{flag} ML_API_{variable}")));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let program =
            Program::parse_from(["program", "--ml-api-url", "http://u:hidden@host", "--ml-api-ca-file", "ca.pem"]);
        let shown = format!("{program:?}");
        assert!(!shown.contains("hidden") && shown.contains("ca.pem"), "{shown}");
        assert!(program.endpoint.address().is_set() && !program.endpoint.tls().is_empty());
        assert!(!Endpoint::default().address().is_set() && Endpoint::at("a").address().is_set());
    }
}
