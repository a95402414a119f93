//! Whether a pooler stands in front of the server: it gives a new connection a session that is older than the connection.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::super::PostgresServer;
use crate::StoreError;

/// What stands between this program and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooler {
    None,
    /// Each connection keeps its session.
    OfSessions,
    /// Connections share sessions.
    OfTransactions,
}

impl Pooler {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::None => "none, or one that opens a session for each connection",
            Self::OfSessions => "a pooler in session mode",
            Self::OfTransactions => "a pooler in transaction mode, which keeps prepared statements, as it must",
        }
    }
}

/// A session of the server: its process, since when, and the time there now, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    pid: i32,
    since_us: i64,
    now_us: i64,
}

const SESSION: &str = "
    SELECT pg_backend_pid(),
        (SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity WHERE pid = pg_backend_pid()),
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Compares the sessions of connections that were opened one after the other. Nothing stays prepared.
pub(super) async fn find(
    server: &PostgresServer,
    first: &mut PgConnection,
    limit: Duration,
) -> Result<Pooler, StoreError> {
    let asked = session(first).await?;
    // While the first one is open, and once a connection has left its session behind.
    let mut second = server.connect_once(limit).await?;
    let beside = session(&mut second).await?;
    let _ = second.close().await;
    let mut third = server.connect_once(limit).await?;
    let after = session(&mut third).await?;
    let _ = third.close().await;
    Ok(judge(asked, beside, after))
}

async fn session(connection: &mut PgConnection) -> Result<Session, StoreError> {
    let (pid, since_us, now_us) = sqlx::query_as(SESSION).persistent(false).fetch_one(connection).await?;
    Ok(Session { pid, since_us, now_us })
}

fn judge(first: Session, beside: Session, after: Session) -> Pooler {
    if beside.pid == first.pid {
        Pooler::OfTransactions
    } else if beside.since_us < first.now_us || after.since_us < beside.now_us {
        Pooler::OfSessions
    } else {
        Pooler::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooler_shows_by_the_age_of_sessions() {
        let session = |pid, since_us, now_us| Session { pid, since_us, now_us };
        let first = session(1, 100, 200);
        let cases = [
            (session(2, 300, 400), session(3, 500, 600), Pooler::None),
            (session(1, 100, 400), session(1, 100, 600), Pooler::OfTransactions),
            (session(2, 300, 400), session(2, 300, 600), Pooler::OfSessions),
            (session(2, 50, 400), session(3, 500, 600), Pooler::OfSessions),
        ];
        for (beside, after, expected) in cases {
            assert_eq!(judge(first, beside, after), expected);
        }
    }
}
