//! Logs an outage once for all connections of a process, as it begins and as it ends.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

/// Logs an outage once for all connections.
#[derive(Default)]
pub(super) struct Outage(Mutex<Option<(u32, Instant)>>);

impl Outage {
    pub(super) fn began(&self, server: &str, cause: &str) {
        let mut down = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((connections, _)) = &mut *down {
            *connections += 1;
        } else {
            *down = Some((1, Instant::now()));
            warn!("lost the connection to RabbitMQ at {server} ({cause}); reconnecting");
        }
    }

    pub(super) fn ended(&self, server: &str) {
        let mut down = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((connections, since)) = &mut *down else { return };
        *connections -= 1;
        if *connections == 0 {
            info!("reconnected to RabbitMQ at {server} after {:.1} s", since.elapsed().as_secs_f64());
            *down = None;
        }
    }
}
