//! What is known of the ML API, for readiness and for people.

use std::time::SystemTime;

/// Whether the ML API can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiState {
    /// As far as is known, it can.
    Ready,
    /// It is away, overloaded, or fails on everything; it is asked again until it is well.
    Unavailable {
        /// When that was seen first.
        since: SystemTime,
        /// What was seen.
        reason: String,
    },
    /// It refuses everything; somebody has to change a setting, here or there.
    Misconfigured {
        /// What was seen.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

impl ApiState {
    /// Whether work can go on.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}
