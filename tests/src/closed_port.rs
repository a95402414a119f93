//! An address where no process listens, or ever will.

use tokio::net::TcpSocket;

/// A port of loopback that refuses connections for as long as this lives: it is bound, so that no other test is given it,
/// and no process listens on it.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

impl ClosedPort {
    /// Takes a port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self(socket)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.0.local_addr().expect("a bound socket").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses() {
        let closed = ClosedPort::new();
        let refused = tokio::net::TcpStream::connect(closed.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
