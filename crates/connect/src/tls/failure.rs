//! What a failed TLS handshake means, and what to do about it. Decided here for every client, as all of them are rustls.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why TLS does not come about. None of it passes by itself: somebody has to change a setting, or a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsTrouble {
    /// Nobody who is trusted has signed the server's certificate.
    UntrustedAuthority,
    /// The server's certificate is for others.
    WrongName,
    /// The server's certificate has expired, or is not valid yet.
    OutOfDate,
    /// The server's certificate is of no use otherwise.
    UnusableCertificate,
    /// The server asks for a certificate, and was shown none.
    CertificateWanted,
    /// The server was shown a certificate, and does not trust it.
    CertificateRefused,
    /// The server breaks the handshake off without saying why.
    Refused,
    /// The server does not speak TLS, or no version of it that is still safe.
    NoTls,
}

impl TlsTrouble {
    /// What an error says of TLS, or what caused it; none where it is about something else.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |cause| (*cause).source()).find_map(|cause| Self::told(tls_error(cause)?))
    }

    fn told(error: &rustls::Error) -> Option<Self> {
        use rustls::Error::{
            AlertReceived, InappropriateHandshakeMessage, InappropriateMessage, InvalidCertificate, InvalidMessage,
            NoCertificatesPresented, PeerIncompatible, PeerMisbehaved,
        };
        match error {
            InvalidCertificate(error) => Some(Self::of_certificate(error)),
            NoCertificatesPresented => Some(Self::UnusableCertificate),
            InvalidMessage(_)
            | PeerIncompatible(_)
            | PeerMisbehaved(_)
            | InappropriateMessage { .. }
            | InappropriateHandshakeMessage { .. } => Some(Self::NoTls),
            AlertReceived(alert) => Self::of_alert(*alert),
            _ => None,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // Of an authority with the same name as one that is trusted, such as the same one before its key was changed.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UntrustedAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::OutOfDate,
            _ => Self::UnusableCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Some(Self::CertificateWanted),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Some(Self::CertificateRefused),
            // How TLS 1.2 says, among other things, that it was shown no certificate.
            AlertDescription::HandshakeFailure => Some(Self::Refused),
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => Some(Self::NoTls),
            // A server that is ending, or has a fault of its own.
            _ => None,
        }
    }

    /// What is wrong, of `it`, the server.
    pub fn cause(self) -> &'static str {
        match self {
            Self::UntrustedAuthority => "nobody who is trusted has signed its certificate",
            Self::WrongName => "its certificate is for another host name",
            Self::OutOfDate => "its certificate has expired, or is not valid yet",
            Self::UnusableCertificate => "its certificate cannot be used",
            Self::CertificateWanted => "it asks for a client certificate, and was shown none",
            Self::CertificateRefused => "it refuses the client certificate",
            Self::Refused => "it refuses the TLS handshake, as it does where a client certificate is missing",
            Self::NoTls => "it does not speak TLS 1.2 or 1.3",
        }
    }

    /// What to do, where the names of the connection's settings begin with `prefix`.
    pub fn remedy(self, prefix: &str) -> String {
        match self {
            Self::UntrustedAuthority => format!("name the file with its authority's certificate in {prefix}_CA_FILE"),
            Self::WrongName => format!("write in {prefix}_URL the name that its certificate has"),
            Self::OutOfDate => "renew it, or set the clocks".to_owned(),
            Self::UnusableCertificate => {
                format!("give the server one of an authority, for servers, that {prefix}_CA_FILE names")
            }
            Self::CertificateWanted | Self::Refused => format!("set {prefix}_CERT_FILE and {prefix}_KEY_FILE"),
            Self::CertificateRefused => {
                format!("check {prefix}_CERT_FILE: whether it is valid, and of an authority that the server trusts")
            }
            Self::NoTls => format!("check {prefix}_URL"),
        }
    }
}

/// An `io::Error` hides what it wraps from `source`, and may wrap another one.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_what_it_wraps() {
        let cases = [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Some(TlsTrouble::UntrustedAuthority)),
            (rustls::Error::InvalidCertificate(CertificateError::BadSignature), Some(TlsTrouble::UntrustedAuthority)),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), Some(TlsTrouble::WrongName)),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), Some(TlsTrouble::OutOfDate)),
            (rustls::Error::InvalidCertificate(CertificateError::Revoked), Some(TlsTrouble::UnusableCertificate)),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), Some(TlsTrouble::CertificateWanted)),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), Some(TlsTrouble::CertificateRefused)),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), Some(TlsTrouble::Refused)),
            (rustls::Error::AlertReceived(AlertDescription::InternalError), None),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), Some(TlsTrouble::NoTls)),
            (rustls::Error::HandshakeNotComplete, None),
        ];
        for (error, expected) in cases {
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error.clone()));
            assert_eq!(TlsTrouble::of(&wrapped), expected, "{error}");
            assert_eq!(TlsTrouble::of(&error), expected, "{error}");
        }
        assert_eq!(TlsTrouble::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn what_to_do_names_the_setting() {
        assert!(TlsTrouble::UntrustedAuthority.remedy("ML_API").contains("ML_API_CA_FILE"));
        assert!(TlsTrouble::CertificateWanted.remedy("AMQP").contains("AMQP_CERT_FILE and AMQP_KEY_FILE"));
    }
}
