//! What an error of the AMQP client means, and how it is told in one line without a password.

use std::io;

use assay_credentials::TlsTrouble;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

/// Whether trying to connect again may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// RabbitMQ refused the credentials.
    Refused,
    /// There is no such virtual host, or it may not be used.
    NoVirtualHost,
    /// A queue or exchange is there already, with other arguments.
    DeclaredOtherwise,
    /// A right is missing to declare what is not there.
    NotAllowed,
    /// A queue or exchange is not there, and whoever asks may not declare it.
    Missing,
    /// There is no TLS with it.
    Tls(TlsTrouble),
    /// Anything else, in the end: a broker that starts up, restarts or is out of reach.
    Passing,
}

pub(super) fn classify(error: &Error) -> FailureKind {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return match error.kind() {
            ErrorKind::AuthProviderError(_) => FailureKind::Refused,
            ErrorKind::IOError(error) => TlsTrouble::of(&**error).map_or(FailureKind::Passing, FailureKind::Tls),
            _ => FailureKind::Passing,
        };
    };
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => FailureKind::Refused,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => FailureKind::NoVirtualHost,
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => FailureKind::DeclaredOtherwise,
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => FailureKind::Missing,
        _ => FailureKind::Passing,
    }
}

/// Whether the client could not read what RabbitMQ sent, or took it for what nobody may send.
pub(super) fn is_unreadable(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::ParsingError(_) => true,
        ErrorKind::ProtocolError(error) => matches!(
            error.kind(),
            AMQPErrorKind::Hard(
                AMQPHardError::FRAMEERROR | AMQPHardError::SYNTAXERROR | AMQPHardError::UNEXPECTEDFRAME
            )
        ),
        _ => false,
    }
}

/// The cause in a few words.
pub(super) fn cause(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().as_str().trim().to_owned(),
        ErrorKind::IOError(error) if let Some(trouble) = TlsTrouble::of(&**error) => trouble.cause().to_owned(),
        ErrorKind::IOError(error) => match error.kind() {
            kind @ (io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut
            | io::ErrorKind::UnexpectedEof) => kind.to_string(),
            _ => error.to_string(),
        },
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => {
            "connection closed".to_owned()
        }
        // The parser may show the bytes that it could not read.
        ErrorKind::ParsingError(_) => "RabbitMQ sent what cannot be read".to_owned(),
        ErrorKind::MissingHeartbeatError => "no heartbeat from RabbitMQ".to_owned(),
        _ => error.to_string(),
    }
}

/// The size of the message for which RabbitMQ closed the channel, if that is why it did.
pub(super) fn oversized(error: &Error) -> Option<usize> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, rest) = error.get_message().as_str().split_once("message size ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn protocol(kind: impl Into<AMQPErrorKind>, text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(kind.into(), text.into())).into()
    }

    #[test]
    fn tells_what_does_not_pass() {
        let cases = [
            (protocol(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - Login was refused"), FailureKind::Refused),
            (protocol(AMQPHardError::NOTALLOWED, "NOT_ALLOWED - vhost x not found"), FailureKind::NoVirtualHost),
            (protocol(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg"), FailureKind::DeclaredOtherwise),
            (protocol(AMQPHardError::CONNECTIONFORCED, "shutdown"), FailureKind::Passing),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), FailureKind::Passing),
        ];
        for (error, expected) in cases {
            assert_eq!(classify(&error), expected, "{error}");
        }
    }

    #[test]
    fn knows_what_could_not_be_read() {
        assert!(is_unreadable(&protocol(AMQPHardError::FRAMEERROR, "frame too large: 140000 bytes")));
        assert!(!is_unreadable(&protocol(AMQPHardError::CONNECTIONFORCED, "shutdown")));
        assert!(!is_unreadable(&io::Error::from(io::ErrorKind::ConnectionReset).into()));
    }

    #[test]
    fn finds_the_size_that_was_refused() {
        let text = "PRECONDITION_FAILED - message size 2097152 is larger than configured max size 1048576";
        assert_eq!(oversized(&protocol(AMQPSoftError::PRECONDITIONFAILED, text)), Some(2_097_152));
        assert_eq!(oversized(&protocol(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg")), None);
    }
}
