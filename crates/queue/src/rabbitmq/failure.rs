//! What an error of the AMQP client means, and its description in one line without a password.

use std::io;

use assay_connect::TlsFailure;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::BrokerError;

/// The kinds of failure, by what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// RabbitMQ refused the credentials.
    Refused,
    /// The virtual host does not exist, or the user may not use it.
    NoVirtualHost,
    /// A queue or exchange exists with other arguments.
    DeclaredOtherwise,
    /// The user may not declare a missing queue or exchange.
    NotAllowed,
    /// A queue or exchange is missing, and was only looked for.
    Missing,
    /// TLS failed.
    Tls(TlsFailure),
    /// Anything else: a broker that starts, restarts or is unreachable.
    Transient,
}

pub(super) fn classify(error: &Error) -> FailureKind {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return match error.kind() {
            ErrorKind::AuthProviderError(_) => FailureKind::Refused,
            ErrorKind::IOError(error) => {
                TlsFailure::from_error(&**error).map_or(FailureKind::Transient, FailureKind::Tls)
            }
            _ => FailureKind::Transient,
        };
    };
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => FailureKind::Refused,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => FailureKind::NoVirtualHost,
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => FailureKind::DeclaredOtherwise,
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if is_missing(error.get_message().as_str()) => {
            FailureKind::Missing
        }
        _ => FailureKind::Transient,
    }
}

/// Whether NOT_FOUND means that something does not exist. It also stands for a queue that is there and not ready: its node is away,
/// it restarts, or another program is declaring it at this moment.
fn is_missing(reply: &str) -> bool {
    ["NOT_FOUND - no queue ", "NOT_FOUND - no exchange "].iter().any(|start| reply.starts_with(start))
}

/// Whether the client could not read what RabbitMQ sent, or took it for a protocol violation.
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
        ErrorKind::IOError(error) if let Some(trouble) = TlsFailure::from_error(&**error) => trouble.cause().to_owned(),
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
        // The parser's own message may contain the bytes.
        ErrorKind::ParsingError(_) => "RabbitMQ sent unreadable data".to_owned(),
        ErrorKind::MissingHeartbeatError => "no heartbeat from RabbitMQ".to_owned(),
        _ => error.to_string(),
    }
}

/// The error for a declaration of an events exchange or queue that RabbitMQ keeps refusing; `None` for a transient failure.
pub(super) fn events_refused(error: &Error, what: &str, action: &str, remedy: &str) -> Option<BrokerError> {
    let cause = cause(error);
    match classify(error) {
        FailureKind::DeclaredOtherwise => Some(BrokerError::Usage(format!(
            "RabbitMQ has {what} with other settings ({cause}): make the exchange a durable topic exchange, or choose another one \
             with EVENTS_EXCHANGE"
        ))),
        FailureKind::Refused => Some(BrokerError::Usage(format!(
            "RabbitMQ does not let the user of AMQP_URL {action} ({cause}): grant it, or {remedy}"
        ))),
        _ => None,
    }
}

/// The size of the message, if RabbitMQ closed the channel because it was too large.
pub(super) fn oversized(error: &Error) -> Option<usize> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, rest) = error.get_message().as_str().split_once("message size ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    const HOME_NODE_DOWN: &str = "NOT_FOUND - home node 'rabbit@host' of durable queue 'transactions.batch' in vhost '/' is down or inaccessible";

    fn protocol(kind: impl Into<AMQPErrorKind>, text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(kind.into(), text.into())).into()
    }

    #[test]
    fn permanent_failures_are_classified() {
        let cases = [
            (protocol(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - Login was refused"), FailureKind::Refused),
            (protocol(AMQPHardError::NOTALLOWED, "NOT_ALLOWED - vhost x not found"), FailureKind::NoVirtualHost),
            (protocol(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg"), FailureKind::DeclaredOtherwise),
            (protocol(AMQPSoftError::NOTFOUND, "NOT_FOUND - no queue 'x' in vhost '/'"), FailureKind::Missing),
            (protocol(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'x' in vhost '/'"), FailureKind::Missing),
            // As RabbitMQ 3.10 replies while another program declares the same queue.
            (protocol(AMQPSoftError::NOTFOUND, HOME_NODE_DOWN), FailureKind::Transient),
            (
                protocol(
                    AMQPSoftError::NOTFOUND,
                    "NOT_FOUND - failed to perform operation on queue 'x' in vhost '/' due to timeout",
                ),
                FailureKind::Transient,
            ),
            (protocol(AMQPHardError::CONNECTIONFORCED, "shutdown"), FailureKind::Transient),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), FailureKind::Transient),
        ];
        for (error, expected) in cases {
            assert_eq!(classify(&error), expected, "{error}");
        }
    }

    #[test]
    fn unreadable_data_is_recognised() {
        assert!(is_unreadable(&protocol(AMQPHardError::FRAMEERROR, "frame too large: 140000 bytes")));
        assert!(!is_unreadable(&protocol(AMQPHardError::CONNECTIONFORCED, "shutdown")));
        assert!(!is_unreadable(&io::Error::from(io::ErrorKind::ConnectionReset).into()));
    }

    #[test]
    fn the_size_of_a_refused_message_is_found() {
        let text = "PRECONDITION_FAILED - message size 2097152 is larger than configured max size 1048576";
        assert_eq!(oversized(&protocol(AMQPSoftError::PRECONDITIONFAILED, text)), Some(2_097_152));
        assert_eq!(oversized(&protocol(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg")), None);
    }
}
