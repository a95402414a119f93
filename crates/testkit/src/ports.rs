//! Ports of loopback that no other test gets: one to listen on, and one that refuses connections.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

/// Returns a free port below the ephemeral range: in that range, a reconnecting client could get the very port of the server
/// that it waits for.
///
/// No other test gets it while this process lives, in no process: the UDP port of the same number is its lock.
pub fn free_port() -> u16 {
    static LOCKS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let any = || 20_000 + u16::try_from(uuid::Uuid::new_v4().as_u64_pair().0 % 12_000).expect("less than 12,000");
    (0..100)
        .map(|_| any())
        .find(|port| {
            let Ok(lock) = UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)) else { return false };
            let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
            if is_free {
                LOCKS.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            }
            is_free
        })
        .expect("a free port between 20000 and 32000 on 127.0.0.1")
}

/// A port that refuses connections while this value lives: it is bound, so that no other test gets it, and has no listener.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

impl ClosedPort {
    /// Binds a port.
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

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = (0..300).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 300);
    }

    #[tokio::test]
    async fn a_closed_port_refuses_connections() {
        let closed = ClosedPort::new();
        let refused = tokio::net::TcpStream::connect(closed.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
