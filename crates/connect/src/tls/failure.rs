//! What a failed TLS handshake means, and what to do about it: the same for all clients, as all of them use rustls.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a TLS connection fails. None of these causes passes by itself: a setting or a certificate has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// No trusted authority has signed the server's certificate.
    UntrustedAuthority,
    /// The server's certificate is for another host name.
    WrongName,
    /// The server's certificate has expired, or is not valid yet.
    OutOfDate,
    /// The server's certificate is unusable for another reason.
    UnusableCertificate,
    /// The server requires a client certificate and got none.
    CertificateWanted,
    /// The server does not trust the client certificate.
    CertificateRefused,
    /// The server ends the handshake without a reason.
    Refused,
    /// The server does not speak TLS, or no version of it that is still safe.
    NoTls,
}

impl TlsFailure {
    /// The TLS failure in an error or in its causes, if there is one.
    pub fn from_error(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |cause| (*cause).source())
            .find_map(|cause| Self::classify(tls_error(cause)?))
    }

    fn classify(error: &rustls::Error) -> Option<Self> {
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
            // `BadSignature`: an authority that has the name of a trusted one, such as the same one before its key was changed.
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
            // In TLS 1.2 this can mean that the client certificate is missing.
            AlertDescription::HandshakeFailure => Some(Self::Refused),
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => Some(Self::NoTls),
            // The server is shutting down, or has a fault of its own.
            _ => None,
        }
    }

    /// What is wrong; `it` is the server.
    pub fn cause(self) -> &'static str {
        match self {
            Self::UntrustedAuthority => "no trusted authority has signed its certificate",
            Self::WrongName => "its certificate is for another host name",
            Self::OutOfDate => "its certificate has expired, or is not valid yet",
            Self::UnusableCertificate => "its certificate cannot be used",
            Self::CertificateWanted => "it requires a client certificate, and got none",
            Self::CertificateRefused => "it refuses the client certificate",
            Self::Refused => "it refuses the TLS handshake, as if a client certificate were missing",
            Self::NoTls => "it does not speak TLS 1.2 or 1.3",
        }
    }

    /// What to do. The names of the connection's settings begin with `prefix`.
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

/// An `io::Error` does not return what it wraps from `source`, and may wrap another one.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_classified_by_what_it_wraps() {
        let cases = [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Some(TlsFailure::UntrustedAuthority)),
            (rustls::Error::InvalidCertificate(CertificateError::BadSignature), Some(TlsFailure::UntrustedAuthority)),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), Some(TlsFailure::WrongName)),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), Some(TlsFailure::OutOfDate)),
            (rustls::Error::InvalidCertificate(CertificateError::Revoked), Some(TlsFailure::UnusableCertificate)),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), Some(TlsFailure::CertificateWanted)),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), Some(TlsFailure::CertificateRefused)),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), Some(TlsFailure::Refused)),
            (rustls::Error::AlertReceived(AlertDescription::InternalError), None),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), Some(TlsFailure::NoTls)),
            (rustls::Error::HandshakeNotComplete, None),
        ];
        for (error, expected) in cases {
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error.clone()));
            assert_eq!(TlsFailure::from_error(&wrapped), expected, "{error}");
            assert_eq!(TlsFailure::from_error(&error), expected, "{error}");
        }
        assert_eq!(TlsFailure::from_error(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn the_remedy_names_the_setting() {
        assert!(TlsFailure::UntrustedAuthority.remedy("ML_API").contains("ML_API_CA_FILE"));
        assert!(TlsFailure::CertificateWanted.remedy("AMQP").contains("AMQP_CERT_FILE and AMQP_KEY_FILE"));
    }
}
